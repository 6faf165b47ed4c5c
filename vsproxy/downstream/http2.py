# cython: annotation_typing=False
"""What is spoken on a client's HTTP/2 connection (RFC 9113): requests become exchanges, one per stream."""

from __future__ import annotations

from vsproxy.downstream.http2_life import Http2Life
from vsproxy.downstream.http2_stream import Http2Stream
from vsproxy.downstream.serving import ListenerSettings, Serving, answer_here
from vsproxy.errors import BadMessage
from vsproxy.exchange import Exchange, wanted_upgrade
from vsproxy.listener_stats import ListenerStats
from vsproxy.timers import NEVER
from vsproxy.wire.http2 import NO_ERROR, PROTOCOL_ERROR, REFUSED_STREAM
from vsproxy.wire.http2_head import Http2HeadReader, trailer_lines
from vsproxy.wire.message import RequestHead
from vsproxy.wire.proxy_header import Ends

_NEVER = NEVER
_NO_ERROR = NO_ERROR

#: Bytes of the heads of the requests in progress; streams beyond that are refused, which a client may repeat.
MAX_HEADS = 256 * 1024
_MAX_HEADS = MAX_HEADS


class Http2Connection(Http2Life):
    """See the module. `heads` are the bytes of the heads of the requests in progress.

    `rest` is what has come and waits; nothing is read meanwhile. `waiting` are exchanges that have not begun, since the
    client does not take what it has asked for before.
    """

    __slots__ = ("beginning", "heads", "reader", "rest", "waiting")

    def prepare(
        self, serving: Serving, settings: ListenerSettings, stats: ListenerStats, descriptor: int, origin: bytes
    ) -> None:
        """See `Http2Life`."""
        self.prepare_life(serving, settings, stats, descriptor, origin)
        self.reader = Http2HeadReader(
            settings.max_head, settings.max_fields, settings.max_target, settings.keep_underscores
        )
        # Exchanges whose first bytes are still to be looked at.
        self.beginning: list[Exchange] = []
        self.waiting: list[Exchange] = []
        self.heads = 0
        self.rest = b""

    def data_received(self, data: bytes) -> None:
        """asyncio: frames, or parts of them."""
        if self.stopped:
            return
        if self.rest:
            # Read before the loop could be told to stop.
            self.rest += data
            return
        self.take(data)
        if self.rest:
            self.transport.pause_reading()

    def take(self, data: bytes) -> None:
        """Take as much of it as others can wait for."""
        rest = self.session.receive(data, self.sweep.now, self)
        if self.beginning:
            if self.session.unsettled:
                # A body that contradicts its head is known only once the session says so.
                self.flush()
            beginning = self.beginning
            self.beginning = []
            if self.pressed:
                self.waiting += beginning
            else:
                self.start(beginning)
        self.flush()
        if rest and not self.stopped:
            self.rest = rest
            self.loop.call_soon(self.take_rest)

    def start(self, exchanges: list[Exchange]) -> None:
        """Start them, unless they are over by now."""
        for exchange in exchanges:
            if not exchange.started and not exchange.over:
                exchange.start()

    def on_relief(self) -> None:
        """Streams have no longer too much queued together."""
        waiting = self.waiting
        if waiting:
            self.waiting = []
            self.start(waiting)

    def take_rest(self) -> None:
        """Others have had their turn."""
        rest = self.rest
        self.rest = b""
        if not self.stopped:
            self.take(rest)
        if not self.rest and not self.transport.is_closing():  # type: ignore[union-attr]
            self.transport.resume_reading()  # type: ignore[union-attr]

    # What the session reports

    def on_request(self, stream_id: int, fields: tuple[tuple[bytes, bytes], ...], ended: bool) -> None:
        """A request has begun."""
        self.requests += 1
        stream = Http2Stream.__new__(Http2Stream)
        stream.prepare(self, stream_id, not ended)
        self.streams[stream_id] = stream
        self.idle_limit = _NEVER
        try:
            head = self.reader.read(fields, ended)
        except BadMessage as error:
            self.refuse(stream, error.status, error.reason)
            return
        if self.heads >= _MAX_HEADS:
            self.stats.note_http2("refused")
            self.session.reset(stream_id, REFUSED_STREAM)
            return
        self.begin(stream, head)
        if self.requests >= self.settings.max_requests or self.settings.retired or self.serving.draining:
            self.drain()

    def begin(self, stream: Http2Stream, head: RequestHead) -> None:
        """Begin the exchange of a stream."""
        stream.method = head.method
        exchange = self.serving.begin(stream, head, self.forwarding)  # type: ignore[arg-type]
        stream.exchange = exchange
        stream.head_size = len(head.fields)
        self.heads += stream.head_size
        exchange.request_done = not stream.receiving
        if head.upgrade_requested:
            # The stream stays open for the tunnel; the request itself has no body.
            exchange.request_done = True
            stream.protocol = head.upgrade
        elif stream.receiving:
            stream.missing = head.content_length
            stream.set_wait()
        if answer_here(exchange, self.settings):
            return
        if head.upgrade_requested and not wanted_upgrade(head, exchange.route.upgrades):
            stream.protocol = b""
            exchange.refuse(501, "this protocol is not served here")
            return
        if stream.missing == 0:
            # Nothing may come, but something might.
            stream.waits = True
        else:
            self.beginning.append(exchange)

    def refuse(self, stream: Http2Stream, status: int, reason: str) -> None:
        """Answer what is no request."""
        self.stats.count_bad_request(reason)
        self.serving.log_refusal(self.forwarding.peer, self.settings, status, reason)  # type: ignore[union-attr]
        stream.answer(status, reason)

    def on_data(self, stream_id: int, data: bytes, ended: bool) -> None:
        """A part of a request's body."""
        stream = self.streams.get(stream_id)
        if stream is not None:
            stream.on_data(data, ended)
            if ended:
                self.begin_late(stream)
        else:
            self.session.consume(stream_id, len(data))

    def on_trailers(self, stream_id: int, fields: tuple[tuple[bytes, bytes], ...]) -> None:
        """A body ends with fields."""
        stream = self.streams.get(stream_id)
        if stream is None:
            return
        try:
            lines = trailer_lines(fields)
        except BadMessage as error:
            self.stats.count_bad_request(error.reason)
            self.session.reset(stream_id, PROTOCOL_ERROR)
            return
        stream.on_trailers(lines)
        self.begin_late(stream)

    def begin_late(self, stream: Http2Stream) -> None:
        """A request has ended without the body that it said it has not."""
        if stream.waits and stream.exchange is not None:
            stream.waits = False
            self.beginning.append(stream.exchange)

    def on_reset(self, stream_id: int) -> None:
        """A client has lost interest."""
        self.stats.note_http2("stream_resets")

    def on_stream_closed(self, stream_id: int, code: int, ours: bool) -> None:
        """A stream is no more."""
        stream = self.streams.pop(stream_id, None)
        if ours:
            self.stats.note_http2("stream_errors")
        if stream is not None:
            self.heads -= stream.head_size
            stream.on_closed(code != _NO_ERROR)
        if not self.streams:
            self.idle_limit = self.sweep.now + self.settings.idle_timeout


def new_connection(
    serving: Serving,
    settings: ListenerSettings,
    stats: ListenerStats,
    descriptor: int,
    origin: bytes,
    ends: Ends | None = None,
) -> Http2Connection:
    """The protocol of a client that has just come; `ends` are what a PROXY header has said of it."""
    # Not by a call of the class, which takes the way through Python.
    connection = Http2Connection.__new__(Http2Connection)
    connection.prepare(serving, settings, stats, descriptor, origin)
    if ends is not None:
        connection.ends = ends
        connection.origin = ends.source
    return connection
