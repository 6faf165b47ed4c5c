# cython: annotation_typing=False
"""One coarse sweep over everything that can time out, instead of a timer handle per exchange.

A `Timed` object carries its own `deadline`; moving it is one attribute store. Ten times a second the
`Sweep` walks all members and calls `on_deadline` on those that are due, so a deadline is honoured
within `SWEEP_INTERVAL` seconds and never early.
"""

from __future__ import annotations

import asyncio
import logging
import time

SWEEP_INTERVAL = 0.1
#: A walk that comes so much later (s) than the last one follows a pause of the whole process. What peers have sent
#: meanwhile has still to be read, so they are judged in the next walk.
PAUSE = 1.0
_PAUSE = PAUSE
NEVER = float("inf")

logger = logging.getLogger("vsproxy.timers")


class Timed:
    """Something with a deadline. `deadline` is in seconds of `time.monotonic()`, `NEVER` for none."""

    __slots__ = ("deadline", "sweep_index")

    deadline: float
    sweep_index: int

    def __init__(self) -> None:
        self.deadline = NEVER
        self.sweep_index = -1

    def on_deadline(self, now: float) -> None:
        """Called by the sweep once `deadline` has passed; moves or clears the deadline."""
        raise NotImplementedError


class Sweep:
    """Walks its members every `SWEEP_INTERVAL` seconds. `now` is the time of the last walk."""

    __slots__ = ("_handle", "_loop", "_members", "now")

    now: float
    _members: list[Timed]
    _loop: asyncio.AbstractEventLoop
    _handle: asyncio.TimerHandle | None

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.now = time.monotonic()
        self._members = []
        self._loop = loop
        self._handle = None

    def start(self) -> None:
        """Begin to walk; `stop` ends it."""
        self.tick()

    def stop(self) -> None:
        """Cancel the next walk. Members stay, and stay without effect."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def add(self, member: Timed) -> None:
        """Watch `member` until `remove`; adding a member twice has no effect."""
        if member.sweep_index < 0:
            member.sweep_index = len(self._members)
            self._members.append(member)

    def remove(self, member: Timed) -> None:
        """Forget `member`; removing one that is not watched has no effect."""
        index = member.sweep_index
        if index < 0:
            return
        last = self._members.pop()
        if last is not member:
            self._members[index] = last
            last.sweep_index = index
        member.sweep_index = -1

    def tick(self) -> None:
        """One walk. A member may remove itself or others from inside `on_deadline`."""
        now = time.monotonic()
        paused = now - self.now > _PAUSE
        self.now = now
        # First of all: everything that has a deadline depends on the next walk.
        self._handle = self._loop.call_later(SWEEP_INTERVAL, self.tick)
        if paused:
            return
        due = self.due(now)
        for member in due:
            # An earlier call of this walk may have removed it or moved its deadline.
            if member.sweep_index >= 0 and member.deadline <= now:
                try:
                    member.on_deadline(now)
                except Exception:
                    # Ours, and no reason to let the others wait.
                    logger.exception("a deadline of %r was not dealt with", member)

    def due(self, now: float) -> list[Timed]:
        """The members whose deadline is at or before `now`."""
        found: list[Timed] = []
        for member in self._members:
            if member.deadline <= now:
                found.append(member)
        return found
