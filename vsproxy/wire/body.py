# cython: annotation_typing=False
"""The body of a message: finds its end and undoes chunked framing (RFC 9112 6 and 7)."""

from __future__ import annotations

from vsproxy.errors import BadMessage
from vsproxy.wire.field_names import CLIENT_CERT_NAMES
from vsproxy.wire.message import BODY_CHUNKED, BODY_LENGTH, BODY_NONE, BODY_UNTIL_CLOSE
from vsproxy.wire.syntax import LOWER, field_name_end, hex_digit, is_chunk_extension, part

MAX_CHUNK_SIZE = 2**60
MAX_SIZE_DIGITS = 16
MAX_SIZE_LINE = 1024
QUICK_DIGITS = 8
"""So long a chunk size cannot be too large."""
MAX_EXTENSIONS = 16384
"""Bytes of chunk extensions in one body."""
MAX_TRAILERS = 16384
MAX_TRAILER_FIELDS = 64

FORBIDDEN_TRAILERS = frozenset(
    b"transfer-encoding content-length host connection keep-alive proxy-connection te trailer upgrade "
    b"http2-settings expect cache-control max-forwards pragma range if-match if-none-match "
    b"if-modified-since if-unmodified-since if-range authorization proxy-authorization "
    b"proxy-authenticate www-authenticate authentication-info proxy-authentication-info cookie "
    b"set-cookie age date expires location retry-after vary warning content-encoding content-type "
    b"content-range forwarded via x-forwarded-for x-forwarded-proto x-forwarded-host x-forwarded-port "
    b"x-real-ip x-request-id".split(b" ")
).union(CLIENT_CERT_NAMES)
"""Fields that may not come after the body: framing, routing, connection, credentials (RFC 9110 6.5.1)."""

_NONE, _LENGTH, _CHUNKED, _UNTIL_CLOSE = BODY_NONE, BODY_LENGTH, BODY_CHUNKED, BODY_UNTIL_CLOSE
_MAX_CHUNK, _MAX_DIGITS, _MAX_LINE = MAX_CHUNK_SIZE, MAX_SIZE_DIGITS, MAX_SIZE_LINE
_MAX_EXTENSIONS, _MAX_TRAILERS, _MAX_TRAILER_FIELDS = MAX_EXTENSIONS, MAX_TRAILERS, MAX_TRAILER_FIELDS

_QUICK_DIGITS = QUICK_DIGITS

# What a chunked body expects next
_SIZE, _DATA, _DATA_CR, _DATA_LF, _TRAILER = 0, 1, 2, 3, 4


def chunk_start(size: int) -> bytes:
    """What comes before a chunk of `size` bytes, which is not 0."""
    return b"%x\r\n" % size


def chunk_end(last: bool, trailers: bytes) -> bytes:
    """What comes after a chunk; and, if it is the `last`, the end of the body with `trailers`."""
    return b"".join((b"\r\n0\r\n", trailers, b"\r\n")) if last else b"\r\n"


