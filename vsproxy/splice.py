"""Moving bytes from one socket to another inside the kernel: splice(2) through a pipe (Linux).

A `Splice` is one body on its way, a `Splicer` has all of a process. It watches their sockets with an epoll of its
own, edge-triggered: the loop does not let anybody watch the descriptor of a transport, and turning its notices on and
off would cost as much as the bytes. The loop watches that epoll. Once a body has shown that it is a long one, it is
only looked at every `LOOK_INTERVAL`: few large moves wake the peers less often than many small ones, and cost less.

A transport closes its descriptor after `connection_lost`: whoever is told of that stops the splice first.
"""

from __future__ import annotations

import asyncio
import logging
import os
import select
import socket
import sys
from collections import deque
from typing import Protocol

from vsproxy.pipes import Pipe, Pipes

#: With less than this (bytes) still to come, copying is as cheap.
MIN_REST = 1024 * 1024
#: Bytes that a splice may move before it is another's turn, and all of them before it is the loop's.
MAX_MOVE = 1024 * 1024
MAX_TURN = 2 * 1024 * 1024
#: Pipes in use at once. They hold up to 24 MiB together, of memory that the kernel cannot swap.
MAX_PIPES = 64
#: With no more descriptors than this there are no pipes; of more, they get a sixteenth.
SCARCE = 512
#: Seconds between two looks at long bodies, while they move; those that have not moved so many bytes yet are moved as
#: soon as they can be: the kernel's buffers are still small, and the body may be, too.
LOOK_INTERVAL = 0.001
YOUNG = 16 * 1024 * 1024

IS_LINUX = sys.platform.startswith("linux") and hasattr(os, "splice")
if IS_LINUX:
    _READABLE = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLERR | select.EPOLLHUP
    _WRITABLE = select.EPOLLOUT | select.EPOLLERR | select.EPOLLHUP
    _EDGES = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLOUT | select.EPOLLET
    _FLAGS = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK

logger = logging.getLogger("vsproxy.splice")

# How far a move came
_READY, _EMPTY, _FULL, _ENDED, _SOURCE_BROKEN, _SINK_BROKEN = range(6)


class Sink(Protocol):
    """The side a body goes to; it is told what its transport would tell it."""

    writing_paused: bool

    def pause_writing(self) -> None:
        """The peer does not read as fast as we write."""

    def resume_writing(self) -> None:
        """There is room again."""


