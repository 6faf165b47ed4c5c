# cython: annotation_typing=False
"""Reads the lines of a head, wherever the network split them, and sorts out what belongs to the connection.

A line is judged once its LF is there, so the outcome cannot depend on how the bytes were split. Whole lines
are read from the caller's bytes without a copy; only a line that is cut off is held back.
"""

from __future__ import annotations

from vsproxy.errors import BadMessage
from vsproxy.wire.field_names import (
    CLIENT_CERT,
    CLIENT_CERT_NAMES,
    CONNECTION,
    CONTENT_LENGTH,
    KNOWN_NAMES,
    LONGEST_KNOWN,
    TRANSFER_ENCODING,
    UNDERSCORED,
    UPGRADE,
    guesses,
)
from vsproxy.wire.syntax import (
    CLASSES,
    LOWER,
    NAME,
    TOKEN,
    VALUE,
    all_of,
    bad_line_reason,
    decimal,
    element_end,
    part,
    same_name,
    skip_blanks,
    trim_blanks,
)

_GUESSES, _CLASSES, _KNOWN_NAMES, _CLIENT_CERT_NAMES = guesses(), CLASSES, KNOWN_NAMES, CLIENT_CERT_NAMES
_LONGEST = LONGEST_KNOWN
_NAME, _TOKEN, _VALUE = NAME, TOKEN, VALUE
_CONTENT_LENGTH, _TRANSFER_ENCODING, _CONNECTION = CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION
_UPGRADE, _CLIENT_CERT, _UNDERSCORED = UPGRADE, CLIENT_CERT, UNDERSCORED


def known_field(data: bytes, start: int, end: int) -> int:
    """Which known field data[start:end] names, 0 if none."""
    length = end - start
    if length == 0 or length > _LONGEST:
        return 0
    kind: int = _GUESSES[32 * length + (data[start] & 31)]
    if kind >= _CLIENT_CERT:
        if kind > _CLIENT_CERT or not (
            same_name(data, start, start + 14, b"x-client-cert-", 14)
            or same_name(data, start, start + 11, b"client-cert", 11)
        ):
            return 0
        return kind if data[start:end].translate(LOWER) in _CLIENT_CERT_NAMES else 0
    name = _KNOWN_NAMES[kind]
    return kind if same_name(data, start, end, name, len(name)) else 0


def without_nominated(fields: bytes, nominated: list[bytes]) -> bytes:
    """`fields` less the lines whose name is in `nominated` (lower case)."""
    names = frozenset(nominated)
    kept = []
    for line in fields.split(b"\n"):
        if line and line[: line.index(b":")].translate(LOWER) not in names:
            kept.append(line)
    return b"\n".join(kept) + b"\n" if kept else b""


