# cython: annotation_typing=False
"""One HTTP/1.1 connection of a client: reads requests strictly, begins exchanges, writes their responses.

The same object is the asyncio protocol and the `Downstream` of the exchange in progress. Requests of a
pipeline are served one after the other; what came early waits in `pending` with reading paused.
"""

from __future__ import annotations

import asyncio

from vsproxy.downstream.connection import BODY, HEAD, IDLE, LINGER, RESPONSE, TUNNEL, ClientConnection
from vsproxy.downstream.serving import ListenerSettings, Serving, answer_here
from vsproxy.errors import BadMessage
from vsproxy.headers import interim_lines, response_lines
from vsproxy.listener_stats import ListenerStats
from vsproxy.relay import Relay
from vsproxy.sender import SMALL_BODY
from vsproxy.splice import MIN_REST
from vsproxy.stream import ExchangeEvents
from vsproxy.timers import NEVER
from vsproxy.wire.body import chunk_end, chunk_start, new_body_reader
from vsproxy.wire.message import RequestHead, ResponseHead, make_response
from vsproxy.wire.proxy_header import Ends
from vsproxy.wire.request import new_request_parser, request_body_mode

_NEVER = NEVER
_IDLE, _HEAD, _BODY, _RESPONSE, _LINGER = IDLE, HEAD, BODY, RESPONSE, LINGER
_TUNNEL = TUNNEL
_MIN_REST = MIN_REST

#: After an early answer this much of a body is read and dropped to keep the connection.
DRAIN_SIZE = 64 * 1024
_DRAIN_SIZE = DRAIN_SIZE
_SMALL_BODY = SMALL_BODY


