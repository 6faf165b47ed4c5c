# cython: annotation_typing=False
"""One stream of a client's HTTP/2 connection: the client's side of an exchange, and of a tunnel (RFC 8441).

Back-pressure is the credit of HTTP/2. The client gets none for bytes that the server has not taken; and a body that
the client gives no credit for waits in the session, up to `QUEUE_HIGH`, above which the exchange is told.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib

from vsproxy.downstream.http2_transport import StreamTransport
from vsproxy.downstream.serving import ListenerSettings
from vsproxy.exchange import Exchange
from vsproxy.relay import Relay
from vsproxy.splice import Splicer
from vsproxy.stream import Downstream, ExchangeEvents
from vsproxy.timers import NEVER, Sweep, Timed
from vsproxy.wire.http2 import CANCEL, INTERNAL_ERROR, NO_ERROR, Http2Session
from vsproxy.wire.http2_head import interim_fields, opened_fields, response_fields, trailer_fields
from vsproxy.wire.message import ResponseHead, field_value, make_response

_NEVER = NEVER
_NO_ERROR, _INTERNAL_ERROR, _CANCEL = NO_ERROR, INTERNAL_ERROR, CANCEL

#: Bytes of a body that may wait for the client's credit before the server's side is paused, and to which that has to
#: fall before it goes on.
QUEUE_HIGH, QUEUE_LOW = 128 * 1024, 32 * 1024
_QUEUE_HIGH, _QUEUE_LOW = QUEUE_HIGH, QUEUE_LOW
#: What a client may have under way on a stream at first, and at most, once it is seen that the server takes it.
FIRST_WINDOW, MOST_WINDOW = 64 * 1024, 4 * 1024 * 1024
_FIRST_WINDOW, _MOST_WINDOW = FIRST_WINDOW, MOST_WINDOW
_WEBSOCKET = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class StreamOwner(Timed):
    """The connection of a stream, as far as the stream knows it.

    `spare_window` are bytes by which the windows of its streams may still grow, together. `full` and `ending` are
    streams that wait for what they have queued to leave: to go on, or to be closed.
    """

    __slots__ = ("ending", "full", "session", "settings", "spare_window", "sweep", "writing_paused")

    session: Http2Session
    settings: ListenerSettings
    sweep: Sweep
    spare_window: int
    full: set[Http2Stream]
    ending: set[Http2Stream]
    writing_paused: bool

    def flush(self) -> None:
        """Send what can be sent."""
        raise NotImplementedError

    def flush_soon(self) -> None:
        """The same, once in this turn of the loop, together with what else there will be."""
        raise NotImplementedError

    def push(self) -> None:
        """Send what can be sent, and hear nothing of what that leads to before the next `flush`."""
        raise NotImplementedError

    def note_over(self, exchange: ExchangeEvents) -> None:
        """An exchange of this connection is over."""
        raise NotImplementedError

    def note_stalled(self) -> None:
        """A client has stopped to take what it asked for."""
        raise NotImplementedError



class Http2Stream(Downstream):
    """See the module. It ends with `on_closed`, once, whichever side has ended it.

    `receiving`: the request is not complete; `sending`: nor is the answer.
    """

    __slots__ = (
        "exchange",
        "head_size",
        "held",
        "is_full",
        "last_piece",
        "last_queued",
        "method",
        "missing",
        "number",
        "owner",
        "passed",
        "protocol",
        "reading_paused",
        "receiving",
        "refused_switch",
        "sending",
        "session",
        "shared",
        "transport",
        "uncredited",
        "waits",
        "window",
    )

    def prepare(self, owner: StreamOwner, number: int, receiving: bool) -> None:
        """Take the place of `__init__`, which cannot be reached without a way through Python."""
        self.sweep_index = -1
        self.deadline = _NEVER
        self.splice = None
        self.owner = owner
        self.session = owner.session
        self.number = number
        self.receiving = receiving
        self.sending = True
        self.exchange: Exchange | None = None
        self.method = b""
        self.head_size = 0
        #: What an extended CONNECT asks for; empty for any other request.
        self.protocol = b""
        self.refused_switch = False
        self.held: ResponseHead | None = None
        self.transport: StreamTransport | None = None

        # The client's bytes
        self.reading_paused = False
        self.uncredited = 0
        self.window = _FIRST_WINDOW
        self.passed = 0
        #: Bytes that are still to come by the head's content-length, -1 if that says nothing; the last of them, while
        #: more might come; and whether the exchange begins only when that cannot be.
        self.missing = -1
        self.last_piece = b""
        self.waits = False

        # Ours
        self.is_full = False
        self.last_queued = 0
        self.shared = False

    # From the client

    def on_data(self, data: bytes, ended: bool) -> None:
        """A part of the request's body, or of a tunnel."""
        self.uncredited += len(data)
        exchange = self.exchange
        if self.protocol:
            self.take_for_tunnel(data, ended)
            return
        if ended:
            self.receiving = False
            self.set_deadline(_NEVER)
        else:
            self.set_deadline(self.owner.settings.body_timeout)
        if self.missing >= 0:
            self.missing -= len(data)
            if self.last_piece:
                data = self.last_piece + data
            self.last_piece = b""
            if self.missing == 0 and not ended:
                # More would contradict the head (RFC 9113 section 8.1.1): then no server gets a whole request.
                self.last_piece = data
                return
        if exchange is not None and not exchange.over:
            if data:
                exchange.on_request_body(data)
            if ended and not exchange.over:
                exchange.on_request_end(b"")
        if not self.reading_paused or exchange is None or exchange.over:
            self.give_credit()

    def on_trailers(self, lines: bytes) -> None:
        """The end of the request."""
        self.receiving = False
        self.set_deadline(_NEVER)
        exchange = self.exchange
        if exchange is not None and not exchange.over:
            if self.last_piece:
                exchange.on_request_body(self.last_piece)
                self.last_piece = b""
            exchange.on_request_end(lines)

    def take_for_tunnel(self, data: bytes, ended: bool) -> None:
        """Bytes of another protocol; before the server has agreed to it, they wait."""
        if ended:
            self.receiving = False
        transport = self.transport
        if transport is None:
            transport = self.transport = StreamTransport(self)
        transport.feed(data, ended)
        if not self.reading_paused and transport.is_open:
            self.give_credit()

    def on_closed(self, failed: bool) -> None:
        """The stream, or the whole connection, is no more; `failed`: before it had come to its end."""
        self.owner.sweep.remove(self)
        self.owner.full.discard(self)
        self.owner.ending.discard(self)
        self.owner.spare_window += self.window - _FIRST_WINDOW
        self.window = _FIRST_WINDOW
        self.receiving = self.sending = False
        self.reading_paused = False
        self.give_credit()
        exchange = self.exchange
        if exchange is not None and exchange.tunnel is not None and self.transport is not None:
            self.transport.on_closed(failed)
        elif exchange is not None:
            self.exchange = None
            exchange.on_client_gone()

    def give_credit(self) -> None:
        """The server has taken what came: the client may send as much again, and more if that goes on."""
        amount = self.uncredited
        if amount == 0:
            return
        self.uncredited = 0
        self.session.consume(self.number, amount)
        if not self.receiving:
            return
        self.passed += amount
        owner = self.owner
        if self.passed >= 2 * self.window and self.window < _MOST_WINDOW:
            self.passed = 0
            more = min(self.window, owner.spare_window)
            if more > 0:
                owner.spare_window -= more
                self.window += more
                self.session.widen(self.number, self.window)

    # Timed interface

    def set_deadline(self, seconds: float) -> None:
        """The client has so long for its next move."""
        owner = self.owner
        self.deadline = owner.sweep.now + seconds
        if self.sweep_index < 0 and seconds != _NEVER:
            owner.sweep.add(self)

    def on_deadline(self, now: float) -> None:
        """The client sends nothing more of its body, or takes nothing more of the answer."""
        settings = self.owner.settings
        if self.is_full:
            queued = self.session.queued(self.number)
            if queued == self.last_queued and not self.owner.writing_paused:
                self.owner.note_stalled()
                self.session.reset(self.number, _CANCEL)
                self.owner.flush_soon()
                return
            self.last_queued = queued
            self.set_deadline(settings.send_timeout)
        elif self.receiving and not self.reading_paused and self.exchange is not None:
            self.exchange.refuse(408, "body timeout")
        elif self.receiving:
            self.set_deadline(settings.body_timeout)
        else:
            self.deadline = _NEVER

    # Stream interface

    def pause_reading(self) -> None:
        """No more credit for now."""
        self.reading_paused = True

    def resume_reading(self) -> None:
        """Credit again."""
        if self.reading_paused:
            self.reading_paused = False
            self.give_credit()
            self.owner.flush_soon()

    def send_head(self, head: ResponseHead, more: bool) -> None:
        """Send a head; `more`: it waits for what comes next, which may be its end."""
        if self.protocol and head.status // 100 == 2:
            # It would tell the client that there is a tunnel now.
            self.refused_switch = True
            self.exchange.upstream.fail("bad_response")  # type: ignore[union-attr]
            return
        self.held = head
        if not more:
            self.release_head(False)

    def release_head(self, ended: bool) -> None:
        """Send the head that is held."""
        head: ResponseHead = self.held  # type: ignore[assignment]
        self.held = None
        self.session.respond(self.number, response_fields(head, self.owner.settings.via), ended)
        self.owner.flush_soon()

    def send_body(self, data: bytes) -> None:
        """Queue body bytes; what the client gives no credit for, and what the connection has no room for, waits."""
        if self.held is not None:
            self.release_head(False)
        if not self.sending:
            return
        owner = self.owner
        self.session.send(self.number, data, False)
        if self.session.queued(self.number) >= _QUEUE_HIGH:
            if not self.shared:
                # A long body is not to keep others of the same urgency waiting, unless the client says so.
                self.shared = True
                self.session.share(self.number)
            if not self.is_full:
                owner.push()
                if self.session.queued(self.number) >= _QUEUE_HIGH:
                    self.fill()
        owner.flush_soon()

    def fill(self) -> None:
        """There is no more room."""
        self.is_full = True
        self.owner.full.add(self)
        if self.transport is not None and self.transport.is_open:
            # A tunnel has a timeout of its own.
            self.transport.protocol.pause_writing()
            return
        self.last_queued = self.session.queued(self.number)
        self.set_deadline(self.owner.settings.send_timeout)
        if self.exchange is not None:
            self.exchange.on_downstream_full(True)

    def look_for_room(self) -> None:
        """Something has left: go on if that was enough."""
        queued = self.session.queued(self.number)
        if queued != self.last_queued and self.transport is None:
            self.last_queued = queued
            self.set_deadline(self.owner.settings.send_timeout)
        if queued > _QUEUE_LOW or not self.is_full:
            return
        self.is_full = False
        self.owner.full.discard(self)
        self.set_deadline(self.owner.settings.body_timeout if self.receiving else _NEVER)
        if self.transport is not None and self.transport.is_open:
            self.transport.protocol.resume_writing()
        elif self.exchange is not None:
            self.exchange.on_downstream_full(False)

    def send_end(self, trailers: bytes) -> None:
        """The answer is complete. What is missing of the request is not waited for (RFC 9113 section 8.1)."""
        self.exchange = None
        if self.held is not None:
            self.release_head(not trailers)
            if not trailers:
                self.note_end()
                self.leave()
                return
        if trailers:
            self.session.send_trailers(self.number, trailer_fields(trailers))
        else:
            self.session.send(self.number, b"", True)
        self.note_end()
        self.leave()

    def note_end(self) -> None:
        """Nothing more is sent."""
        self.sending = False
        self.is_full = False
        self.give_credit()
        owner = self.owner
        if self.session.queued(self.number) > 0:
            # The rest has to go within `send_timeout`, as far as that is told by progress.
            self.is_full = True
            owner.full.add(self)
            self.last_queued = self.session.queued(self.number)
            self.set_deadline(owner.settings.send_timeout)
        owner.flush_soon()

    def leave(self) -> None:
        """Nothing more is wanted of the client either."""
        if self.receiving:
            self.owner.ending.add(self)

    def finish_if_sent(self) -> None:
        """The answer has left before the request was complete: nobody wants the rest."""
        if self.session.queued(self.number) == 0:
            self.owner.ending.discard(self)
            self.session.reset(self.number, _NO_ERROR)

    def abort(self) -> None:
        """Break the answer off."""
        self.exchange = None
        self.held = None
        self.sending = False
        self.session.reset(self.number, _INTERNAL_ERROR)
        self.owner.flush_soon()

    def on_exchange_over(self, exchange: ExchangeEvents) -> None:
        """The exchange has ended; its last bytes may still have to be sent."""
        self.owner.note_over(exchange)

    # Downstream interface

    def splicing(self) -> tuple[Splicer, asyncio.Transport] | None:
        """The kernel knows no frames."""
        return None

    def withdraw_head(self) -> bool:
        """Take back a head that is still held, or one that said yes to what it could not."""
        withdrawn = self.held is not None or self.refused_switch
        self.held = None
        self.refused_switch = False
        return withdrawn

    def send_interim(self, head: ResponseHead) -> None:
        """Send a 1xx."""
        self.session.interim(self.number, interim_fields(head))
        self.owner.flush_soon()

    def answer(self, status: int, reason: str) -> None:
        """Answer a request that never became an exchange."""
        body = reason.encode() + b"\n"
        self.held = make_response(status, b"Content-Type: text/plain; charset=utf-8\r\n", body)
        if self.method == b"HEAD":
            self.release_head(True)
        else:
            self.release_head(False)
            self.session.send(self.number, body, True)
        self.note_end()
        self.leave()

    # Tunnels

    def queued(self) -> int:
        """Bytes that wait to be sent."""
        return self.session.queued(self.number)

    def end_tunnel(self) -> None:
        """No more bytes for the client, who may go on."""
        self.session.send(self.number, b"", True)
        self.note_end()

    def leave_tunnel(self) -> None:
        """Nor from it."""
        self.reading_paused = False
        self.give_credit()
        self.leave()
        self.owner.flush_soon()

    def cancel(self) -> None:
        """The other side of the tunnel has broken (RFC 8441 section 5: as a reset of TCP)."""
        self.sending = False
        self.session.reset(self.number, _CANCEL)
        self.owner.flush_soon()

    def accepts_switch(self, head: ResponseHead) -> bool:
        """Whether a 101 answers what was asked for: the client cannot see to it (RFC 6455 section 4.1)."""
        if self.protocol.lower() != b"websocket":
            return True
        key = field_value(self.exchange.head.fields, b"sec-websocket-key")  # type: ignore[union-attr]
        digest = hashlib.sha1((key or b"") + _WEBSOCKET).digest()  # noqa: S324
        return field_value(head.fields, b"sec-websocket-accept") == base64.b64encode(digest)

    def hand_over(self, head: ResponseHead) -> tuple[asyncio.Transport, bytes, Relay | None]:
        """Say yes, and give the stream away."""
        self.session.respond(self.number, opened_fields(head), False)
        self.set_deadline(_NEVER)
        if self.transport is None:
            self.transport = StreamTransport(self)
        early = self.transport.open()
        self.give_credit()
        self.owner.flush_soon()
        return self.transport, early, None  # type: ignore[return-value]

    def on_tunnel_closed(self) -> None:
        """The tunnel had the stream until its end."""
        self.exchange = None
        self.transport = None
