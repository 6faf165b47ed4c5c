# cython: annotation_typing=False
"""The server's side of one HTTP/2 connection (RFC 9113) without I/O. The only module that knows ngh2.

`Http2Session` takes bytes and calls the methods of a handler; what is to be sent waits until `output` is called.
Streams are told apart by their number alone.
"""

from __future__ import annotations

import time
from typing import Any

import ngh2

from vsproxy.wire.http2_floods import CONTROL_BURST, CONTROL_RATE, RESET_BURST, RESET_RATE
from vsproxy.wire.http2_frames import MAX_CONTINUATIONS, FrameCheck
from vsproxy.wire.http2_handler import Http2Handler

# Error codes (RFC 9113 section 7).
NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR = 0x0, 0x1, 0x2, 0x3
REFUSED_STREAM, CANCEL, ENHANCE_YOUR_CALM = 0x7, 0x8, 0xB

#: Bytes of a header block as decoded, with 32 for each field (RFC 9113 section 6.5.2), that are announced as the most,
#: and at which a connection is ended: in between a client gets its 431.
HEADER_LIST = 32 * 1024
MOST_HEADER_LIST = 2 * HEADER_LIST
#: Fields of a block at which a connection is ended. Cookies may come as one field each.
MOST_FIELDS = 256
#: Streams that a client may have made the session reset, by breaking the protocol there (CVE-2025-8671).
FAULTS, FAULTS_PER_SECOND = 100, 10.0
_FAULTS, _FAULTS_PER_SECOND = FAULTS, FAULTS_PER_SECOND
#: Frames of one client that are dealt with in one go, before it is the turn of others.
TURN = 128
#: The same for window updates that have to be looked at more closely.
LARGE_UPDATES = 32
_TURN, _LARGE_UPDATES = TURN, LARGE_UPDATES
WINDOW_UPDATE_SIZE = 13
MOST_CREDIT = 2**31 - 1
_WINDOW_UPDATE_SIZE, _MOST_CREDIT = WINDOW_UPDATE_SIZE, MOST_CREDIT

CONFIGURATION = ngh2.Configuration(
    auto_window_update=False,
    max_outbound_ack=128,
    max_settings=32,
    # `FloodGuard` comes first, which does not wait for the end of what was read, and knows what it was.
    stream_reset_rate_limit=(2 * RESET_BURST, 2 * RESET_RATE),
    glitch_rate_limit=(2 * CONTROL_BURST, 2 * CONTROL_RATE),
    max_continuations=MAX_CONTINUATIONS,
    max_inbound_header_list_size=MOST_HEADER_LIST,
    max_inbound_header_count=MOST_FIELDS,
)
_REQUEST, _DATA, _TRAILERS = ngh2.RequestReceived, ngh2.DataReceived, ngh2.TrailersReceived
_CLOSED, _WINDOW, _PONG = ngh2.StreamClosed, ngh2.WindowUpdated, ngh2.PingAcknowledged
_NO_ERROR, _RESET = NO_ERROR, ngh2.StreamReset
_GOAWAY, _OVER, _SETTINGS = ngh2.GoAwayReceived, ngh2.ConnectionClosed, ngh2.SettingsReceived
_SERVER = ngh2.Role.SERVER
_FAILURES: Any = (ngh2.NGH2Error, ValueError)