class HeadParser:
    """What requests and responses have in common. A subclass supplies `start_line` and `take`.

    `end`: offset after what the last call consumed. `started`: a head has begun and is not complete.
    """

    __slots__ = (
        "_chunked",
        "_close",
        "_complete",
        "_count",
        "_error_status",
        "_in_fields",
        "_keep_alive",
        "_kept",
        "_length",
        "_length_text",
        "_line",
        "_line_limit",
        "_line_status",
        "_lines",
        "_max_fields",
        "_max_head",
        "_nominated",
        "_origin",
        "_pieces",
        "_run",
        "_size",
        "_upgrade",
        "_upgrade_listed",
        "end",
        "started",
    )

    end: int
    started: bool
    # Limits: the head in bytes, its fields, and a start line with the status that a longer one gets
    _max_head: int
    _max_fields: int
    _line_limit: int
    _line_status: int
    _error_status: int
    # Where we are
    _in_fields: bool
    _complete: bool
    _line: bytearray  # a line whose LF has not come yet
    _size: int  # bytes of this head that are in no current buffer any more
    _origin: int  # where this head begins or goes on in the current buffer
    _count: int
    _lines: bytes  # the first run of end-to-end lines
    _pieces: list[bytes] | None  # all runs, if there are more
    _kept: int  # bytes of all runs
    _run: int  # where the present run begins
    # What the fields of the connection said
    _length: int
    _length_text: bytes
    _chunked: bool
    _close: bool
    _keep_alive: bool
    _upgrade_listed: bool
    _upgrade: bytes
    _nominated: list[bytes] | None

    def prepare_fields(self, max_head: int, max_fields: int, error_status: int) -> None:
        """For the subclass's `__init__`: the limits, and the status of what breaks the rules."""
        self.end = 0
        self.started = False
        self._max_head = max_head
        self._max_fields = max_fields
        self._line_limit = max_head
        self._line_status = error_status
        self._error_status = error_status
        self._line = bytearray()
        self.reset()

    def reset(self) -> None:
        """Be ready for the next head."""
        self._in_fields = False
        self._complete = False
        self._size = 0
        self._origin = 0
        self._count = 0
        self._lines = b""
        self._pieces = None
        self._kept = 0
        self._run = 0
        self._length = -1
        self._length_text = b""
        self._chunked = False
        self._close = False
        self._keep_alive = False
        self._upgrade_listed = False
        self._upgrade = b""
        self._nominated = None

    def start_line(self, data: bytes, pos: int, size: int) -> int:
        """Read a start line and set `_in_fields`; the offset after it, or where a cut off line begins."""
        raise NotImplementedError

    def take(self, kind: int, data: bytes, start: int, name_end: int, end: int) -> bool:
        """Read a field that may be the known one `kind`; whether it stays out of `fields`.

        The name is data[start:name_end], the line without CRLF ends at `end`.
        """
        raise NotImplementedError

    # Lines

    def advance(self, data: bytes, pos: int) -> bool:
        """Consume data[pos:] up to the end of the head; whether it is complete. Sets `end`."""
        size = len(data)
        if self._line:
            cut = data.find(b"\n", pos) + 1
            if cut == 0:
                self.hold(data, pos, size)
                return False
            self._line += data[pos:cut]
            line = bytes(self._line)
            self._line.clear()
            self._origin = 0
            self.scan(line, 0, len(line))
            self._size += len(line) - self._origin
            pos = cut
            if self._complete:
                self.end = cut
                self.started = False
                return True
        self._origin = pos
        stop = self.scan(data, pos, size)
        if self._complete:
            self.end = stop
            self.started = False
            return True
        self._size += stop - self._origin
        if stop < size:
            self.hold(data, stop, size)
        self.end = size
        self.started = self._in_fields or len(self._line) > 0
        return False

    def hold(self, data: bytes, start: int, size: int) -> None:
        """Keep data[start:size], the beginning of a line, within the limits."""
        self._line += data[start:size]
        self.end = size
        self.started = True
        if self._in_fields:
            if self._size + len(self._line) > self._max_head:
                raise BadMessage(self.too_large(), "head too large")
        elif len(self._line) > self._line_limit:
            raise BadMessage(self._line_status, "start line too long")

    def scan(self, data: bytes, pos: int, size: int) -> int:
        """Read whole lines from `pos`; the offset where that ended."""
        if not self._in_fields:
            pos = self.start_line(data, pos, size)
            if not self._in_fields:
                return pos
        return self.scan_fields(data, pos, size)

    def scan_fields(self, data: bytes, pos: int, size: int) -> int:
        """Read field lines from `pos` and, if it is there, the empty line; the offset where that ended.

        The loop over every byte of a head, hence one function. It leaves at the first line that is not a
        good and whole field line, whatever the reason; `end_of_fields` finds out which.
        """
        buf = data
        table = _CLASSES
        guesses = _GUESSES
        start = self._run = pos
        while True:
            i = start
            while i < size and table[buf[i]] & _NAME:
                i += 1
            kind = 0
            if i < size and buf[i] == 95:  # "_"
                kind = _UNDERSCORED
                while i < size and table[buf[i]] & _TOKEN:
                    i += 1
            if i >= size or buf[i] != 58 or i == start:
                break
            name_end = i
            i += 1
            # Four at a time: values are most of a head.
            while i + 4 <= size and table[buf[i]] & table[buf[i + 1]] & table[buf[i + 2]] & table[buf[i + 3]] & _VALUE:
                i += 4
            while i < size and table[buf[i]] & _VALUE:
                i += 1
            if i + 1 >= size or buf[i] != 13 or buf[i + 1] != 10:
                break
            self._count += 1
            if self._count > self._max_fields or self._size + i + 1 - self._origin > self._max_head:
                raise BadMessage(self.too_large(), "head too large")
            if kind == 0 and name_end - start <= _LONGEST:
                kind = guesses[32 * (name_end - start) + (buf[start] & 31)]
            if kind != 0 and self.take(kind, data, start, name_end, i):
                if start > self._run:
                    self.keep(data, self._run, start)
                self._run = i + 2
            start = i + 2
        if start > self._run:
            self.keep(data, self._run, start)
        return self.end_of_fields(data, start, i, size)

    def keep(self, data: bytes, start: int, end: int) -> None:
        """data[start:end] are lines that go on."""
        self._kept += end - start
        if self._lines:
            if self._pieces is None:
                self._pieces = [self._lines]
            self._pieces.append(part(data, start, end))
        else:
            self._lines = part(data, start, end)

    def end_of_fields(self, data: bytes, start: int, stop: int, size: int) -> int:
        """The empty line, a line that is cut off, or a bad one, which failed at `stop`."""
        if start + 1 < size and data[start] == 13 and data[start + 1] == 10:
            if self._size + start + 1 - self._origin > self._max_head:
                raise BadMessage(self.too_large(), "head too large")
            self._complete = True
            return start + 2
        cut = data.find(b"\n", start, size)
        if cut < 0:
            return start
        if self._size + cut - self._origin > self._max_head:
            raise BadMessage(self.too_large(), "head too large")
        raise BadMessage(self._error_status, bad_line_reason(data, start, stop))

    def too_large(self) -> int:
        """The status for a head beyond the limits (RFC 6585 5)."""
        return 431 if self._error_status == 400 else self._error_status

    # Fields of the connection

    def take_framing(self, kind: int, data: bytes, start: int, end: int) -> None:
        """Read Content-Length, Transfer-Encoding, Connection or Upgrade; its value is data[start:end]."""
        if kind == _CONTENT_LENGTH:
            length = decimal(data, start, end)
            if length < 0:
                raise BadMessage(self._error_status, "bad content-length")
            # One that repeats itself is common in responses (RFC 9110 8.6 allows to collapse it).
            if self._length >= 0 and (self._error_status == 400 or self._length != length):
                raise BadMessage(self._error_status, "repeated content-length")
            self._length = length
            # Passed on as it came, unless with leading zeros.
            self._length_text = part(data, start, end) if data[start] != 48 else b"%d" % length
        elif kind == _TRANSFER_ENCODING:
            if self._chunked or not same_name(data, start, end, b"chunked", 7):
                raise BadMessage(self._error_status, "bad transfer-encoding")
            self._chunked = True
        elif kind == _CONNECTION:
            self.take_connection(data, start, end)
        elif kind == _UPGRADE:
            value = data[start:end]
            self._upgrade = self._upgrade + b", " + value if self._upgrade else value

    def take_connection(self, data: bytes, start: int, end: int) -> None:
        """Read the options of a Connection field (RFC 9110 7.6.1)."""
        while start < end:
            start = skip_blanks(data, start, end)
            comma = element_end(data, start, end)
            stop = trim_blanks(data, start, comma)
            if same_name(data, start, stop, b"keep-alive", 10):
                self._keep_alive = True
            elif same_name(data, start, stop, b"close", 5):
                self._close = True
            elif same_name(data, start, stop, b"upgrade", 7):
                self._upgrade_listed = True
            elif stop > start:
                if not all_of(data, start, stop, _TOKEN):
                    raise BadMessage(self._error_status, "bad connection option")
                if self._nominated is None:
                    self._nominated = []
                self._nominated.append(data[start:stop].translate(LOWER))
            start = comma + 1

    def persists(self, minor: int) -> bool:
        """Whether the connection is to be kept after this message (RFC 9112 9.3)."""
        return not self._close and (minor == 1 or self._keep_alive)

    def end_to_end(self) -> bytes:
        """The lines of this head that go on to the other side."""
        fields = self._lines if self._pieces is None else b"".join(self._pieces)
        if self._nominated is not None:
            fields = without_nominated(fields, self._nominated)
        return fields

    def check_framing(self, minor: int) -> None:
        """Refuse what two parsers could read differently (RFC 9112 6.1)."""
        if self._chunked and self._length >= 0:
            raise BadMessage(self._error_status, "content-length and transfer-encoding")
        if self._chunked and minor == 0:
            raise BadMessage(self._error_status, "transfer-encoding in http/1.0")
