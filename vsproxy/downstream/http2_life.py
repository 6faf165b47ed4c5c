# cython: annotation_typing=False
"""The life of a client's HTTP/2 connection: writing, deadlines, and the end in two steps (RFC 9113 section 6.8).

What is to be sent in one turn of the loop leaves in one write. Nothing is held back from reading: what a client may
send at all is bounded by the credit of its streams, and by what `Http2Session` lets pass.
"""

from __future__ import annotations

import asyncio

from vsproxy.downstream.http2_flow import ALL_HIGH, ALL_LOW, FIRST_WINDOW, MOST_QUEUED, MOST_WINDOW
from vsproxy.downstream.http2_owner import StreamOwner
from vsproxy.downstream.http2_stream import Http2Stream
from vsproxy.downstream.serving import ListenerSettings, Serving
from vsproxy.headers import Forwarding
from vsproxy.introduction import Introduction, Introductions
from vsproxy.listener_stats import ListenerStats
from vsproxy.resets import reset_on_close
from vsproxy.sender import Sender, new_sender
from vsproxy.stream import ExchangeEvents
from vsproxy.timers import NEVER
from vsproxy.unsent import unsent_bytes
from vsproxy.upstream.http1 import WRITE_HIGH
from vsproxy.upstream.server import Server
from vsproxy.wire.http2 import ENHANCE_YOUR_CALM, NO_ERROR, Http2Session
from vsproxy.wire.proxy_header import Ends

_NEVER = NEVER
_NO_ERROR, _CALM = NO_ERROR, ENHANCE_YOUR_CALM

#: Streams at once. Browsers open no more than this, and Chromium reckons with as many.
MAX_STREAMS = 100
#: Bytes that are asked of the session at a time.
OUTPUT = 64 * 1024
_OUTPUT = OUTPUT
#: How long (s) a client has to answer the word that the connection is going to end, and how often it is looked whether
#: it has to.
NOTICE_TIME = LOOK_TIME = 1.0
_NOTICE_TIME, _LOOK_TIME = NOTICE_TIME, LOOK_TIME
#: What a server may send in one go, and the credit (bytes) for which it is worth asking it.
READ, WORTH = 256 * 1024, 16 * 1024
_READ, _WORTH = READ, WORTH
_ALL_HIGH, _ALL_LOW, _MOST_QUEUED = ALL_HIGH, ALL_LOW, MOST_QUEUED
#: How long (s) a client may leave the last frames unread.
LAST_WORDS = 1.0
_LAST_WORDS = LAST_WORDS

# In place of a number of unsent bytes: the client has been told, and what it still sends is dropped.
LINGERING = -1
_LINGERING = LINGERING
# How far the end is.
STAYING, NOTICED, LEFT = range(3)
_STAYING, _NOTICED, _LEFT = STAYING, NOTICED, LEFT