class DownstreamConnection(ClientConnection):
    """See the module. `stats` counts for the listener, `settings` are its limits and timeouts."""

    __slots__ = (
        "body",
        "chunked",
        "discarding",
        "framed",
        "held",
        "parser",
        "running",
    )

    def prepare(
        self, serving: Serving, settings: ListenerSettings, stats: ListenerStats, descriptor: int, origin: bytes
    ) -> None:
        """See `ClientConnection`."""
        ClientConnection.prepare(self, serving, settings, stats, descriptor, origin)
        # Per connection
        self.parser = new_request_parser(
            settings.max_head, settings.max_fields, settings.max_target, settings.keep_underscores
        )
        self.body = new_body_reader(400)
        self.running = False

        # Per exchange
        self.discarding = False
        self.chunked = False
        self.framed = True
        self.held: ResponseHead | None = None

    # Protocol interface

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes of requests."""
        if self.stopped:
            return
        self.advance(data)

    def eof_received(self) -> bool:
        """asyncio: the client sends no more. A whole request is still answered, if the route says so."""
        self.end_of_stream = True
        if self.stopped or self.wait == _LINGER:
            return False
        if self.reading_body:
            self.refuse(400, "truncated body")
            return True
        exchange = self.exchange
        if exchange is None:
            self.stop()
            return False
        if not exchange.route.half_close_wait or self.settings.secure:
            exchange.on_client_gone()
            return False
        self.close_after = True
        # A reset is no longer reported after a FIN: the sweep asks the kernel.
        self.set_wait(self.wait, self.limit - self.sweep.now)
        return True

    # Reading

    def is_head_begun(self) -> bool:
        """Whether a part of a request's head is there."""
        return self.parser.started

    def advance(self, data: bytes) -> None:
        """Take bytes as heads and bodies, as far as the exchange in progress lets us."""
        if self.pending:
            data = self.pending + data
            self.pending = b""
        if self.running:
            self.pending = data
            return
        self.running = True
        try:
            self.run(data)
        except BadMessage as error:
            self.refuse(error.status, error.reason)
        finally:
            self.running = False
        exchange = self.exchange
        if exchange is not None and not exchange.started and not exchange.over:
            exchange.start()
        self.set_reading()

    def run(self, data: bytes) -> None:
        """The loop of `advance`. Raises `BadMessage`."""
        pos = 0
        size = len(data)
        # A request begins once all of its body that is here was found to be well-formed.
        while pos < size and not self.stopped and self.wait != _LINGER:
            if self.reading_body:
                pos = self.take_body(data, pos)
            elif self.exchange is not None or self.writing_paused:
                self.pending = data[pos:]
                return
            else:
                head = self.parser.parse(data, pos)
                if head is None:
                    if self.wait == _IDLE:
                        self.set_wait(_HEAD, self.settings.header_timeout)
                    return
                pos = self.parser.end
                self.begin(head)
            if self.pending:
                data = data[pos:] + self.pending
                self.pending = b""
                pos = 0
                size = len(data)

    def take_body(self, data: bytes, pos: int) -> int:
        """Take body bytes from `pos`; returns where they end."""
        body = self.body
        payload = body.feed(data, pos)
        exchange = self.exchange
        if body.done:
            self.reading_body = False
            self.set_wait(_RESPONSE, _NEVER)
        else:
            self.set_wait(_BODY, self.settings.body_timeout)
        pos = body.pos
        if exchange is not None and not self.discarding:
            if payload:
                exchange.on_request_body(payload)
            if body.done and not exchange.over:
                exchange.on_request_end(body.trailers)
                if not exchange.started:
                    exchange.start()
            elif body.plain_rest() >= _MIN_REST and not exchange.over and not self.pending:
                exchange.on_request_rest(body.remaining)
        elif body.done:
            self.discarding = False
            self.next_request()
        return pos

    def begin(self, head: RequestHead) -> None:
        """Begin an exchange for a head."""
        settings = self.settings
        serving = self.serving
        self.requests += 1
        mode = request_body_mode(head)
        self.close_after = (
            not head.keep_alive
            or self.requests >= settings.max_requests
            or head.upgrade_requested
            or self.end_of_stream
            or serving.draining
            or settings.retired
        )
        # Who asked for another protocol may have begun to speak it: nothing after this head is a request.
        self.expects_more = head.upgrade_requested
        self.body.start(mode, head.content_length)
        self.reading_body = not self.body.done
        self.discarding = False
        if self.reading_body:
            self.set_wait(_BODY, settings.body_timeout)
        else:
            self.set_wait(_RESPONSE, _NEVER)
        exchange = serving.begin(self, head, self.forwarding)  # type: ignore[arg-type]
        self.exchange = exchange
        exchange.request_done = not self.reading_body
        if not answer_here(exchange, settings) and not self.reading_body:
            exchange.start()

    # Downstream interface

    def send_head(self, head: ResponseHead, more: bool) -> None:
        """Send a head, framed for this client: by length, chunked, or by the close for HTTP/1.0."""
        exchange = self.exchange
        request = exchange.head  # type: ignore[union-attr]
        status: int = head.status
        bodiless = request.method == b"HEAD" or status == 204 or status == 304
        known = head.content_length >= 0 or bodiless
        self.chunked = not known and request.minor == 1
        self.framed = known or self.chunked
        if not self.framed or self.serving.draining or self.settings.retired:
            self.close_after = True
        if self.reading_body and not self.can_drain(request):
            self.close_after = True
        if more:
            self.held = head
        else:
            self.write(self.head_lines(head, b""))

    def head_lines(self, head: ResponseHead, body: bytes) -> bytes:
        """A head as it goes to this client, and what goes out with it."""
        minor = self.exchange.head.minor  # type: ignore[union-attr]
        settings = self.settings
        return response_lines(head, self.chunked, not self.close_after, minor, settings.via, settings.hsts, body)

    def send_interim(self, head: ResponseHead) -> None:
        """Send a 1xx; a client of HTTP/1.0 does not know them."""
        if self.exchange.head.minor == 1:  # type: ignore[union-attr]
            self.write(interim_lines(head))

    def send_body(self, data: bytes) -> None:
        """Send body bytes, as one chunk where the body is chunked."""
        held = self.held
        lines = b""
        if held is not None:
            self.held = None
            if not self.chunked and len(data) < _SMALL_BODY:
                self.write(self.head_lines(held, data))
                return
            lines = self.head_lines(held, b"")
        if self.stopped:
            return
        if self.chunked:
            self.sender.write_parts(lines + chunk_start(len(data)), data, chunk_end(False, b""))  # type: ignore
        elif lines:
            self.sender.write_parts(lines, data, b"")  # type: ignore[union-attr]
        else:
            self.sender.write(data)  # type: ignore[union-attr]

    def send_end(self, trailers: bytes) -> None:
        """The response is complete: on to the next request, or close."""
        held = self.held
        end = b"0\r\n" + trailers + b"\r\n" if self.chunked else b""
        if held is not None:
            self.held = None
            end = self.head_lines(held, end)
        self.chunked = False
        if end:
            self.write(end)
        self.exchange = None
        if self.close_after:
            self.linger()
        elif self.reading_body:
            self.discarding = True
            self.set_reading()
        else:
            self.next_request()

    def abort(self) -> None:
        """Break the response off: the end is missing, or a reset where only the close ends it."""
        self.exchange = None
        if self.transport is None or self.stopped:
            return
        self.stopped = True
        if self.framed and not self.writing_paused:
            self.set_wait(_LINGER, 1.0)
            self.transport.close()
        else:
            self.reset()

    def on_exchange_over(self, exchange: ExchangeEvents) -> None:
        """The exchange has ended; its last bytes may still have to be sent."""
        if self.serving.access_log is not None:
            self.serving.log(exchange, self.settings)  # type: ignore[arg-type]

    def on_spliced(self, count: int) -> None:
        """As `take_body`, but for the bytes themselves."""
        self.body.remaining -= count
        self.set_wait(_BODY, self.settings.body_timeout)

    def on_splice_over(self, complete: bool) -> None:
        """Read again; the request may be complete. What is in a pipe that was given up is lost, but it was read."""
        self.splice = None
        if self.body.remaining == 0:
            self.body.done = True
            self.reading_body = False
            self.set_wait(_RESPONSE, _NEVER)
        if not self.reading_paused and not self.stopped:
            self.transport.resume_reading()  # type: ignore[union-attr]
        if complete:
            self.exchange.on_request_end(b"")  # type: ignore[union-attr]

    def withdraw_head(self) -> bool:
        """Take back a head that is still held."""
        held = self.held is not None
        self.held = None
        self.chunked = False
        return held

    def hand_over(self, head: ResponseHead) -> tuple[asyncio.Transport, bytes, Relay | None]:
        """Send the 101 and give the transport away, with what the client sent after its head, and who may read it."""
        self.set_wait(_TUNNEL, _NEVER)
        self.sweep.remove(self)
        self.write(interim_lines(head))
        early = self.pending
        self.pending = b""
        return self.transport, early, self.serving.relay  # type: ignore[return-value]

    def accepts_switch(self, head: ResponseHead) -> bool:
        """The client sees to it."""
        return True

    def on_tunnel_closed(self) -> None:
        """The tunnel had the transport until its end."""
        self.exchange = None
        self.connection_lost(None)

    # Inside

    def next_request(self) -> None:
        """Wait for the next request, or serve the one that is here already."""
        if not self.writing_paused:
            self.set_wait(_IDLE, self.settings.idle_timeout)
        if self.serving.draining:
            # The answer began before the stop, and so without `Connection: close`.
            self.await_last_request()
        if self.pending and not self.running:
            self.advance(b"")
        elif not self.running:
            self.set_reading()

    def refuse(self, status: int, reason: str) -> None:
        """Answer a bad request, if nothing was answered yet, and close."""
        if self.stopped:
            return
        self.stats.count_bad_request(reason)
        exchange = self.exchange
        self.close_after = True
        self.reading_body = False
        self.pending = b""
        if exchange is not None:
            exchange.refuse(status, reason)
            return
        self.serving.log_refusal(self.forwarding.peer, self.settings, status, reason)  # type: ignore[union-attr]
        body = reason.encode() + b"\n"
        head = make_response(status, b"Content-Type: text/plain; charset=utf-8\r\n", body)
        settings = self.settings
        self.write(response_lines(head, False, False, 1, settings.via, settings.hsts, body))
        self.linger()

    def can_drain(self, request: RequestHead) -> bool:
        """Whether so little of the body is missing that reading it is cheaper than a new connection."""
        return (
            not request.expect_continue
            and request.content_length >= 0
            and self.body.remaining <= _DRAIN_SIZE
        )


def new_connection(
    serving: Serving,
    settings: ListenerSettings,
    stats: ListenerStats,
    descriptor: int,
    origin: bytes,
    ends: Ends | None = None,
) -> DownstreamConnection:
    """The protocol of a client that has just come; `ends` are what a PROXY header has said of it."""
    # Not by a call of the class, which takes the way through Python.
    connection = DownstreamConnection.__new__(DownstreamConnection)
    connection.prepare(serving, settings, stats, descriptor, origin)
    if ends is not None:
        connection.ends = ends
        connection.origin = ends.source
    return connection