class Splice:
    """`rest` bytes still to come from a socket, to be written to that of `sink`. `held` of them are in the pipe,
    `moved` is what has come so far.

    A subclass says, by `on_moved` and `on_over`, whom that concerns.
    """

    __slots__ = (
        "_draining",
        "_pipe",
        "_pushed",
        "held",
        "moved",
        "over",
        "queued",
        "reader",
        "rest",
        "sink",
        "sink_transport",
        "source_transport",
        "splicer",
        "writer",
    )

    def __init__(
        self,
        splicer: Splicer,
        source_transport: asyncio.Transport,
        sink: Sink,
        sink_transport: asyncio.Transport,
        rest: int,
    ) -> None:
        self.splicer = splicer
        self.source_transport = source_transport
        self.sink = sink
        self.sink_transport = sink_transport
        self.rest = rest
        self.held = 0
        self.moved = 0
        self.over = False
        self.queued = False
        self.reader: int = source_transport.get_extra_info("socket").fileno()
        self.writer: int = sink_transport.get_extra_info("socket").fileno()
        self._pipe: Pipe
        self._pushed = False
        self._draining = False

    def on_moved(self, count: int) -> None:
        """`count` bytes have left the source."""
        raise NotImplementedError

    def on_over(self, complete: bool) -> None:
        """It has ended, and the source's transport may read again. `complete`: nothing is left of the body."""
        raise NotImplementedError

    def begin(self, pipe: Pipe) -> None:
        """Go: what the sink's transport has not written yet comes first."""
        self._pipe = pipe
        self.source_transport.pause_reading()
        if self.sink_transport.get_write_buffer_size():
            self._draining = True
            # From now on it says `resume_writing` only when it has written everything.
            self.sink_transport.set_write_buffer_limits(high=0, low=0)
        else:
            self.kick()

    def kick(self) -> None:
        """Look whether there is something to do."""
        self.splicer.queue(self)

    def stop(self) -> None:
        """End it where it is; no effect if it is over."""
        if not self.over:
            self._end(False)

    def move(self, most: int) -> int:
        """Move bytes until a side is not ready or `most` came; how many came. `queued`: there is more to do."""
        if self._draining and not self._is_drained():
            self.queued = False
            return 0
        came = 0
        self._pushed = False
        state = _READY
        while state == _READY:
            if self.held:
                state = self._push()
            elif not self.rest or came >= most:
                break
            else:
                state = self._pull()
                came += self.held
        if came:
            self.moved += came
            self.on_moved(came)
        # A sink is told of progress, too: its timeout begins anew.
        if state == _FULL and (self._pushed or not self.sink.writing_paused):
            self.sink.pause_writing()
        self.queued = state == _READY and self.rest > 0
        if state == _READY and not self.rest:
            self._end(True)
        elif state >= _ENDED:
            self._break(state)
        return came

    def _pull(self) -> int:
        """Fill the empty pipe."""
        try:
            self.held = os.splice(self.reader, self._pipe.writer, min(self.rest, self._pipe.size), flags=_FLAGS)
        except BlockingIOError:
            return _EMPTY
        except InterruptedError:
            return _READY
        except OSError:
            return _SOURCE_BROKEN
        self.rest -= self.held
        return _READY if self.held else _ENDED

    def _push(self) -> int:
        """Empty the pipe as far as the sink takes it."""
        try:
            count = os.splice(self._pipe.reader, self.writer, self.held, flags=_FLAGS)
        except BlockingIOError:
            return _FULL
        except InterruptedError:
            return _READY
        except OSError:
            return _SINK_BROKEN
        self.held -= count
        self._pushed = True
        if not self.held and self.sink.writing_paused:
            self.sink.resume_writing()
        return _READY

    def _is_drained(self) -> bool:
        if self.sink_transport.get_write_buffer_size():
            return False
        self._restore_limits()
        return True

    def _restore_limits(self) -> None:
        self._draining = False
        if not self.sink_transport.is_closing():
            self.sink_transport.set_write_buffer_limits(high=self.splicer.write_high)

    def _break(self, state: int) -> None:
        """A socket is at its end. Its transport finds out by itself, or is told by a close that goes through it."""
        if state == _SOURCE_BROKEN:
            self.source_transport.abort()
        elif state == _SINK_BROKEN:
            self.sink_transport.abort()
        self._end(False)

    def _end(self, complete: bool) -> None:
        self.over = True
        self.splicer.remove(self)
        self.splicer.pipes.give_back(self._pipe, self.held == 0)
        if self._draining:
            self._restore_limits()
        self.on_over(complete)