class BodyReader:
    """Takes a body off the wire. One reader serves many bodies; `start` begins the next.

    `pos`: offset after what the last `feed` consumed. `done`: the body is complete. `remaining`: bytes still
    to come of a body with a length, or of the current chunk. `trailers`: field lines, once `done`.
    """

    __slots__ = (
        "_error_status",
        "_extensions",
        "_line",
        "_mode",
        "_state",
        "_trailer_count",
        "_trailer_size",
        "done",
        "pos",
        "remaining",
        "trailers",
    )

    pos: int
    done: bool
    remaining: int
    trailers: bytes
    _error_status: int
    _mode: int
    _state: int
    _line: bytearray  # a size or trailer line whose LF has not come yet
    _extensions: int
    _trailer_size: int
    _trailer_count: int

    def __init__(self, error_status: int) -> None:
        self.prepare(error_status)

    def prepare(self, error_status: int) -> None:
        """As `__init__`; see `new_body_reader`."""
        self._error_status = error_status
        self._line = bytearray()
        self.pos = 0
        self.start(_NONE, 0)

    def start(self, mode: int, length: int) -> None:
        """Begin a body that ends as `mode` (one of BODY_*) says; `length` counts for BODY_LENGTH only."""
        self._mode = mode
        self.remaining = length if mode == _LENGTH else 0
        self.done = mode == _NONE or (mode == _LENGTH and length == 0)
        self.trailers = b""
        self._state = _SIZE
        self._extensions = 0
        self._trailer_size = 0
        self._trailer_count = 0
        if self._line:
            self._line.clear()

    def feed(self, data: bytes, pos: int) -> bytes:
        """The payload in data[pos:], and no byte beyond the body; `data` itself if it is all payload.

        Raises `BadMessage` with the status given to the constructor when chunked framing is broken.
        """
        size = len(data)
        if self._mode == _CHUNKED and not self.done:
            return self.feed_chunked(data, pos, size)
        if self.done:
            self.pos = pos
            return b""
        count = size - pos
        if self._mode == _LENGTH:
            count = min(count, self.remaining)
            self.remaining -= count
            self.done = self.remaining == 0
        self.pos = pos + count
        return data if count == size else part(data, pos, pos + count)

    def plain_rest(self) -> int:
        """Bytes still to come that are nothing but payload: of a body with a length; 0 for others."""
        return self.remaining if self._mode == _LENGTH else 0

    def eof(self) -> bool:
        """The stream has ended: whether the body is complete by that."""
        if self._mode == _UNTIL_CLOSE:
            self.done = True
        return self.done

    def feed_chunked(self, data: bytes, pos: int, size: int) -> bytes:
        """`feed` for chunked framing."""
        first = b""
        pieces = None
        while pos < size and not self.done:
            state = self._state
            if state == _DATA:
                count = min(size - pos, self.remaining)
                piece = data if count == size else part(data, pos, pos + count)
                if pieces is not None:
                    pieces.append(piece)
                elif first:
                    pieces = [first, piece]
                else:
                    first = piece
                pos += count
                self.remaining -= count
                if self.remaining == 0:
                    self._state = _DATA_CR
            elif state == _DATA_CR and pos + 1 < size and data[pos] == 13 and data[pos + 1] == 10:
                self._state = _SIZE
                pos += 2
            elif _DATA_CR <= state <= _DATA_LF:
                if data[pos] != (13 if state == _DATA_CR else 10):
                    raise BadMessage(self._error_status, "bad chunk end")
                self._state = _DATA_LF if state == _DATA_CR else _SIZE
                pos += 1
            else:
                end = 0
                if state == _SIZE and not self._line:
                    end = self.quick_size(data, pos, size)
                pos = end if end > 0 else self.feed_line(data, pos, size)
        self.pos = pos
        return first if pieces is None else b"".join(pieces)

    # Lines between the data

    def quick_size(self, data: bytes, pos: int, size: int) -> int:
        """Read a size line of few digits and nothing else, which most are; the offset after it, or 0 if it is not."""
        value = 0
        i = pos
        end = min(size, pos + _QUICK_DIGITS)
        while i < end:
            digit = hex_digit(data[i])
            if digit < 0:
                break
            value = value * 16 + digit
            i += 1
        if i == pos or i + 1 >= size or data[i] != 13 or data[i + 1] != 10:
            return 0
        self.remaining = value
        self._state = _DATA if value > 0 else _TRAILER
        return i + 2

    def feed_line(self, data: bytes, pos: int, size: int) -> int:
        """Read a size line or a trailer line at `pos`; the offset after it, or after what there is of it."""
        limit = _MAX_LINE if self._state == _SIZE else _MAX_TRAILERS
        held = len(self._line)
        cut = data.find(b"\n", pos, min(size, pos + limit + 1 - held))
        if cut < 0:
            if size - pos + held > limit:
                raise BadMessage(self._error_status, "chunk line too long")
            self._line += data[pos:size]
            return size
        if held == 0:
            self.take_line(data, pos, cut)
        else:
            self._line += data[pos:cut]
            line = bytes(self._line)
            self._line.clear()
            self.take_line(line, 0, len(line))
        return cut + 1

    def take_line(self, data: bytes, start: int, end: int) -> None:
        """Read data[start:end], a whole line but for its LF."""
        if end == start or data[end - 1] != 13:
            raise BadMessage(self._error_status, "bare lf")
        if self._state == _SIZE:
            self.take_size(data, start, end - 1)
        else:
            self.take_trailer(data, start, end - 1)

    def take_size(self, data: bytes, start: int, end: int) -> None:
        """Read chunk-size and chunk-ext, data[start:end]."""
        value = 0
        i = start
        while i < end and i - start < _MAX_DIGITS:
            digit = hex_digit(data[i])
            if digit < 0:
                break
            value = value * 16 + digit if value <= _MAX_CHUNK // 16 else _MAX_CHUNK + 1
            i += 1
        if i == start or value > _MAX_CHUNK:
            raise BadMessage(self._error_status, "bad chunk size")
        if i < end:
            self._extensions += end - i
            if self._extensions > _MAX_EXTENSIONS or not is_chunk_extension(data, i, end):
                raise BadMessage(self._error_status, "bad chunk size")
        self.remaining = value
        self._state = _DATA if value > 0 else _TRAILER

    def take_trailer(self, data: bytes, start: int, end: int) -> None:
        """Read a trailer line, data[start:end], or the empty line that ends the body."""
        if end == start:
            self.done = True
            return
        self._trailer_size += end - start + 2
        self._trailer_count += 1
        if self._trailer_size > _MAX_TRAILERS or self._trailer_count > _MAX_TRAILER_FIELDS:
            raise BadMessage(self._error_status, "trailers too large")
        name_end = field_name_end(data, start, end)
        if name_end < 0:
            raise BadMessage(self._error_status, "bad trailer")
        name = data[start:name_end].translate(LOWER)
        if name not in FORBIDDEN_TRAILERS and b"_" not in name:
            self.trailers += data[start:end] + b"\r\n"


def new_body_reader(error_status: int) -> BodyReader:
    """A reader, for each connection anew."""
    # Not by a call of the class, which takes the way through Python.
    reader = BodyReader.__new__(BodyReader)
    reader.prepare(error_status)
    return reader
