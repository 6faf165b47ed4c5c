# cython: annotation_typing=False
"""Reading for tunnels without the loop: from socket to socket through one buffer, without an object per message.

All sources of a process are watched by one edge-triggered epoll, which the loop watches. A loop is told of a socket
again and again until it has been read, makes bytes of what it reads and calls for each; here a turn of the loop takes
all messages that are there. Only what is ordinary is done here: a source with anything else to say is handed back to
its transport, which reads again and finds out by itself.

A transport closes its descriptor after `connection_lost`: whoever is told of that removes it from here first.
"""

from __future__ import annotations

import asyncio
import logging
import select
from collections import deque

from vsproxy import sockets

#: Bytes that are received at once.
BUFFER_SIZE = 64 * 1024
#: How often a source that fills the buffer is read before it is another's turn.
MAX_MOVES = 4
_MAX_MOVES = MAX_MOVES
#: Sources that are found at once, and how often it is looked for some before it is the loop's turn: while messages
#: are passed on, others come, and to look costs less than a turn of the loop.
MAX_FOUND = 256
MAX_LOOKS = 4
_MAX_LOOKS = MAX_LOOKS

IS_AVAILABLE = hasattr(select, "epoll")
_READABLE = 1
if IS_AVAILABLE:
    assert select.EPOLLIN == _READABLE
    _EDGES = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET

logger = logging.getLogger("vsproxy.relay")


class Source:
    """A socket that is read here while it is `relayed`; its transport does not read meanwhile."""

    __slots__ = ("awaits_turn", "descriptor", "relayed")

    descriptor: int
    relayed: bool
    awaits_turn: bool

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.relayed = False
        self.awaits_turn = False

    def on_readable(self, buffer: bytearray) -> bool:
        """Read once, by way of `buffer`, and pass it on. True: more may be there."""
        raise NotImplementedError

    def on_unusual(self) -> None:
        """An end or an error is to be read: leave, and let the transport do it."""
        raise NotImplementedError

    def on_failure(self) -> None:
        """`on_readable` has raised something."""
        raise NotImplementedError


class Relay:
    """All sources of a loop."""

    __slots__ = ("_buffer", "_descriptor", "_epoll", "_found", "_loop", "_ready", "_scheduled", "_sources")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._buffer = bytearray()
        self._descriptor = -1
        self._epoll: select.epoll | None = None
        self._found = bytearray()
        self._loop = loop
        self._ready: deque[Source] = deque()
        self._scheduled = False
        # By descriptor.
        self._sources: list[Source | None] = []

    def add(self, source: Source) -> None:
        """Read `source` from now on. What has come already is found, too."""
        if self._epoll is None:
            self._buffer = bytearray(BUFFER_SIZE)
            self._epoll = select.epoll()
            self._found = bytearray(8 * MAX_FOUND)
            self._descriptor = self._epoll.fileno()
            self._loop.add_reader(self._descriptor, self.on_notice)
        self._epoll.register(source.descriptor, _EDGES)
        missing = source.descriptor + 1 - len(self._sources)
        if missing > 0:
            self._sources += [None] * missing
        self._sources[source.descriptor] = source
        source.relayed = True

    def remove(self, source: Source) -> None:
        """Read it no more; no effect if it is not read here."""
        if source.relayed:
            source.relayed = False
            self._sources[source.descriptor] = None
            if self._epoll is not None:
                self._epoll.unregister(source.descriptor)

    def close(self) -> None:
        """Watch nothing any more. Sources that are left stand still until they are removed."""
        if self._epoll is not None:
            self._loop.remove_reader(self._descriptor)
            self._epoll.close()
            self._epoll = None

    def on_notice(self) -> None:
        """Deal with all sources for which something has changed."""
        for _ in range(_MAX_LOOKS):
            if not self.look():
                return

    def look(self) -> int:
        """Deal with those for which something has changed until now; how many."""
        sources = self._sources
        found = self._found
        count = sockets.look(self._epoll, self._descriptor, found)  # type: ignore[arg-type]
        for index in range(0, 2 * count, 2):
            # An earlier one may have removed it.
            source = sources[sockets.found_at(found, index)]
            if source is None:
                continue
            if sockets.found_at(found, index + 1) == _READABLE:
                self.move(source)
            else:
                source.on_unusual()
        return count

    def move(self, source: Source) -> None:
        """Let `source` move what it has, or as much as is one's turn."""
        try:
            for _ in range(_MAX_MOVES):
                if not source.on_readable(self._buffer):
                    return
        except Exception:
            # Ours, and no reason to let the others wait: as a loop does with a protocol that fails.
            logger.exception("a relay has failed")
            source.on_failure()
            return
        # No notice comes for what is there already.
        if not source.awaits_turn:
            source.awaits_turn = True
            self._ready.append(source)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self.turn)

    def turn(self) -> None:
        """Go on with those who had more than their turn."""
        self._scheduled = False
        for _ in range(len(self._ready)):
            source = self._ready.popleft()
            source.awaits_turn = False
            if source.relayed:
                self.move(source)