class Http2Life(StreamOwner):
    """See the module. `stats` counts for the listener, `settings` are its limits and timeouts.

    `descriptor` is that of a plain connection whose transport need not be asked, or -1; `origin` is the packed address
    of its peer, or empty.
    """

    __slots__ = (
        "descriptor",
        "end",
        "ends",
        "flush_due",
        "flushing",
        "forwarding",
        "idle_limit",
        "introductions",
        "loop",
        "notice_limit",
        "origin",
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

    def prepare_life(
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
        # Twice what all streams may have under way: the library tells the client of credit for the connection only when
        # it has half of the window to give, and the other half has to be enough.
        window = 2 * (MAX_STREAMS * FIRST_WINDOW + MOST_WINDOW)
        self.session = Http2Session(MAX_STREAMS, FIRST_WINDOW, window)
        self.transport: asyncio.Transport | None = None
        self.sender: Sender | None = None
        self.forwarding: Forwarding | None = None
        #: What a PROXY header has said; None: the connection's own.
        self.ends: Ends | None = None
        self.introductions: Introductions | None = None

        self.streams: dict[int, Http2Stream] = {}
        self.requests = 0
        self.spare_window = MOST_WINDOW
        self.full = set()
        self.ending = set()
        self.pressed = False
        self.queued_most = 0

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

    def eof_received(self) -> bool:
        """asyncio: the client is gone, since HTTP/2 has no half-closed connections."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the client is gone."""
        self.stopped = True
        self.sweep.remove(self)
        self.close_streams()
        if self.introductions is not None:
            self.introductions.end()
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
        if not self.stopped:
            self.write_limit = _NEVER
            self.flush_soon()

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
            if self.full or self.ending or self.pressed:
                self.look_for_room()
        finally:
            self.flushing = False
        if self.session.finished or (self.end == _LEFT and not self.streams):
            self.finish()

    def push(self) -> None:
        """Send what can be sent."""
        while not self.writing_paused and not self.stopped:
            data = self.session.output(_OUTPUT)
            if data:
                self.sender.write(data)  # type: ignore[union-attr]
            if len(data) < _OUTPUT:
                return

    def look_for_room(self) -> None:
        """Tell those streams that have waited for it."""
        if self.pressed:
            self.queued_most = self.session.queued_of_all()
            if self.queued_most <= _ALL_LOW:
                self.pressed = False
                self.on_relief()
        for stream in tuple(self.full):
            stream.look_for_room()  # type: ignore[attr-defined]
        for stream in tuple(self.ending):
            stream.finish_if_sent()  # type: ignore[attr-defined]

    def on_window(self, stream_id: int) -> None:
        """The client has given credit: `flush`, which follows, looks for what it was given for."""

    def on_pong(self) -> None:
        """The client knows that the connection is going to end."""
        if self.end == _NOTICED:
            self.leave()

    def on_goaway(self) -> None:
        """The client begins nothing more."""
        self.end = _LEFT
        self.notice_limit = _NEVER

    # Timed interface

    def on_deadline(self, now: float) -> None:
        """Look at all that may be due; none of it is worth more than a look now and then."""
        self.deadline = now + _LOOK_TIME
        if self.stopped or now >= self.write_limit:
            self.look_at_writing(now)
            return
        since = self.session.frames.waiting_since()
        if since > 0.0 and now >= since + self.settings.header_timeout:
            # Whatever else goes on here: nothing can come on any stream before the rest of it.
            self.session.end(_CALM, "header timeout")
        elif now >= self.idle_limit:
            if self.requests > 0:
                self.session.end(_NO_ERROR, "")
            else:
                self.stats.note_http2("no request")
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
        elif now < self.write_limit:
            return
        elif self.unsent == _LINGERING:
            self.unsent = unsent
            self.write_limit = now + _LAST_WORDS
            self.transport.close()  # type: ignore[union-attr]
        else:
            if not self.stopped:
                self.note_stalled()
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
        self.unsent = _LINGERING
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

    def look_at_total(self) -> None:
        """Hold all streams back if they have too much queued together."""
        self.push()
        self.queued_most = self.session.queued_of_all()
        if self.queued_most >= _ALL_HIGH:
            if not self.pressed:
                self.pressed = True
                self.stats.note_http2("held back")
            for stream in tuple(self.streams.values()):
                stream.hold()

    def has_room(self, number: int) -> bool:
        """Whether a stream that has little queued may have more."""
        if self.pressed:
            if self.queued_most + _READ > _MOST_QUEUED or self.session.credit(number) < _WORTH:
                return False
            self.queued_most += _READ
        return True

    def on_relief(self) -> None:
        """Streams have no longer too much queued together."""
        raise NotImplementedError

    def note_over(self, exchange: ExchangeEvents) -> None:
        """An exchange is over."""
        if self.serving.access_log is not None:
            self.serving.log(exchange, self.settings)  # type: ignore[arg-type]

    def introduction(self, version: str) -> Introduction | None:
        """What servers are told of this connection."""
        if self.introductions is None:
            self.introductions = Introductions(self.ends)
        return self.introductions.of(version, self.transport)  # type: ignore[arg-type]

    def note_stalled(self) -> None:
        """A client has stopped to take what it asked for."""
        self.stats.note_http2("stalled")
