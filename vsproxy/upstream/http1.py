# cython: annotation_typing=False
"""One HTTP/1.1 connection to a server: sends a request as it is given, reads the response strictly.

The same object is the asyncio protocol and the `Upstream` of whatever exchange uses it at the time.
It has no base class of asyncio's: uvloop and asyncio call the protocol methods by name.
"""

from __future__ import annotations

import asyncio
import os

from vsproxy.errors import BadMessage
from vsproxy.resets import reset_on_close
from vsproxy.sender import Sender
from vsproxy.splice import MIN_REST
from vsproxy.stream import ExchangeEvents, Upstream
from vsproxy.timers import NEVER, Sweep
from vsproxy.unsent import unsent_bytes
from vsproxy.upstream.early_answer import duplicate, read_answer
from vsproxy.upstream.server import Server
from vsproxy.upstream.tls import ClientTls
from vsproxy.wire.body import BodyReader, chunk_end, chunk_start
from vsproxy.wire.message import BODY_UNTIL_CLOSE, RequestHead, ResponseHead
from vsproxy.wire.response import ResponseParser, response_body_mode

_BODY_UNTIL_CLOSE = BODY_UNTIL_CLOSE
_MIN_REST = MIN_REST
_NEVER = NEVER

#: Bytes that may wait in a transport before the other side's reading is paused.
WRITE_HIGH = 128 * 1024
#: A response may be announced by this many 1xx heads; more is a server gone wrong.
MAX_INTERIM = 1000
_MAX_INTERIM = MAX_INTERIM
#: From this body size on an early answer may get lost behind a failing write, so a duplicate is kept.
RESCUE_SIZE = 64 * 1024
_RESCUE_SIZE = RESCUE_SIZE


