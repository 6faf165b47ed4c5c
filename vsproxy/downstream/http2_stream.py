# cython: annotation_typing=False
"""One stream of a client's HTTP/2 connection: the client's side of an exchange, and of a tunnel (RFC 8441)."""

from __future__ import annotations

import asyncio
import base64
import hashlib

from vsproxy.downstream.http2_flow import StreamFlow
from vsproxy.downstream.http2_owner import StreamOwner
from vsproxy.downstream.http2_transport import StreamTransport
from vsproxy.exchange import Exchange
from vsproxy.introduction import Introduction
from vsproxy.relay import Relay
from vsproxy.splice import Splicer
from vsproxy.stream import ExchangeEvents
from vsproxy.wire.http2 import CANCEL, INTERNAL_ERROR, NO_ERROR
from vsproxy.wire.http2_head import interim_fields, opened_fields, response_fields, trailer_fields
from vsproxy.wire.message import ResponseHead, field_value, make_response

_NO_ERROR, _INTERNAL_ERROR, _CANCEL = NO_ERROR, INTERNAL_ERROR, CANCEL
#: What a server of WebSockets shows to have understood (RFC 6455 section 1.3).
WEBSOCKET = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Http2Stream(StreamFlow):
    """See the module. It ends with `on_closed`, once, whichever side has ended it.

    `head_size` are the bytes of its request's head, `protocol` is what an extended CONNECT asks for, and empty for any
    other request.
    """

    __slots__ = (
        "exchange",
        "head_size",
        "held",
        "last_piece",
        "method",
        "missing",
        "protocol",
        "refused_switch",
        "transport",
        "waits",
    )

    def prepare(self, owner: StreamOwner, number: int, receiving: bool) -> None:
        """Take the place of `__init__`, which cannot be reached without a way through Python."""
        self.prepare_flow(owner, number, receiving)
        self.exchange: Exchange | None = None
        self.method = b""
        self.head_size = 0
        self.protocol = b""
        self.refused_switch = False
        self.held: ResponseHead | None = None
        self.transport: StreamTransport | None = None
        #: Bytes that are still to come by the head's content-length, -1 if that says nothing; the last of them, while
        #: more might come; and whether the exchange begins only when that cannot be.
        self.missing = -1
        self.last_piece = b""
        self.waits = False

    # From the client

    def on_data(self, data: bytes, ended: bool) -> None:
        """A part of the request's body, or of a tunnel."""
        self.uncredited += len(data)
        if ended:
            self.receiving = False
        if self.protocol:
            self.take_for_tunnel(data, ended)
            return
        self.set_wait()
        if self.missing >= 0:
            self.missing -= len(data)
            if self.last_piece:
                data = self.last_piece + data
                self.last_piece = b""
            if self.missing == 0 and not ended:
                # More would contradict the head (RFC 9113 section 8.1.1): then no server gets a whole request.
                self.last_piece = data
                return
        exchange = self.exchange
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
        self.set_wait()
        exchange = self.exchange
        if exchange is not None and not exchange.over:
            if self.last_piece:
                exchange.on_request_body(self.last_piece)
                self.last_piece = b""
            exchange.on_request_end(lines)

    def take_for_tunnel(self, data: bytes, ended: bool) -> None:
        """Bytes of another protocol; before the server has agreed to it, they wait, and there is no credit for them."""
        transport = self.transport
        if transport is None:
            transport = self.transport = StreamTransport(self)
        transport.feed(data, ended)
        if not self.reading_paused and transport.is_open:
            self.give_credit()

    def on_closed(self, failed: bool) -> None:
        """The stream, or the whole connection, is no more; `failed`: before it had come to its end."""
        self.leave_flow()
        exchange = self.exchange
        if exchange is not None and exchange.tunnel is not None and self.transport is not None:
            self.transport.on_closed(failed)
        elif exchange is not None:
            self.exchange = None
            exchange.on_client_gone()

    def on_full(self, full: bool) -> None:
        """Pass it on to whoever sends here."""
        transport = self.transport
        if transport is not None and transport.is_open:
            if full:
                transport.protocol.pause_writing()
            else:
                transport.protocol.resume_writing()
        elif self.exchange is not None:
            self.exchange.on_downstream_full(full)

    def on_stalled(self) -> None:
        """The client sends no more of its body."""
        if self.exchange is not None:
            self.exchange.refuse(408, "body timeout")

    # To the client

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
        settings = self.owner.settings
        self.session.respond(self.number, response_fields(head, settings.via, settings.hsts), ended)
        self.owner.flush_soon()

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

    def send_body(self, data: bytes) -> None:
        """Send body bytes."""
        if not self.sending:
            return
        ended = False
        held = self.held
        if held is not None:
            # One that is here as a whole is sent as a whole.
            ended = held.content_length == len(data)
            self.release_head(False)
        self.queue(data, ended)
        if ended:
            self.sending = False

    def send_end(self, trailers: bytes) -> None:
        """The answer is complete. What is missing of the request is not waited for (RFC 9113 section 8.1)."""
        self.exchange = None
        if self.held is not None:
            self.release_head(not trailers)
        elif self.sending and not trailers:
            self.session.send(self.number, b"", True)
        if trailers:
            self.session.send_trailers(self.number, trailer_fields(trailers))
        self.note_end()
        self.leave()

    def answer(self, status: int, reason: str) -> None:
        """Answer a request that never became an exchange."""
        body = reason.encode() + b"\n"
        self.held = make_response(status, b"Content-Type: text/plain; charset=utf-8\r\n", body)
        if self.method != b"HEAD":
            self.send_body(body)
        self.send_end(b"")

    def leave(self) -> None:
        """Nothing more is wanted of the client either."""
        self.give_credit()
        if self.receiving:
            self.owner.ending.add(self)

    def finish_if_sent(self) -> None:
        """The answer has left before the request was complete: nobody wants the rest."""
        if self.session.queued(self.number) == 0:
            self.owner.ending.discard(self)
            self.session.reset(self.number, _NO_ERROR)
            self.owner.flush_soon()

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

    def introduction(self, version: str) -> Introduction | None:
        """Downstream: that of the connection."""
        return self.owner.introduction(version)

    def splicing(self) -> tuple[Splicer, asyncio.Transport] | None:
        """The kernel knows no frames."""
        return None

    # Tunnels

    def accepts_switch(self, head: ResponseHead) -> bool:
        """Whether a 101 answers what was asked for: the client cannot see to it (RFC 6455 section 4.1)."""
        if self.protocol.lower() != b"websocket":
            return True
        key = field_value(self.exchange.head.fields, b"sec-websocket-key")  # type: ignore[union-attr]
        digest = hashlib.sha1((key or b"") + WEBSOCKET).digest()  # noqa: S324
        return field_value(head.fields, b"sec-websocket-accept") == base64.b64encode(digest)

    def hand_over(self, head: ResponseHead) -> tuple[asyncio.Transport, bytes, Relay | None]:
        """Say yes, and give the stream away."""
        self.session.respond(self.number, opened_fields(head), False)
        self.patient = True
        self.set_wait()
        if self.transport is None:
            self.transport = StreamTransport(self)
        early = self.transport.open()
        self.give_credit()
        self.owner.flush_soon()
        return self.transport, early, None  # type: ignore[return-value]

    def end_tunnel(self) -> None:
        """No more bytes for the client, who may go on."""
        self.session.send(self.number, b"", True)
        self.note_end()

    def leave_tunnel(self) -> None:
        """Nor from it."""
        self.reading_paused = False
        self.leave()
        self.owner.flush_soon()

    def cancel(self) -> None:
        """The other side has broken (RFC 8441 section 5: as a reset of TCP)."""
        self.sending = False
        self.session.reset(self.number, _CANCEL)
        self.owner.flush_soon()

    def on_tunnel_closed(self) -> None:
        """The tunnel had the stream until its end."""
        self.exchange = None
        self.transport = None
