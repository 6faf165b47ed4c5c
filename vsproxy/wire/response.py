# cython: annotation_typing=False
"""Heads of HTTP/1.1 responses from bytes (RFC 9112). No I/O."""

from __future__ import annotations

from vsproxy.errors import BadMessage
from vsproxy.wire.field_names import CONTENT_LENGTH, KEEP_ALIVE, UPGRADE
from vsproxy.wire.fields import HeadParser, known_field
from vsproxy.wire.message import BODY_CHUNKED, BODY_LENGTH, BODY_NONE, BODY_UNTIL_CLOSE, ResponseHead
from vsproxy.wire.syntax import (
    CLASSES,
    VALUE,
    decimal,
    element_end,
    http_minor,
    part,
    same_name,
    skip_blanks,
    trim_blanks,
)

_CLASSES, _VALUE = CLASSES, VALUE
_CONTENT_LENGTH, _KEEP_ALIVE, _UPGRADE = CONTENT_LENGTH, KEEP_ALIVE, UPGRADE
# As in `vsproxy.wire.request`.
_NO_RESPONSE = ResponseHead()


class ResponseParser(HeadParser):
    """Reads response heads, one after the other; limits as in `RequestParser`, every failure is 502."""

    __slots__ = ("_head",)

    _head: ResponseHead

    def __init__(self, max_head: int = 65536, max_fields: int = 256) -> None:
        self.prepare_fields(max_head, max_fields, 502)
        self._head = _NO_RESPONSE

    def parse(self, data: bytes, pos: int) -> ResponseHead | None:
        """Consume data[pos:] up to the end of a head, and return that head; None: more is needed.

        Sets `end`. Raises `BadMessage` (502); the parser is of no use after that.
        """
        if not self.advance(data, pos):
            return None
        head = self._head
        self.check_framing(head.minor)
        head.fields = self.end_to_end()
        if head.status >= 200 and head.status != 204:
            head.content_length = self._length
            head.length = self._length_text
            head.chunked = self._chunked
        head.keep_alive = self.persists(head.minor)
        head.promises_keep_alive = self._keep_alive
        if self._upgrade_listed and head.minor == 1:
            head.upgrade = self._upgrade
        self.reset()
        self._head = _NO_RESPONSE
        return head

    def start_line(self, data: bytes, pos: int, size: int) -> int:
        """Read the status line (RFC 9112 4). Its last space may be missing, as many servers have it."""
        if pos >= size:
            return pos
        buf = data
        if buf[pos] != 72:
            raise BadMessage(502, "bad status line")
        table = _CLASSES
        stop = pos
        while stop < size and table[buf[stop]] & _VALUE:
            stop += 1
        if stop + 1 >= size or buf[stop] != 13 or buf[stop + 1] != 10:
            return self.bad_status_line(data, pos, size)
        code = pos + 9
        if stop - pos >= self._line_limit or stop < code + 3:
            raise BadMessage(502, "bad status line")
        head = ResponseHead.__new__(ResponseHead)
        head.clear()
        self._head = head
        head.status = decimal(data, code, code + 3)
        head.minor = http_minor(data, pos)
        if head.minor < 0 or buf[code - 1] != 32 or head.status < 100 or head.status > 599:
            raise BadMessage(502, "bad status line")
        if stop > code + 3:
            if buf[code + 3] != 32:
                raise BadMessage(502, "bad status line")
            head.reason = part(data, code + 4, stop)
        if stop > code + 3 and head.minor == 1:
            head.line = part(data, pos, stop + 2)
        else:
            head.line = b"HTTP/1.1 %d %b\r\n" % (head.status, head.reason)
        self._in_fields = True
        return stop + 2

    def bad_status_line(self, data: bytes, start: int, size: int) -> int:
        """`start` if the line at `start` is only cut off; else raises."""
        if data.find(b"\n", start, size) < 0:
            return start
        raise BadMessage(502, "bad status line")

    def take(self, kind: int, data: bytes, start: int, name_end: int, end: int) -> bool:
        """Read the fields that a proxy decides about."""
        if kind < _CONTENT_LENGTH or kind > _UPGRADE or known_field(data, start, name_end) != kind:
            return False
        left = skip_blanks(data, name_end + 1, end)
        right = trim_blanks(data, left, end)
        if kind == _KEEP_ALIVE:
            self._head.keepalive_timeout = keepalive_timeout(data, left, right)
        else:
            self.take_framing(kind, data, left, right)
        return True


def keepalive_timeout(data: bytes, start: int, end: int) -> float:
    """The seconds of "timeout=" in a Keep-Alive value, -1.0 if there is none."""
    while start < end:
        start = skip_blanks(data, start, end)
        comma = element_end(data, start, end)
        if same_name(data, start, min(start + 8, comma), b"timeout=", 8):
            return float(decimal(data, start + 8, trim_blanks(data, start, comma)))
        start = comma + 1
    return -1.0


def response_body_mode(head: ResponseHead, method: bytes) -> int:
    """How the body of the response to a `method` request ends, one of BODY_*; also sets `head.body_mode`."""
    status = head.status
    if status < 200 or status == 204 or status == 304 or method == b"HEAD":
        mode = BODY_NONE
    elif head.chunked:
        mode = BODY_CHUNKED
    else:
        mode = BODY_LENGTH if head.content_length >= 0 else BODY_UNTIL_CLOSE
    head.body_mode = mode
    return mode