class UpstreamConnection(Upstream):
    """A connection to `server`, used by one exchange at a time, idle in `server.idle` in between.

    `read_timeout` and `send_timeout` are idle timeouts in seconds; they are taken anew from the pool for
    each exchange.
    """

    __slots__ = (
        "asked_upgrade",
        "body",
        "chunked",
        "created",
        "end_of_stream",
        "events",
        "has_head",
        "idle_since",
        "interims",
        "leftover",
        "lost",
        "method",
        "parser",
        "read_timeout",
        "reading_paused",
        "requests",
        "rescue",
        "response_started",
        "reusable",
        "send_timeout",
        "sender",
        "sent_end",
        "server",
        "sweep",
        "tls",
        "transport",
        "unsent",
        "writing_paused",
    )

    def __init__(self, server: Server, sweep: Sweep, tls: ClientTls | None = None) -> None:
        super().__init__()
        # Per connection
        self.server = server
        self.sweep = sweep
        self.tls = tls
        self.transport: asyncio.Transport | None = None
        self.sender: Sender | None = None
        self.parser = ResponseParser()
        self.body = BodyReader(502)
        self.created = sweep.now
        self.requests = 0
        self.idle_since = 0.0
        self.lost = False
        self.reading_paused = False
        self.writing_paused = False
        self.read_timeout = 60.0
        self.send_timeout = 60.0

        # Per exchange
        self.events: ExchangeEvents | None = None
        self.method = b""
        self.chunked = False
        self.asked_upgrade = False
        self.sent_end = False
        self.has_head = False
        self.response_started = False
        self.reusable = False
        self.end_of_stream = False
        self.interims = 0
        self.leftover = b""
        self.rescue = -1
        self.unsent = 0

    # Protocol interface

    def connection_made(self, transport: asyncio.Transport) -> None:
        """asyncio: the connection stands."""
        self.transport = transport
        self.sender = Sender(transport)
        transport.set_write_buffer_limits(high=WRITE_HIGH)
        self.sweep.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the connection is gone, by whichever side."""
        self.lost = True
        self.sweep.remove(self)
        if self.events is None:
            self.closed_while_idle()
        elif not self.end_of_stream:
            read_answer(self.rescue, self, self if self.tls is None else self.transport)
        self.close_rescue()
        if self.events is not None:
            self.fail("reset")

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes of a response."""
        if self.events is None:
            # Nobody asked: whatever it is, it may not become the answer to the next request.
            self.closed_while_idle()
            self.close()
            return
        self.response_started = True
        self.deadline = self.sweep.now + self.read_timeout
        try:
            self.read(data)
        except BadMessage:
            self.fail("bad_response")

    def eof_received(self) -> bool:
        """asyncio: the server ended its side. A body that only the close delimits is complete now."""
        self.end_of_stream = True
        if self.events is None:
            self.closed_while_idle()
        elif self.has_head and self.body.eof():
            self.complete(b"")
        else:
            self.fail("reset")
        return False

    def pause_writing(self) -> None:
        """asyncio: the write buffer is above its limit."""
        self.writing_paused = True
        if self.events is not None:
            self.deadline = self.sweep.now + self.send_timeout
            self.unsent = unsent_bytes(self.transport)  # type: ignore[arg-type]
            self.events.on_upstream_full(True)

    def resume_writing(self) -> None:
        """asyncio: the write buffer has drained."""
        self.writing_paused = False
        if self.events is not None:
            self.deadline = self.sweep.now + self.read_timeout if self.sent_end else _NEVER
            self.events.on_upstream_full(False)

    # Upstream interface

    def begin(self, events: ExchangeEvents, read_timeout: float, send_timeout: float) -> None:
        """Take this connection for an exchange. Nothing is sent yet."""
        self.events = events
        self.read_timeout = read_timeout
        self.send_timeout = send_timeout
        self.requests += 1
        self.asked_upgrade = False
        self.sent_end = False
        self.has_head = False
        self.response_started = False
        self.interims = 0
        self.leftover = b""
        self.deadline = self.sweep.now + read_timeout

    def send_head(self, head: RequestHead, lines: bytes, whole: bool) -> None:
        """Send the request's head; its body follows, framed as `head` says, unless this is the `whole` request."""
        self.note_head(head, whole)
        self.write(lines)

    def note_head(self, head: RequestHead, whole: bool) -> None:
        """See `send_head`."""
        self.method = head.method
        self.chunked = head.chunked
        self.asked_upgrade = len(head.upgrade) > 0
        if not whole and (head.chunked or head.content_length >= _RESCUE_SIZE):
            self.rescue = duplicate(self.transport)  # type: ignore[arg-type]

    def send_first(self, head: RequestHead, lines: bytes, data: bytes, whole: bool, trailers: bytes) -> None:
        """Send the head together with what is there of the body; `whole`: it is all of it."""
        self.note_head(head, whole)
        tail = b""
        if head.chunked:
            lines += chunk_start(len(data))
            tail = chunk_end(whole, trailers)
        if not self.lost:
            self.sender.write_parts(lines, data, tail)  # type: ignore[union-attr]
        if whole:
            self.note_end()
        else:
            self.expect_nothing()

    def send_body(self, data: bytes) -> None:
        """Send body bytes, as one chunk if the request is chunked."""
        self.deadline = self.sweep.now + self.read_timeout
        if not self.chunked:
            self.write(data)
        elif not self.lost:
            self.sender.write_parts(chunk_start(len(data)), data, chunk_end(False, b""))  # type: ignore[union-attr]

    def send_end(self, trailers: bytes) -> None:
        """The request is complete."""
        self.note_end()
        if self.chunked:
            self.write(b"0\r\n" + trailers + b"\r\n")

    def note_end(self) -> None:
        """Nothing more is to be sent: now the server has its time to answer."""
        self.sent_end = True
        self.deadline = self.sweep.now + (self.send_timeout if self.writing_paused else self.read_timeout)

    def abort(self) -> None:
        """Cut the connection with a reset: the server must not take a truncated request for a whole one."""
        self.events = None
        self.close_rescue()
        if self.transport is not None and not self.lost:
            reset_on_close(self.transport)
            self.transport.abort()

    def close(self) -> None:
        """Close a connection that carries no exchange."""
        self.events = None
        self.close_rescue()
        if self.transport is not None and not self.lost:
            self.transport.close()

    def detach(self) -> None:
        """Give the transport away to a tunnel."""
        self.events = None
        self.close_rescue()
        self.sweep.remove(self)

    def pause_reading(self) -> None:
        """Read nothing more for now; the server's silence no longer counts against it."""
        if not self.reading_paused and not self.lost and self.transport is not None:
            self.reading_paused = True
            self.deadline = _NEVER
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on."""
        if self.reading_paused and not self.lost and self.transport is not None:
            self.reading_paused = False
            self.deadline = self.sweep.now + self.read_timeout
            if self.splice is None:
                self.transport.resume_reading()
            else:
                self.splice.kick()

    def expect_nothing(self) -> None:
        """The client is still sending: the server's silence is not its fault."""
        if not self.writing_paused:
            self.deadline = _NEVER

    # Timed interface

    def on_deadline(self, now: float) -> None:
        """Idle too long in keepalive, or silent for too long in an exchange."""
        if self.events is None:
            self.leave_idle()
            self.close()
            return
        if self.writing_paused and self.transport is not None:
            unsent = unsent_bytes(self.transport)
            if unsent != self.unsent:
                # A slow server is not a stalled one.
                self.unsent = unsent
                self.deadline = now + self.send_timeout
                return
        self.fail("timeout")

    # Reading

    def read(self, data: bytes) -> None:
        """Hand the bytes on as heads and body. Raises `BadMessage` for what is not HTTP."""
        pos = 0
        while not self.has_head:
            head = self.parser.parse(data, pos)
            if head is None:
                return
            pos = self.parser.end
            if head.status == 101:
                self.switch(head, data[pos:])
                return
            if head.status < 200:
                self.interims += 1
                if self.interims > _MAX_INTERIM:
                    raise BadMessage(502, "too many interim responses")
                self.events.on_interim(head)  # type: ignore[union-attr]
                if self.events is None:
                    return
            else:
                self.read_head(head, pos < len(data))
                if self.events is None:
                    return
        self.read_body(data, pos)

    def read_head(self, head: ResponseHead, more: bool) -> None:
        """Take the final head."""
        mode = response_body_mode(head, self.method)
        self.has_head = True
        self.reusable = head.keep_alive and not self.asked_upgrade and mode != _BODY_UNTIL_CLOSE
        if head.keepalive_timeout >= 0.0:
            self.server.note_announced(head.keepalive_timeout)
        if head.promises_keep_alive:
            self.server.promised = True
        self.body.start(mode, head.content_length)
        self.events.on_response_head(head, more or self.body.done)  # type: ignore[union-attr]

    def read_body(self, data: bytes, pos: int) -> None:
        """Take body bytes from `pos` on."""
        if not self.body.done and pos < len(data):
            payload = self.body.feed(data, pos)
            pos = self.body.pos
            if payload:
                self.events.on_response_body(payload)  # type: ignore[union-attr]
                if self.events is None:
                    return
                if self.body.plain_rest() >= _MIN_REST:
                    self.events.on_response_rest()
        if self.body.done:
            if pos < len(data):
                self.reusable = False
            self.complete(self.body.trailers)

    def switch(self, head: ResponseHead, rest: bytes) -> None:
        """Take a 101: only one that was asked for is an answer at all."""
        if not self.asked_upgrade:
            raise BadMessage(502, "unasked 101")
        self.has_head = True
        self.reusable = False
        self.leftover = rest
        self.deadline = _NEVER
        self.events.on_response_head(head, False)  # type: ignore[union-attr]

    def complete(self, trailers: bytes) -> None:
        """The response is complete."""
        events = self.events
        self.events = None
        self.deadline = _NEVER
        self.close_rescue()
        if not self.sent_end or self.end_of_stream or self.writing_paused:
            self.reusable = False
        events.on_response_end(trailers)  # type: ignore[union-attr]

    def fail(self, kind: str) -> None:
        """Tell the exchange that nothing more will come, and cut the connection."""
        events = self.events
        self.abort()
        events.on_upstream_failed(kind)  # type: ignore[union-attr]

    def write(self, data: bytes) -> None:
        """Write, unless the connection is already going down: `connection_lost` will tell the exchange."""
        if not self.lost:
            self.sender.write(data)  # type: ignore[union-attr]

    def close_rescue(self) -> None:
        """Close the duplicate."""
        if self.rescue >= 0:
            os.close(self.rescue)
            self.rescue = -1

    def leave_idle(self) -> bool:
        """Leave the keepalive list; whether it was in it."""
        idle = self.server.idle
        if self not in idle:
            return False
        idle.remove(self)
        return True

    def closed_while_idle(self) -> None:
        """The server ended an idle connection: learn how long it keeps one."""
        if self.leave_idle():
            self.server.note_idle_close(self.sweep.now - self.idle_since)
