# cython: annotation_typing=False
"""What an HTTP/2 client sends, checked frame by frame before the library sees it (RFC 9113 4 to 6); no I/O.

The library decodes and keeps the states of streams. This is for what it lets pass: frames for streams that the client
itself has ended, priorities that are none, header blocks in crumbs, and what `FloodGuard` finds to be too much. Only
the heads of frames are looked at, no payload is copied or kept.
"""

from __future__ import annotations

from vsproxy.wire.http2_floods import FloodGuard

NO_ERROR = 0
PROTOCOL_ERROR = 1
STREAM_CLOSED = 5
FRAME_SIZE_ERROR = 6
ENHANCE_YOUR_CALM = 11

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

MAX_FRAME_SIZE = 16384
"""Bytes of payload: what we announce, and the least that RFC 9113 4.2 allows."""
MAX_BLOCK = 32768
"""Bytes of one header block, as it comes."""
MAX_CONTINUATIONS = 8
LARGE_INCREMENT = 1 << 30
MAX_OPEN = 1024
"""Requests without an end that are remembered, those included that we have ended and the client has not."""

_DATA, _HEADERS, _PRIORITY, _RST_STREAM, _SETTINGS, _PING, _WINDOW_UPDATE, _CONTINUATION = 0, 1, 2, 3, 4, 6, 8, 9
_ACK = _END_STREAM = 1
_END_HEADERS = 4
_PADDED = 8
_PRIORITIZED = 32
_HEAD = 9  # bytes of a frame before its payload
_STREAM_BITS = 0x7FFFFFFF

_PREFACE = PREFACE
_PREFACE_SIZE = len(PREFACE)
_MAX_FRAME, _MAX_BLOCK, _MAX_CONTINUATIONS = MAX_FRAME_SIZE, MAX_BLOCK, MAX_CONTINUATIONS
_LARGE_INCREMENT, _MAX_OPEN = LARGE_INCREMENT, MAX_OPEN


def wanted(data: bytes, pos: int, size: int) -> int:
    """Bytes of the frame at `pos` that have to be looked at, from its first; `size` is the end of `data`.

    More than are there if the frame's head is not whole.
    """
    if size - pos < _HEAD:
        return _HEAD
    length = data[pos] << 16 | data[pos + 1] << 8 | data[pos + 2]
    kind, flags = data[pos + 3], data[pos + 4]
    extra = 0
    if kind == _HEADERS:
        extra = (1 if flags & _PADDED else 0) + (4 if flags & _PRIORITIZED else 0)
    elif kind == _DATA:
        extra = 1 if flags & _PADDED else 0
    elif kind in (_PRIORITY, _WINDOW_UPDATE):
        extra = 4
    return _HEAD + (extra if extra < length else length)


