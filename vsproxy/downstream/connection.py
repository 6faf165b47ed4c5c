# cython: annotation_typing=False
"""The life of a client's connection, whatever is spoken on it: waits and deadlines, back-pressure, the end.

`wait` says what the connection waits for, and so what a passed deadline means. A client that we do not
read from, be it for back-pressure or after its FIN, is looked after by asking the kernel.
"""

from __future__ import annotations

import asyncio
import socket

from vsproxy.downstream.serving import ListenerSettings, Serving
from vsproxy.exchange import Exchange
from vsproxy.headers import Forwarding
from vsproxy.introduction import Introduction, Introductions
from vsproxy.listener_stats import ListenerStats
from vsproxy.resets import reset_on_close
from vsproxy.sender import Sender, new_sender
from vsproxy.splice import Splicer
from vsproxy.stream import Downstream
from vsproxy.timers import NEVER, Sweep
from vsproxy.unsent import unsent_bytes
from vsproxy.upstream.http1 import WRITE_HIGH
from vsproxy.upstream.server import Server
from vsproxy.wire.proxy_header import Ends

_NEVER = NEVER

# What a connection waits for.
IDLE, HEAD, BODY, RESPONSE, LINGER, TUNNEL = range(6)
_IDLE, _HEAD, _BODY, _RESPONSE, _LINGER, _TUNNEL = IDLE, HEAD, BODY, RESPONSE, LINGER, TUNNEL

#: After an answer that ends the connection, what still comes is dropped for this long (s), so that a
#: reset does not destroy the answer on its way.
LINGER_TIME = 5.0
_LINGER_TIME = LINGER_TIME
#: How often (s) the kernel is asked about a client that we do not read from.
WATCH_TIME = 0.5
_WATCH_TIME = WATCH_TIME
#: How long (s) a stopping proxy waits for a request that may be on its way: from a client that has just come,
#: and from one whose connection is idle, which would have to take a sudden close for a failure.
LAST_REQUEST_TIME = 0.5
_LAST_REQUEST_TIME = LAST_REQUEST_TIME
#: TCP_INFO's first byte when the connection is reset or gone.
TCP_CLOSE = 7