class Http2Session:
    """See the module.

    `finished`: nothing more is to be read, and once `output` gives nothing, the connection is to be closed.
    `code` and `reason` then say why, `reason` being empty unless the client is at fault. `unsettled`: it may yet
    turn out, at the next `output`, that what was reported of a request with a body was against the protocol.
    """

    __slots__ = (
        "code",
        "connection",
        "cut",
        "failed",
        "faults",
        "faults_at",
        "finished",
        "frames",
        "last_stream",
        "reason",
        "resets",
        "rest",
        "unsettled",
    )

    def __init__(self, max_streams: int, stream_window: int, connection_window: int) -> None:
        self.connection: Any = ngh2.Connection(_SERVER, CONFIGURATION)
        self.frames = FrameCheck()
        self.finished = False
        self.code = NO_ERROR
        self.reason = ""
        self.unsettled = False
        self.last_stream = 0
        self.faults = 0.0
        self.faults_at = 0.0
        #: Streams that either side has reset by itself, until they are closed.
        self.resets: set[int] = set()
        #: The library has given up. What is sent in place of anything that it has to say, unless a frame is cut.
        self.failed = False
        self.rest = b""
        self.cut = False
        self.connection.initiate_connection(
            {
                ngh2.Setting.MAX_CONCURRENT_STREAMS: max_streams,
                ngh2.Setting.INITIAL_WINDOW_SIZE: stream_window,
                ngh2.Setting.MAX_HEADER_LIST_SIZE: HEADER_LIST,
                ngh2.Setting.ENABLE_CONNECT_PROTOCOL: 1,
                ngh2.Setting.NO_RFC7540_PRIORITIES: 1,
            }
        )
        self.connection.set_local_window_size(connection_window)

    # From the client

    def receive(self, data: bytes, now: float, handler: Http2Handler) -> bytes:
        """Take bytes that have come at `now`, in seconds of `time.monotonic()`, and tell `handler` what they say.

        What is returned has to be given to another call, after others had their turn: there were many frames.
        """
        if self.finished:
            return b""
        frames = self.frames
        good = frames.check(data, now, _TURN)
        self.pass_on(data if good == len(data) else data[:good], handler)
        updates = 0
        while frames.update_stream and not self.finished:
            data = self.update_window(data, good, handler)
            updates += 1
            if updates == _LARGE_UPDATES:
                return data
            good = frames.check(data, now, _TURN)
            self.pass_on(data if good == len(data) else data[:good], handler)
        if self.finished:
            return b""
        if frames.error:
            self.end(frames.error, frames.reason)
            return b""
        return b"" if good == len(data) else data[good:]

    def pass_on(self, data: bytes, handler: Http2Handler) -> None:
        """Give checked bytes to the library."""
        try:
            self.connection.receive_data(data)
        except _FAILURES as error:
            self.give_up(error)
            return
        self.deliver(handler)

    def update_window(self, data: bytes, at: int, handler: Http2Handler) -> bytes:
        """Take the WINDOW_UPDATE at `at`, or reset its stream: the library would end the connection.

        What comes after it is returned (RFC 9113 section 6.9.1).
        """
        frames = self.frames
        try:
            window = self.connection.stream_remote_window_size(frames.update_stream)
        except _FAILURES:
            window = 0
        after = at + _WINDOW_UPDATE_SIZE
        if window + frames.update_increment > _MOST_CREDIT:
            # Not one of `resets`: it is the client's fault, and counts as one.
            self.connection.reset_stream(frames.update_stream, FLOW_CONTROL_ERROR)
        else:
            self.pass_on(data[at:after], handler)
        return data[after:]

    def deliver(self, handler: Http2Handler) -> None:
        """Tell `handler` what has happened in `receive`, which calls this by itself, or in `output`."""
        for event in self.connection.events():
            kind = type(event)
            if kind is _REQUEST:
                ended = event.end_stream
                self.last_stream = event.stream_id
                if not ended:
                    self.unsettled = True
                handler.on_request(event.stream_id, event.headers, ended)
            elif kind is _CLOSED:
                code = event.error_code
                handler.on_stream_closed(event.stream_id, code, code != _NO_ERROR and self.note_closed(event.stream_id))
            elif kind is _DATA:
                self.unsettled = True
                handler.on_data(event.stream_id, event.data, event.end_stream)
            elif kind is _WINDOW:
                handler.on_window(event.stream_id)
            elif kind is _TRAILERS:
                self.unsettled = True
                handler.on_trailers(event.stream_id, event.headers)
            elif kind is _SETTINGS:
                handler.on_window(0)
            elif kind is _RESET:
                self.resets.add(event.stream_id)
                handler.on_reset(event.stream_id)
            elif kind is _PONG:
                handler.on_pong()
            elif kind is _GOAWAY:
                handler.on_goaway()
            elif kind is _OVER:
                self.note_over(event.error_code)

    def note_closed(self, stream_id: int) -> bool:
        """Whether it was the session that reset a stream, by itself: the client has broken the protocol there.

        That must not become a way to make work.
        """
        if stream_id in self.resets:
            self.resets.discard(stream_id)
            return False
        now = time.monotonic()
        self.faults = max(0.0, self.faults - (now - self.faults_at) * _FAULTS_PER_SECOND) + 1.0
        self.faults_at = now
        if self.faults > _FAULTS and not self.finished:
            self.end(ENHANCE_YOUR_CALM, "stream errors")
        return True

    def note_over(self, code: int) -> None:
        """The library has nothing more to say."""
        self.finished = True
        if self.code == NO_ERROR and code != NO_ERROR:
            self.code = code
            self.reason = self.reason or ("limits exceeded" if code == ENHANCE_YOUR_CALM else "protocol error")

    # To the client

    def output(self, most: int) -> bytes:
        """What is to be sent now, `most` bytes at a time; empty: nothing. `deliver` has then to be called."""
        if not self.failed:
            self.unsettled = False
            try:
                if not self.connection.want_write:
                    return b""
                data: bytes = self.connection.data_to_send(most)
            except _FAILURES as error:
                self.give_up(error)
            else:
                self.cut = len(data) == most
                return data
        data = self.rest
        self.rest = b""
        return data

    def respond(self, stream_id: int, fields: list[tuple[bytes, bytes]], ended: bool) -> None:
        """Send the head of an answer; `ended`: it has no body. Here and below, a stream that is gone is passed over."""
        try:
            self.connection.send_response(stream_id, fields, end_stream=ended)
        except _FAILURES as error:
            self.pass_over(error)

    def interim(self, stream_id: int, fields: list[tuple[bytes, bytes]]) -> None:
        """Send a 1xx head."""
        try:
            self.connection.send_informational_response(stream_id, fields)
        except _FAILURES as error:
            self.pass_over(error)

    def send(self, stream_id: int, data: bytes, ended: bool) -> None:
        """Queue a part of the body; `ended`: the last one."""
        self.frames.guard.sent(len(data))
        try:
            self.connection.send_data(stream_id, data, end_stream=ended)
        except _FAILURES as error:
            self.pass_over(error)

    def send_trailers(self, stream_id: int, fields: list[tuple[bytes, bytes]]) -> None:
        """End a body with fields."""
        try:
            self.connection.send_trailers(stream_id, fields)
        except _FAILURES as error:
            self.pass_over(error)

    def queued(self, stream_id: int) -> int:
        """Bytes of a body that wait for the client's credit, or to be asked for by `output`."""
        queued: int = self.connection.queued_body_size(stream_id)
        return queued

    def queued_of_all(self) -> int:
        """The same of all streams together."""
        queued: int = self.connection.queued_body_size()
        return queued

    def credit(self, stream_id: int) -> int:
        """Bytes that the client would take now on a stream; 0 or less: none."""
        try:
            of_stream: int = self.connection.stream_remote_window_size(stream_id)
        except _FAILURES:
            return 0
        of_all: int = self.connection.remote_window_size
        return min(of_stream, of_all)

    def reset(self, stream_id: int, code: int) -> None:
        """End a stream at once; what is queued there is dropped."""
        self.resets.add(stream_id)
        try:
            self.connection.reset_stream(stream_id, code)
        except _FAILURES as error:
            self.pass_over(error)

    def share(self, stream_id: int) -> None:
        """Let other streams have their turn during a long body (RFC 9218 section 4.2), whatever is the default."""
        try:
            old = self.connection.get_stream_priority(stream_id)
            if old is not None and not old.incremental:
                self.connection.set_stream_priority(stream_id, ngh2.Priority(old.urgency, True))
        except _FAILURES as error:
            self.pass_over(error)

    # Credit

    def consume(self, stream_id: int, amount: int) -> None:
        """Give the client credit for so many bytes of `on_data`, on the stream and on the connection."""
        if self.finished:
            return
        try:
            self.connection.acknowledge_received_data(amount, stream_id)
        except _FAILURES as error:
            self.pass_over(error)

    def widen(self, stream_id: int, window: int) -> None:
        """Let a client have so many bytes under way on one stream."""
        if self.finished:
            return
        try:
            self.connection.set_local_window_size(window, stream_id=stream_id)
        except _FAILURES as error:
            self.pass_over(error)

    # The end

    def notice(self) -> None:
        """Ask the client to begin nothing more (RFC 9113 section 6.8), and for a sign that it knows."""
        if not self.finished:
            self.connection.send_shutdown_notice()
            self.connection.ping()

    def leave(self) -> None:
        """Take no more streams; those that are there go on."""
        if not self.finished:
            self.connection.send_goaway(NO_ERROR)

    def end(self, code: int, reason: str) -> None:
        """Say goodbye with `code`; nothing goes on. `reason`: what the client has done, or empty."""
        if self.finished:
            return
        self.finished = True
        self.code = code
        self.reason = reason
        try:
            self.connection.terminate_connection(code)
        except _FAILURES as error:
            self.give_up(error)

    def give_up(self, error: Exception) -> None:
        """The library has: what it would have said is not known, but the reason can be told."""
        self.failed = True
        if not self.finished:
            self.finished = True
            flood = isinstance(error, ngh2.DenialOfServiceError)
            self.code = ENHANCE_YOUR_CALM if flood else PROTOCOL_ERROR
            self.reason = self.frames.reason or ("limits exceeded" if flood else "not http/2")
            self.rest = b"" if self.cut else goaway(self.last_stream, self.code)

    def pass_over(self, error: Exception) -> None:
        """A call was too late for its stream, which is no fault, unless the connection is no more."""
        if isinstance(error, ngh2.ConnectionStateError):
            self.give_up(error)


def goaway(last_stream: int, code: int) -> bytes:
    """A GOAWAY frame (RFC 9113 section 6.8)."""
    payload = last_stream.to_bytes(4, "big") + code.to_bytes(4, "big")
    return b"\x00\x00\x08\x07\x00\x00\x00\x00\x00" + payload
