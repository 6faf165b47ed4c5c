# cython: annotation_typing=False
"""A client's HTTP/2 connection (RFC 9113): its streams, its deadlines, its end.

What is to be sent in one turn of the loop leaves in one write. Nothing is held back from reading: what a client may
send at all is bounded by the credit of its streams, and by what `Http2Session` lets pass.
"""

from __future__ import annotations

import asyncio

from vsproxy.downstream.http2_stream import FIRST_WINDOW, MOST_WINDOW, Http2Stream, StreamOwner
from vsproxy.downstream.serving import ListenerSettings, Serving, answer_here
from vsproxy.errors import BadMessage
from vsproxy.exchange import Exchange, wanted_upgrade
from vsproxy.headers import Forwarding
from vsproxy.listener_stats import ListenerStats
from vsproxy.resets import reset_on_close
from vsproxy.sender import Sender, new_sender
from vsproxy.stream import ExchangeEvents
from vsproxy.timers import NEVER
from vsproxy.unsent import unsent_bytes
from vsproxy.upstream.http1 import WRITE_HIGH
from vsproxy.upstream.server import Server
from vsproxy.wire.http2 import NO_ERROR, PROTOCOL_ERROR, REFUSED_STREAM, Http2Session
from vsproxy.wire.http2_head import Http2HeadReader, trailer_lines
from vsproxy.wire.message import RequestHead

_NEVER = NEVER
_NO_ERROR = NO_ERROR

#: Streams at once. Browsers open no more than this, and Chromium reckons with as many.
MAX_STREAMS = 100
#: Bytes of the heads of the requests in progress; streams beyond that are refused, which a client may repeat.
MAX_HEADS = 256 * 1024
_MAX_HEADS = MAX_HEADS
#: Bytes that are asked of the session at a time.
OUTPUT = 64 * 1024
_OUTPUT = OUTPUT
#: How long (s) a client has to answer the word that the connection is going to end, and how often it is looked whether
#: it has to.
NOTICE_TIME = 1.0
LOOK_TIME = 1.0
_NOTICE_TIME, _LOOK_TIME = NOTICE_TIME, LOOK_TIME
#: How long (s) a client may leave the last frames unread.
LAST_WORDS = 1.0
_LAST_WORDS = LAST_WORDS

# How far the end is.
STAYING, NOTICED, LEFT = range(3)
_STAYING, _NOTICED, _LEFT = STAYING, NOTICED, LEFT