class ClientConnection(Downstream):
    """See the module. `stats` counts for the listener, `settings` are its limits and timeouts.

    `descriptor` is that of a plain connection whose transport need not be asked, or -1; `origin` is the
    packed address of its peer, or empty.
    """

    __slots__ = (
        "close_after",
        "descriptor",
        "end_of_stream",
        "ends",
        "exchange",
        "expects_more",
        "forwarding",
        "introductions",
        "limit",
        "origin",
        "pending",
        "reading_body",
        "reading_paused",
        "requests",
        "sender",
        "serving",
        "settings",
        "stats",
        "stopped",
        "sweep",
        "transport",
        "unsent",
        "wait",
        "writing_paused",
    )

    def prepare(
        self, serving: Serving, settings: ListenerSettings, stats: ListenerStats, descriptor: int, origin: bytes
    ) -> None:
        """Take the place of `__init__`, which cannot be reached without a way through Python."""
        self.descriptor = descriptor
        self.origin = origin
        #: What a PROXY header has said; None: the connection's own.
        self.ends: Ends | None = None
        self.introductions: Introductions | None = None
        self.sweep_index = -1
        self.splice = None
        self.serving = serving
        self.settings = settings
        self.stats = stats
        self.sweep: Sweep = serving.sweep
        self.transport: asyncio.Transport | None = None
        self.sender: Sender | None = None
        self.forwarding: Forwarding | None = None
        self.exchange: Exchange | None = None
        self.requests = 0
        self.expects_more = False
        self.wait = _HEAD
        self.limit = _NEVER
        self.deadline = _NEVER
        self.pending = b""
        self.close_after = False
        self.reading_body = False
        self.end_of_stream = False
        self.stopped = False
        self.reading_paused = False
        self.writing_paused = False
        self.unsent = 0

    # What the protocol spoken has to know

    def is_head_begun(self) -> bool:
        """Whether a part of a request's head is there."""
        raise NotImplementedError

    def advance(self, data: bytes) -> None:
        """Take bytes, or go on with those that wait."""
        raise NotImplementedError

    def refuse(self, status: int, reason: str) -> None:
        """Answer a bad request, if nothing was answered yet, and close."""
        raise NotImplementedError

    # Protocol interface

    def connection_made(self, transport: asyncio.Transport) -> None:
        """asyncio: a client has connected."""
        self.transport = transport
        self.sender = new_sender(transport, self.descriptor)
        transport.set_write_buffer_limits(high=WRITE_HIGH)
        settings = self.settings
        self.forwarding = settings.forwarding_for(self.origin, transport)
        self.stats.opened()
        self.serving.connected(self)
        self.set_wait(_HEAD, settings.header_timeout)
        self.sweep.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the client is gone."""
        self.sweep.remove(self)
        self.stopped = True
        if self.exchange is not None:
            self.exchange.on_client_gone()
            self.exchange = None
        if self.introductions is not None:
            self.introductions.end()
        self.stats.closed()
        self.serving.disconnected(self)

    def pause_writing(self) -> None:
        """asyncio: the client does not read as fast as we write."""
        self.writing_paused = True
        self.unsent = unsent_bytes(self.transport)  # type: ignore[arg-type]
        self.set_wait(self.wait, self.settings.send_timeout)
        if self.exchange is not None:
            self.exchange.on_downstream_full(True)

    def resume_writing(self) -> None:
        """asyncio: there is room again."""
        self.writing_paused = False
        if self.exchange is not None:
            if not self.reading_body:
                self.set_wait(self.wait, _NEVER)
            self.exchange.on_downstream_full(False)
        elif self.wait != _LINGER and not self.stopped:
            self.set_wait(_IDLE, self.settings.idle_timeout)
            if self.serving.draining:
                self.await_last_request()
            if self.pending:
                self.advance(b"")

    # Timed interface

    def on_deadline(self, now: float) -> None:
        """A deadline has passed, or it is time to look after a client we do not read from."""
        if self.exchange is not None and self.is_broken():
            self.reset()
            return
        if now < self.limit:
            self.deadline = min(self.limit, now + _WATCH_TIME)
            return
        if self.writing_paused:
            unsent: int = unsent_bytes(self.transport)  # type: ignore[arg-type]
            if unsent != self.unsent:
                self.unsent = unsent
                self.set_wait(self.wait, self.settings.send_timeout)
                return
            self.reset()
        elif self.wait == _HEAD and (self.is_head_begun() or self.requests == 0):
            if self.is_head_begun():
                self.refuse(408, "header timeout")
            else:
                self.stop()
        elif self.wait == _BODY and not self.reading_paused:
            self.refuse(408, "body timeout")
        elif self.wait == _BODY:
            self.set_wait(_BODY, self.settings.body_timeout)
        elif self.wait == _LINGER and self.stopped:
            self.reset()
        else:
            self.stop()

    def set_wait(self, wait: int, seconds: float) -> None:
        """Wait for `wait`, for at most `seconds`."""
        self.wait = wait
        self.limit = self.sweep.now + seconds
        self.deadline = self.limit
        if self.exchange is not None and (self.end_of_stream or self.reading_paused):
            self.deadline = min(self.limit, self.sweep.now + _WATCH_TIME)

    def is_broken(self) -> bool:
        """Whether the kernel knows of a reset that the loop does not report, because we do not read."""
        if not (self.end_of_stream or self.reading_paused):
            return False
        sock = self.transport.get_extra_info("socket")  # type: ignore[union-attr]
        if sock is None or sock.family == socket.AF_UNIX:
            return False
        try:
            info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
        except OSError:
            return True
        return bool(info[0] == TCP_CLOSE)

    # Reading and writing

    def pause_reading(self) -> None:
        """The server's side has no room: read no more of the body."""
        self.hold_reading(True)

    def resume_reading(self) -> None:
        """There is room again."""
        self.hold_reading(False)

    def splicing(self) -> tuple[Splicer, asyncio.Transport] | None:
        """Who may move body bytes in the kernel: nobody through TLS, or once the connection ends."""
        splicer = self.serving.splicer
        if splicer is None or self.transport is None or self.settings.secure or self.stopped:
            return None
        return splicer, self.transport

    def introduction(self, version: str) -> Introduction | None:
        """Downstream: what servers are told of this connection."""
        if self.introductions is None:
            self.introductions = Introductions(self.ends)
        return self.introductions.of(version, self.transport)  # type: ignore[arg-type]

    def hold_reading(self, hold: bool) -> None:
        """The exchange asks for (no) more of the body."""
        transport = self.transport
        if transport is None or self.stopped or hold == self.reading_paused:
            return
        self.reading_paused = hold
        if transport.is_closing():
            return
        if hold:
            transport.pause_reading()
        elif self.splice is None:
            transport.resume_reading()
        else:
            self.splice.kick()
        seconds = self.settings.body_timeout if self.reading_body else self.limit - self.sweep.now
        self.set_wait(self.wait, seconds)

    def set_reading(self) -> None:
        """Read unless a pipelined request waits already. During a body, the exchange has the say."""
        if self.exchange is None or not self.reading_body:
            self.hold_reading(len(self.pending) > 0)

    def write(self, data: bytes) -> None:
        """Write, unless the connection is going down."""
        if not self.stopped:
            self.sender.write(data)  # type: ignore[union-attr]

    # The end

    def linger(self) -> None:
        """Close after the answer: our side ends at once, what still comes is dropped for a while."""
        self.exchange = None
        more = (
            self.expects_more
            or self.reading_body
            or len(self.pending) > 0
            or self.wait == _HEAD
            or self.wait == _BODY
        )
        self.pending = b""
        self.reading_body = False
        transport = self.transport
        if self.stopped or transport is None:
            return
        if self.end_of_stream or not more:
            self.stop()
        elif transport.can_write_eof():
            self.set_wait(_LINGER, _LINGER_TIME)
            transport.write_eof()
        else:
            # TLS cannot half-close: give the answer a moment to arrive.
            self.set_wait(_LINGER, _LINGER_TIME / 5)
        self.set_reading()

    def stop(self) -> None:
        """Close after what is buffered was written."""
        self.stopped = True
        self.set_wait(_LINGER, self.settings.send_timeout)
        if self.transport is not None:
            self.transport.close()

    def reset(self) -> None:
        """Cut the connection with a reset."""
        self.stopped = True
        if self.transport is not None:
            reset_on_close(self.transport)
            self.transport.abort()

    def drain(self) -> None:
        """The proxy is stopping: an idle connection closes in a moment, a busy one is told with its response.

        One whose response has begun without that word gets the same moment at its end.
        """
        if self.wait == _LINGER or self.stopped:
            # It has had its last answer: what still comes is no request.
            return
        if self.exchange is None and not self.is_head_begun() and not self.reading_body:
            self.await_last_request()

    def await_last_request(self) -> None:
        """Wait a moment for a request, which will be answered with `Connection: close`."""
        wait = _HEAD if self.requests == 0 else _IDLE
        self.set_wait(wait, min(self.limit - self.sweep.now, _LAST_REQUEST_TIME))

    def on_server_down(self, server: Server) -> None:
        """A server was found to be bad: nobody is to wait for it."""
        if self.exchange is not None:
            self.exchange.on_server_down(server)

    def give_notice(self) -> None:
        """The time to finish is over: a tunnel's streams are closed, anything else is broken off."""
        exchange = self.exchange
        if exchange is not None and exchange.tunnel is not None:
            exchange.tunnel.shut()
        else:
            self.cut()

    def cut(self) -> None:
        """Break off whatever there is, at once."""
        exchange = self.exchange
        if exchange is not None and exchange.tunnel is not None:
            exchange.tunnel.cut()
        else:
            self.reset()