class FrameCheck:
    """What one client sends. `error`: the error that the connection has to end with, 0 for none; `reason`: why.

    `update_stream` and `update_increment`: see `check`. `guard` has to be told what is sent.
    """

    __slots__ = (
        "_block",
        "_block_since",
        "_block_size",
        "_continuations",
        "_floor",
        "_gap_end",
        "_gap_start",
        "_head",
        "_heading",
        "_last",
        "_left",
        "_now",
        "_open",
        "_preface",
        "error",
        "guard",
        "reason",
        "update_increment",
        "update_stream",
    )

    error: int
    reason: str
    update_stream: int
    update_increment: int
    guard: FloodGuard
    _preface: int  # bytes of it that have come
    _head: bytes  # of a frame, as much as has come
    _left: int  # bytes of a frame still to come after its head
    _block: int  # the stream of a header block that has not ended, or 0
    _block_size: int
    _block_since: float  # when its first frame came
    _heading: bool  # the last frame belongs to a header block
    _now: float
    _continuations: int
    _last: int  # the highest stream that the client has used; -1 for none
    _gap_start: int  # the streams that it left out last
    _gap_end: int
    _open: set[int]  # streams whose request has not ended
    _floor: int  # nothing is known about streams below

    def __init__(self) -> None:
        self.error = NO_ERROR
        self.reason = ""
        self.update_stream = self.update_increment = 0
        self._preface = 0
        self._head = b""
        self._left = 0
        self._block = self._block_size = self._continuations = 0
        self._last = -1
        self._gap_start = self._gap_end = 0
        self._open = set()
        self._floor = 0
        self._heading = False
        self._block_since = self._now = 0.0
        self.guard = FloodGuard()

    def check(self, data: bytes, now: float = 0.0, frames: int = 1 << 30) -> int:
        """How many bytes from the front of `data` the library may have; `now` is a monotonic time in seconds.

        All, unless there are more than so many `frames`, `error` is set, or `update_stream` is not 0. The latter is a
        WINDOW_UPDATE that makes the window of this stream larger by `update_increment`, 2^30 and more, which may be
        too much (RFC 9113 6.9.1: then the stream is reset with FLOW_CONTROL_ERROR, while the library would end the
        connection). Only its owner knows the window: these 13 bytes behind those returned are given to the library or
        left out, and what comes after them is checked by another call. One that comes in pieces is passed on.
        """
        if self.error:
            return 0
        size = len(data)
        pos = 0
        self.update_stream = 0
        self._now = now
        if now - self.guard.time >= 1.0:
            self.guard.forgive(now)
        if self._preface < _PREFACE_SIZE:
            pos = self.take_preface(data, size)
        elif self._head:
            pos = self.finish_head(data, size)
        while pos < size and not self.error:
            if self._left:
                if self._left >= size - pos:
                    self._left -= size - pos
                    return size
                pos += self._left
                self._left = 0
            if frames == 0:
                return pos
            frames -= 1
            need = wanted(data, pos, size)
            if need > size - pos:
                self._head = data[pos:]
                return size
            self.take_head(data, pos, need)
            if self.error:
                break
            if self.update_stream:
                return pos
            pos += need
        return pos

    def waiting_since(self) -> float:
        """Since when (s) a header block is waited for that has not come as a whole; 0: there is none."""
        return self._block_since if self._block or (self._heading and self._left > 0) else 0.0

    def fail(self, error: int, reason: str) -> None:
        """This is the end of the connection."""
        self.error = error
        self.reason = reason
        self.update_stream = 0

    def limit(self, reason: str) -> None:
        """The same for a reason of `guard`, if there is one and nothing worse."""
        if reason and not self.error:
            self.fail(ENHANCE_YOUR_CALM, reason)

    def take_preface(self, data: bytes, size: int) -> int:
        """The offset after the preface, or after as much of it as there is (RFC 9113 3.4)."""
        preface = _PREFACE
        pos = 0
        while pos < size and self._preface < _PREFACE_SIZE:
            if data[pos] != preface[self._preface]:
                self.fail(PROTOCOL_ERROR, "no preface")
                return 0
            self._preface += 1
            pos += 1
        return pos

    def finish_head(self, data: bytes, size: int) -> int:
        """The offset after a head that began earlier, or `size`."""
        pos = 0
        need = wanted(self._head, 0, len(self._head))
        while len(self._head) < need:
            if pos == size:
                return size
            self._head += data[pos : pos + 1]
            pos += 1
            need = wanted(self._head, 0, len(self._head))
        head, self._head = self._head, b""
        self.take_head(head, 0, need)
        self.update_stream = 0
        return 0 if self.error else pos

    def take_head(self, data: bytes, pos: int, need: int) -> None:
        """The frame at `pos`, of which `need` bytes are there."""
        length = data[pos] << 16 | data[pos + 1] << 8 | data[pos + 2]
        kind, flags = data[pos + 3], data[pos + 4]
        stream = (data[pos + 5] << 24 | data[pos + 6] << 16 | data[pos + 7] << 8 | data[pos + 8]) & _STREAM_BITS
        self._left = length - (need - _HEAD)
        self._heading = kind in (_HEADERS, _CONTINUATION)
        content = 0
        if length > _MAX_FRAME:
            self.fail(FRAME_SIZE_ERROR, "frame too large")
        elif (kind == _CONTINUATION) != (self._block != 0) or (self._block and stream != self._block):
            self.fail(PROTOCOL_ERROR, "broken header block")
        elif kind == _DATA:
            content = length
            if flags & _PADDED:
                content -= 1 + (data[pos + _HEAD] if length else 0)
            self.take_data(stream, flags, content)
        elif kind == _HEADERS:
            content = self.take_headers(data, pos + _HEAD, stream, flags, length)
        elif kind == _CONTINUATION:
            content = length
            self.take_continuation(flags, length)
        else:
            self.take_control(data, pos + _HEAD, kind, flags, stream, length)
        self.limit(self.guard.frame(length, content))

    def take_data(self, stream: int, flags: int, content: int) -> None:
        """DATA with so much content."""
        if stream & 1 and stream <= self._last and stream >= self._floor and stream not in self._open:
            self.fail(STREAM_CLOSED, "frame for a closed stream")
        elif content < 0:
            self.fail(PROTOCOL_ERROR, "more padding than frame")
        elif flags & _END_STREAM:
            self._open.discard(stream)
        elif content == 0:
            self.limit(self.guard.empty())
            return
        self.guard.data()

    def take_headers(self, data: bytes, pos: int, stream: int, flags: int, length: int) -> int:
        """HEADERS with their payload at `pos`. Returns the length of the header block in it."""
        content = length
        if flags & _PADDED:
            content -= 1 + (data[pos] if length else 0)
            pos += 1
        if flags & _PRIORITIZED:
            content -= 5
            # Padded, they may be too short to have this whole; the library finds that.
            if content >= 0 and self.depends_on(data, pos) == stream:
                self.fail(PROTOCOL_ERROR, "stream depends on itself")
        if stream & 1:
            self.take_stream(stream, flags)
        self._block_since = self._now
        if flags & _END_HEADERS:
            self.guard.block()
        else:
            self._block = stream
            self._block_size = content
            self._continuations = 0
        if content > 0:
            self.guard.something()
        elif not flags & _END_STREAM:
            self.limit(self.guard.empty())
        return content

    def depends_on(self, data: bytes, pos: int) -> int:
        """The stream that is named in the priority at `pos` (RFC 7540 6.3)."""
        return (data[pos] << 24 | data[pos + 1] << 16 | data[pos + 2] << 8 | data[pos + 3]) & _STREAM_BITS

    def take_stream(self, stream: int, flags: int) -> None:
        """HEADERS of a stream of the client's: the beginning of a request, or its trailers (RFC 9113 5.1)."""
        if stream > self._last:
            if stream > self._last + 2:
                self._gap_start, self._gap_end = self._last + 2, stream - 2
            self._last = stream
            if not flags & _END_STREAM:
                if len(self._open) >= _MAX_OPEN:
                    self._open.clear()
                    self._floor = stream
                self._open.add(stream)
        elif stream in self._open:
            if flags & _END_STREAM:
                self._open.discard(stream)
        elif self._gap_start <= stream <= self._gap_end:
            self.fail(PROTOCOL_ERROR, "stream identifiers out of order")
        elif stream >= self._floor:
            self.fail(STREAM_CLOSED, "frame for a closed stream")

    def take_continuation(self, flags: int, length: int) -> None:
        """CONTINUATION of the block that is open."""
        self._block_size += length
        self._continuations += 1
        if self._block_size > _MAX_BLOCK:
            self.fail(ENHANCE_YOUR_CALM, "header block too large")
        elif self._continuations > _MAX_CONTINUATIONS:
            self.fail(ENHANCE_YOUR_CALM, "continuation flood")
        elif flags & _END_HEADERS:
            self._block = 0
            self.guard.block()
        elif length == 0:
            self.limit(self.guard.empty())

    def take_control(self, data: bytes, pos: int, kind: int, flags: int, stream: int, length: int) -> None:
        """Any other frame, its payload at `pos`."""
        if kind == _PRIORITY:
            if stream == 0:
                self.fail(PROTOCOL_ERROR, "priority of no stream")
            elif length != 5:
                self.fail(FRAME_SIZE_ERROR, "priority of a wrong length")
            elif self.depends_on(data, pos) == stream:
                self.fail(PROTOCOL_ERROR, "stream depends on itself")
        elif kind == _RST_STREAM:
            self._open.discard(stream)
        elif kind == _WINDOW_UPDATE and length == 4 and stream:
            self.update_increment = self.depends_on(data, pos)
            if self.update_increment >= _LARGE_INCREMENT:
                self.update_stream = stream
        self.limit(self.guard.control(kind, flags))
