# cython: annotation_typing=False
"""File descriptors: how many there are, and how many of them clients may have.

A process that runs out does damage at random: libuv accepts and closes clients, connects to servers fail. So
clients get fewer than there are, and listeners stop accepting before the kernel says no.
"""

from __future__ import annotations

import resource
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

# Listening sockets, epoll, logs, admin, health checks, resolver: nothing of this grows with the clients.
RESERVE = 64
_NR_OPEN = Path("/proc/sys/fs/nr_open")


def current_limit() -> int:
    """How many descriptors this process may open: the soft limit, or the kernel's own if there is none."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _kernel_limit() if soft == resource.RLIM_INFINITY else soft


def raise_limit() -> int:
    """Raise the soft limit on open files to the hard one; returns the limit that now holds."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _kernel_limit() if hard == resource.RLIM_INFINITY else hard
    if current_limit() < wanted:
        # A sandbox may forbid the call; the old limit is still one that we can live with.
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return current_limit()


def low_mark(capacity: int) -> int:
    """Where accepting resumes after `capacity` was reached: a little below, so that it does not flutter."""
    return capacity - max(1, capacity // 16)


class Descriptors:
    """How many client connections the process may hold, over all its listeners.

    An exchange may need a second descriptor, for the server, so clients get half of `limit` less `reserve`.
    """

    __slots__ = ("_low", "_waiting", "capacity", "taken")

    def __init__(self, limit: int, reserve: int = RESERVE) -> None:
        self.capacity = max(1, (limit - reserve) // 2)
        self.taken = 0
        self._low = low_mark(self.capacity)
        self._waiting: list[Callable[[], None]] = []

    @property
    def full(self) -> bool:
        """Whether no more clients should be accepted."""
        return self.taken >= self.capacity

    @property
    def has_room(self) -> bool:
        """Whether accepting may resume after `full`."""
        return self.taken <= self._low

    def take(self) -> None:
        """A client was accepted. Never refuses: the caller looks at `full` before it accepts."""
        self.taken += 1

    def give_back(self) -> None:
        """A client is gone; calls whoever waits for room once there is some."""
        self.taken -= 1
        if self._waiting and self.has_room:
            for callback in tuple(self._waiting):
                callback()

    def wait_for_room(self, callback: Callable[[], None]) -> None:
        """Call `callback` whenever there is room, until `stop_waiting`."""
        if callback not in self._waiting:
            self._waiting.append(callback)

    def stop_waiting(self, callback: Callable[[], None]) -> None:
        """Forget `callback`; forgetting one that does not wait has no effect."""
        if callback in self._waiting:
            self._waiting.remove(callback)


def _kernel_limit() -> int:
    try:
        return int(_NR_OPEN.read_text())
    except (OSError, ValueError):
        return 1024 * 1024