class Splicer:
    """All splices of a loop, with at most `limit` pipes. `write_high` is what transports get back as their limit."""

    __slots__ = (
        "_epoll",
        "_look_again",
        "_loop",
        "_ready",
        "_scheduled",
        "_sinks",
        "_sources",
        "pipes",
        "write_high",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, limit: int, write_high: int) -> None:
        self.pipes = Pipes(limit)
        self.write_high = write_high
        self._loop = loop
        self._epoll: select.epoll | None = None
        self._look_again: asyncio.TimerHandle | None = None
        self._sources: dict[int, Splice] = {}
        self._sinks: dict[int, Splice] = {}
        self._ready: deque[Splice] = deque()
        self._scheduled = False

    def start(self, splice: Splice) -> bool:
        """Begin `splice`; False if there is no pipe for it now, or a side is closing, and nothing has changed."""
        if splice.source_transport.is_closing() or splice.sink_transport.is_closing():
            return False
        pipe = self.pipes.take()
        if pipe is None:
            return False
        self._watch(splice.reader)
        self._sources[splice.reader] = splice
        self._watch(splice.writer)
        self._sinks[splice.writer] = splice
        splice.begin(pipe)
        return True

    def remove(self, splice: Splice) -> None:
        """Watch its sockets no more."""
        del self._sources[splice.reader]
        self._unwatch(splice.reader)
        del self._sinks[splice.writer]
        self._unwatch(splice.writer)

    def queue(self, splice: Splice) -> None:
        """Let `splice` move in a moment."""
        if splice.queued or splice.over:
            return
        splice.queued = True
        self._ready.append(splice)
        self._schedule()

    def close(self) -> None:
        """Close what is kept for later. What is still on its way has to be stopped, and stands still meanwhile."""
        self.pipes.close()
        if self._epoll is not None:
            if self._look_again is not None:
                self._look_again.cancel()
            else:
                self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._epoll = None

    def _watch(self, descriptor: int) -> None:
        # An exchange that goes both ways has each of its sockets in both tables.
        if self._epoll is None:
            self._epoll = select.epoll()
            self._loop.add_reader(self._epoll.fileno(), self._on_notice)
        if descriptor not in self._sources and descriptor not in self._sinks:
            self._epoll.register(descriptor, _EDGES)

    def _unwatch(self, descriptor: int) -> None:
        if self._epoll is not None and descriptor not in self._sources and descriptor not in self._sinks:
            self._epoll.unregister(descriptor)

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def _on_notice(self) -> None:
        assert self._epoll is not None
        if self._look():
            self._loop.remove_reader(self._epoll.fileno())
            self._look_again = self._loop.call_later(LOOK_INTERVAL, self._on_interval)

    def _on_interval(self) -> None:
        assert self._epoll is not None
        self._look_again = None
        if self._look():
            self._look_again = self._loop.call_later(LOOK_INTERVAL, self._on_interval)
        else:
            self._loop.add_reader(self._epoll.fileno(), self._on_notice)

    def _look(self) -> bool:
        """Queue those for whom something has changed. Whether that were some, and none of them is young."""
        assert self._epoll is not None
        found = self._epoll.poll(0)
        youngest = YOUNG
        for descriptor, mask in found:
            splice = self._sources.get(descriptor)
            if splice is not None and not splice.held and mask & _READABLE:
                self.queue(splice)
                youngest = min(youngest, splice.moved)
            splice = self._sinks.get(descriptor)
            if splice is not None and splice.held and mask & _WRITABLE:
                self.queue(splice)
                youngest = min(youngest, splice.moved)
        return len(found) > 0 and youngest >= YOUNG

    def _turn(self) -> None:
        """Let each move in its turn, and the rest of the loop after `MAX_TURN` bytes."""
        ready = self._ready
        left = MAX_TURN
        try:
            while ready and left > 0:
                splice = ready.popleft()
                if splice.over:
                    continue
                try:
                    left -= splice.move(min(MAX_MOVE, left))
                except Exception:
                    # Ours, and no reason to let the others wait: as a loop does with a protocol that fails.
                    logger.exception("a splice has failed")
                    splice.queued = False
                    splice.source_transport.abort()
                    splice.sink_transport.abort()
                if splice.queued:
                    ready.append(splice)
        finally:
            self._scheduled = False
            if ready:
                self._schedule()


def pipes_for(descriptors: int) -> int:
    """How many pipes a process may use that may open so many descriptors. Where they are scarce, clients need them."""
    return max(0, min(MAX_PIPES, (descriptors - SCARCE) // 32))


def is_available() -> bool:
    """Whether this system can do it: not all that look like Linux can, and a sandbox may forbid it."""
    if not IS_LINUX:
        return False
    left, right = socket.socketpair()
    try:
        pipe = Pipe()
    except OSError:
        left.close()
        right.close()
        return False
    try:
        right.send(b"x")
        count = os.splice(left.fileno(), pipe.writer, 1, flags=_FLAGS)
        return os.splice(pipe.reader, left.fileno(), count, flags=_FLAGS) == 1
    except OSError:
        return False
    finally:
        pipe.close()
        left.close()
        right.close()
