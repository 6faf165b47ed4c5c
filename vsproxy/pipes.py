"""Pipes for moving bytes inside the kernel: made when needed, kept for the next, never more than a bound."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence

#: Capacities to ask for, best first: the first for the first `STEP` pipes in use, the second for as many more, and so
#: on. Larger moves cost less, but a user without privileges may hold only 64 MiB in all pipes of all processes
#: (pipe-user-pages-soft), and is refused what is more with EPERM.
SIZES = (1024 * 1024, 512 * 1024, 256 * 1024)
STEP = 8
#: A pipe with less (which the kernel makes once a user has too many pages) is slower than copying.
MIN_SIZE = 64 * 1024
#: Empty pipes that are kept; more are closed. They count for the user, too.
MAX_IDLE = 4


class Pipe:
    """Two descriptors, not blocking. `size`: its capacity in bytes."""

    __slots__ = ("reader", "size", "writer")

    def __init__(self, sizes: Sequence[int] = SIZES) -> None:
        """Raises OSError if there is no descriptor left."""
        self.reader, self.writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.size = _grow(self.writer, sizes)

    def close(self) -> None:
        """Close both ends, and lose what is in between."""
        os.close(self.reader)
        os.close(self.writer)


def _grow(descriptor: int, sizes: Sequence[int]) -> int:
    """Ask for the first of `sizes` that may be had; the capacity then, in bytes."""
    for size in sizes:
        try:
            return fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, size)
        except OSError:
            # Too much for this user at present.
            continue
    return fcntl.fcntl(descriptor, fcntl.F_GETPIPE_SZ)


class Pipes:
    """At most `limit` pipes in use at once. What they hold is the kernel's memory, and not swapped."""

    __slots__ = ("_idle", "limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self._idle: list[Pipe] = []

    @property
    def idle(self) -> int:
        """How many are kept for the next."""
        return len(self._idle)

    def take(self) -> Pipe | None:
        """An empty pipe; None if all are in use, or if the kernel gives none that is worth it."""
        if self.used >= self.limit:
            return None
        if self._idle:
            pipe = self._idle.pop()
        else:
            try:
                pipe = Pipe(SIZES[min(self.used // STEP, len(SIZES) - 1) :])
            except OSError:
                # Out of descriptors: there are better uses for the next one.
                return None
            if pipe.size < MIN_SIZE:
                pipe.close()
                return None
        self.used += 1
        return pipe

    def give_back(self, pipe: Pipe, empty: bool) -> None:
        """`pipe` is no longer used. One that is not `empty` holds somebody's bytes, and is closed."""
        self.used -= 1
        # A smaller one was right for its moment only.
        if empty and pipe.size >= SIZES[0] and len(self._idle) < min(MAX_IDLE, self.limit):
            self._idle.append(pipe)
        else:
            pipe.close()

    def close(self) -> None:
        """Close those that are kept, give out no more, and close those in use when they come back."""
        self.limit = 0
        while self._idle:
            self._idle.pop().close()
