# cython: annotation_typing=False
"""The queue of a pool: exchanges that wait for a server, in order, each until a moment."""

from __future__ import annotations

from collections import deque
from typing import Protocol

from vsproxy.timers import NEVER
from vsproxy.upstream.server import Server


class Waiting(Protocol):
    """An exchange in the queue."""

    key: int
    tried: list[Server] | None

    def on_server(self, server: Server) -> None:
        """A server is free: the wait is over."""

    def on_no_server(self, reason: str) -> None:
        """The wait was in vain: `queue_timeout` or `no_server`."""


class WaitingLine:
    """`size` wait. Moments are in seconds of `time.monotonic()`, and never before that of whoever joined earlier."""

    __slots__ = ("_items", "size")

    def __init__(self) -> None:
        self._items: deque[tuple[Waiting, float]] = deque()
        self.size = 0

    def join(self, exchange: Waiting, until: float) -> None:
        """Wait behind all others, until the moment `until`."""
        self._items.append((exchange, until))
        self.size += 1

    def leave(self, exchange: Waiting) -> None:
        """A client that waits no longer."""
        self._items = deque([item for item in self._items if item[0] is not exchange])
        self.size = len(self._items)

    def first(self) -> Waiting:
        """Who has waited longest; there has to be somebody."""
        return self._items[0][0]

    def next(self) -> Waiting:
        """Take the first out of the line."""
        self.size -= 1
        return self._items.popleft()[0]

    def until(self) -> float:
        """When the first will have waited too long; `NEVER` if nobody waits."""
        return self._items[0][1] if self._items else NEVER

    def take_overdue(self, now: float) -> Waiting | None:
        """Take out the first who has waited too long; None: nobody has."""
        return self.next() if self._items and self._items[0][1] <= now else None