class Http2Connection(StreamOwner):
    """See the module. `stats` counts for the listener, `settings` are its limits and timeouts."""

    __slots__ = (
        "beginning",
        "descriptor",
        "end",
        "flush_due",
        "flushing",
        "forwarding",
        "heads",
        "idle_limit",
        "loop",
        "notice_limit",
        "origin",
        "reader",
        "requests",
        "sender",
        "serving",
        "stats",
        "stopped",
        "streams",
        "transport",
        "unsent",
        "write_limit",
    )

    def prepare(
        self, serving: Serving, settings: ListenerSettings, stats: ListenerStats, descriptor: int, origin: bytes
    ) -> None:
        """Take the place of `__init__`, which cannot be reached without a way through Python."""
        self.sweep_index = -1
        self.deadline = _NEVER
        self.serving = serving
        self.settings = settings
        self.stats = stats
        self.descriptor = descriptor
        self.origin = origin
        self.sweep = serving.sweep
        self.loop = asyncio.get_running_loop()
        self.session = Http2Session(MAX_STREAMS, FIRST_WINDOW, MAX_STREAMS * FIRST_WINDOW + MOST_WINDOW)
        self.reader = Http2HeadReader(
            settings.max_head, settings.max_fields, settings.max_target, settings.keep_underscores
        )
        self.transport: asyncio.Transport | None = None
        self.sender: Sender | None = None
        self.forwarding: Forwarding | None = None

        # Streams
        self.streams: dict[int, Http2Stream] = {}
        self.spare_window = MOST_WINDOW
        self.full = set()
        self.ending = set()
        self.beginning: list[Exchange] = []
        self.requests = 0
        self.heads = 0

        # Writing
        self.flush_due = False
        self.flushing = False
        self.writing_paused = False
        self.unsent = 0
        self.write_limit = _NEVER

        # The end
        self.end = _STAYING
        self.stopped = False
        self.idle_limit = _NEVER
        self.notice_limit = _NEVER

    # Protocol interface

    def connection_made(self, transport: asyncio.Transport) -> None:
        """asyncio: a client has connected."""
        self.transport = transport
        self.sender = new_sender(transport, self.descriptor)
        transport.set_write_buffer_limits(high=WRITE_HIGH)
        settings = self.settings
        self.forwarding = settings.forwarding_for(self.origin, transport)
        self.stats.opened()
        self.stats.http2_connections += 1
        self.serving.connected(self)
        self.sweep.add(self)
        self.idle_limit = self.sweep.now + settings.header_timeout
        self.deadline = self.sweep.now + _LOOK_TIME
        self.flush()

    def data_received(self, data: bytes) -> None:
        """asyncio: frames, or parts of them."""
        if self.stopped:
            return
        self.session.receive(data, self)
        if self.beginning:
            if self.session.unsettled:
                # A body that contradicts its head is known only once the session says so.
                self.flush()
            beginning = self.beginning
            self.beginning = []
            for exchange in beginning:
                if not exchange.started and not exchange.over:
                    exchange.start()
        self.flush()

    def eof_received(self) -> bool:
        """asyncio: the client is gone, since HTTP/2 has no half-closed connections."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the client is gone."""
        self.stopped = True
        self.sweep.remove(self)
        streams = self.streams
        self.streams = {}
        for stream in streams.values():
            stream.on_closed(True)
        self.stats.closed()
        self.serving.disconnected(self)

    def pause_writing(self) -> None:
        """asyncio: the client does not read as fast as we write. Its streams fill up one by one."""
        self.writing_paused = True
        self.unsent = unsent_bytes(self.transport)  # type: ignore[arg-type]
        self.write_limit = self.sweep.now + self.settings.send_timeout

    def resume_writing(self) -> None:
        """asyncio: there is room again."""
        self.writing_paused = False
        self.write_limit = _NEVER
        self.flush_soon()

    # What the session reports

    def on_request(self, number: int, fields: tuple[tuple[bytes, bytes], ...], ended: bool) -> None:
        """A request has begun."""
        self.requests += 1
        stream = Http2Stream.__new__(Http2Stream)
        stream.prepare(self, number, not ended)
        self.streams[number] = stream
        self.idle_limit = _NEVER
        try:
            head = self.reader.read(fields, ended)
        except BadMessage as error:
            self.refuse(stream, error.status, error.reason)
            return
        if self.heads >= _MAX_HEADS:
            self.stats.note_http2("refused")
            self.session.reset(number, REFUSED_STREAM)
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
            stream.set_deadline(self.settings.body_timeout)
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

    def on_data(self, number: int, data: bytes, ended: bool) -> None:
        """A part of a request's body."""
        stream = self.streams.get(number)
        if stream is not None:
            stream.on_data(data, ended)
            if ended:
                self.begin_late(stream)
        else:
            self.session.consume(number, len(data))

    def on_trailers(self, number: int, fields: tuple[tuple[bytes, bytes], ...]) -> None:
        """A body ends with fields."""
        stream = self.streams.get(number)
        if stream is None:
            return
        try:
            lines = trailer_lines(fields)
        except BadMessage as error:
            self.stats.count_bad_request(error.reason)
            self.session.reset(number, PROTOCOL_ERROR)
            return
        stream.on_trailers(lines)
        self.begin_late(stream)

    def begin_late(self, stream: Http2Stream) -> None:
        """A request has ended without the body that it said it has not."""
        if stream.waits and stream.exchange is not None:
            stream.waits = False
            self.beginning.append(stream.exchange)

    def on_stream_closed(self, number: int, code: int, ours: bool) -> None:
        """A stream is no more."""
        stream = self.streams.pop(number, None)
        if code != _NO_ERROR:
            self.stats.note_http2("stream_errors" if ours else "stream_resets")
        if stream is not None:
            self.heads -= stream.head_size
            stream.on_closed(code != _NO_ERROR)
        if not self.streams:
            self.idle_limit = self.sweep.now + self.settings.idle_timeout

    def on_window(self, number: int) -> None:
        """The client has given credit: `flush`, which follows, looks for what it was given for."""

    def on_pong(self) -> None:
        """The client knows that the connection is going to end."""
        if self.end == _NOTICED:
            self.leave()

    def on_goaway(self) -> None:
        """The client begins nothing more."""
        self.end = _LEFT
        self.notice_limit = _NEVER

    # Writing

    def flush_soon(self) -> None:
        """Send what there is once this turn of the loop is over."""
        if not self.flush_due and not self.stopped:
            self.flush_due = True
            self.loop.call_soon(self.flush)

    def flush(self) -> None:
        """Send what can be sent, and go on where that has made room."""
        self.flush_due = False
        if self.flushing or self.stopped:
            # Whoever is at it goes on until there is nothing.
            return
        self.flushing = True
        try:
            self.push()
            self.session.deliver(self)
            if self.full or self.ending:
                self.look_for_room()
        finally:
            self.flushing = False
        if self.session.finished or (self.end == _LEFT and not self.streams):
            self.finish()

    def push(self) -> None:
        """Send what can be sent."""
        while not self.writing_paused and not self.stopped:
            data = self.session.output(_OUTPUT)
            if not data:
                return
            self.sender.write(data)  # type: ignore[union-attr]

    def look_for_room(self) -> None:
        """Tell those streams that have waited for it."""
        for stream in tuple(self.full):
            stream.look_for_room()
        for stream in tuple(self.ending):
            stream.finish_if_sent()

    # Timed interface

    def on_deadline(self, now: float) -> None:
        """Look at all that may be due; none of it is worth more than a look now and then."""
        self.deadline = now + _LOOK_TIME
        if self.stopped or now >= self.write_limit:
            self.look_at_writing(now)
            return
        if now >= self.idle_limit:
            if self.requests > 0:
                self.session.end(_NO_ERROR, "")
            self.stop()
        elif now >= self.notice_limit:
            self.leave()
        elif self.settings.retired:
            self.drain()
        else:
            return
        self.flush()

    def look_at_writing(self, now: float) -> None:
        """A client that has read something since the last look gets the same time once more."""
        unsent: int = unsent_bytes(self.transport)  # type: ignore[arg-type]
        if self.unsent >= 0 and unsent != self.unsent:
            self.unsent = unsent
            self.write_limit = now + self.settings.send_timeout
        elif now >= self.write_limit:
            self.reset()

    # The end

    def drain(self) -> None:
        """End after the streams in progress, in two steps, so that none on its way is lost (RFC 9113 section 6.8)."""
        if self.end != _STAYING or self.stopped:
            return
        self.end = _NOTICED
        self.notice_limit = self.sweep.now + _NOTICE_TIME
        self.session.notice()
        self.flush_soon()

    def leave(self) -> None:
        """Take no more streams."""
        self.end = _LEFT
        self.notice_limit = _NEVER
        self.session.leave()
        self.flush_soon()

    def finish(self) -> None:
        """All that there was to send is sent."""
        reason = self.session.reason
        if not reason or self.stopped:
            self.stop()
            return
        self.stats.note_http2(reason)
        self.push()
        self.stopped = True
        self.close_streams()
        # What still comes is dropped for a while, so that a reset does not destroy what was said.
        self.write_limit = self.sweep.now + _LAST_WORDS
        self.unsent = -1
        if self.transport.can_write_eof():  # type: ignore[union-attr]
            self.transport.write_eof()  # type: ignore[union-attr]

    def stop(self) -> None:
        """Close after what is buffered was written."""
        if self.stopped:
            return
        self.push()
        self.stopped = True
        self.close_streams()
        transport: asyncio.Transport = self.transport  # type: ignore[assignment]
        self.write_limit = self.sweep.now + self.settings.send_timeout
        self.unsent = unsent_bytes(transport)
        transport.close()

    def close_streams(self) -> None:
        """The streams end with the connection."""
        streams = self.streams
        self.streams = {}
        for stream in streams.values():
            stream.on_closed(True)

    def reset(self) -> None:
        """Cut the connection with a reset."""
        self.stopped = True
        if self.transport is not None:
            reset_on_close(self.transport)
            self.transport.abort()

    # What the whole process asks

    def on_server_down(self, server: Server) -> None:
        """A server was found to be bad: nobody is to wait for it."""
        for stream in tuple(self.streams.values()):
            if stream.exchange is not None:
                stream.exchange.on_server_down(server)

    def give_notice(self) -> None:
        """The time to finish is over: tunnels are closed, anything else is broken off."""
        for stream in tuple(self.streams.values()):
            exchange = stream.exchange
            if exchange is not None and exchange.tunnel is not None:
                exchange.tunnel.shut()
            else:
                stream.cancel()
        if self.end != _LEFT:
            self.leave()
        self.flush()

    def cut(self) -> None:
        """Break off whatever there is, at once."""
        self.reset()

    # Stream owner

    def note_over(self, exchange: ExchangeEvents) -> None:
        """An exchange is over."""
        if self.serving.access_log is not None:
            self.serving.log(exchange, self.settings, True)  # type: ignore[arg-type]

    def note_stalled(self) -> None:
        """A client has stopped to take what it asked for."""
        self.stats.note_http2("stalled")


def new_connection(
    serving: Serving, settings: ListenerSettings, stats: ListenerStats, descriptor: int, origin: bytes
) -> Http2Connection:
    """The protocol of a client that has just come."""
    # Not by a call of the class, which takes the way through Python.
    connection = Http2Connection.__new__(Http2Connection)
    connection.prepare(serving, settings, stats, descriptor, origin)
    return connection
