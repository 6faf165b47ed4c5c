"""How many clients may be connected, so that descriptors never run out.

libuv answers EMFILE by accepting and closing clients, so accepting has to stop before: each exchange may
need two descriptors, the client's and the server's.
"""

from __future__ import annotations

import resource
from collections.abc import Callable

#: Descriptors left for listeners, logs, the admin port, checks and idle connections.
RESERVE = 64
#: Accepting resumes when this share of the cap is in use.
RESUME_SHARE = 0.95


class Descriptors:
    """A budget of client connections, shared by all listeners of a process."""

    def __init__(self, cap: int) -> None:
        self.cap = cap
        self.used = 0
        self._waiting: list[Callable[[], None]] = []

    @classmethod
    def from_limit(cls) -> Descriptors:
        """From the soft limit of open files: half of it, less a reserve."""
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft == resource.RLIM_INFINITY:
            soft = 1 << 20
        return cls(max(8, (soft - min(RESERVE, soft // 4)) // 2))

    @property
    def exhausted(self) -> bool:
        """Whether no further client may be accepted."""
        return self.used >= self.cap

    def take(self) -> None:
        """A client was accepted."""
        self.used += 1

    def release(self) -> None:
        """A client has gone: wake who waits for room."""
        self.used -= 1
        if self._waiting and self.used <= self.cap * RESUME_SHARE:
            waiting, self._waiting = self._waiting, []
            for wake in waiting:
                wake()

    def when_there_is_room(self, wake: Callable[[], None]) -> None:
        """Call `wake` once clients have gone."""
        self._waiting.append(wake)
