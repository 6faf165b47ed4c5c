# cython: annotation_typing=False
"""Heads of HTTP/2 to heads of HTTP/1.1 and back (RFC 9113 section 8). No I/O.

A request's fields are written as a head of HTTP/1.1 and read by the parser of those: so what comes from HTTP/2 is
checked by the same rules, and there is one place that knows them. What the writing itself could hide, a line break or
a colon where none may be, is refused before.
"""

from __future__ import annotations

import base64
import secrets

from vsproxy.errors import BadMessage
from vsproxy.wire.body import FORBIDDEN_TRAILERS, MAX_TRAILER_FIELDS, MAX_TRAILERS
from vsproxy.wire.message import RequestHead, ResponseHead, field_start
from vsproxy.wire.request import RequestParser, new_request_parser
from vsproxy.wire.syntax import CLASSES, TOKEN, VALUE, all_of, part

_CLASSES = CLASSES
_TOKEN, _VALUE = TOKEN, VALUE
_MAX_TRAILERS, _MAX_TRAILER_FIELDS = MAX_TRAILERS, MAX_TRAILER_FIELDS
_FORBIDDEN_TRAILERS = FORBIDDEN_TRAILERS

Fields = list[tuple[bytes, bytes]]

#: Names as servers write them, and as HTTP/2 wants them.
NAMES = {
    written: written.lower()
    for name in (
        b"Accept-Ranges Access-Control-Allow-Credentials Access-Control-Allow-Headers Access-Control-Allow-Methods "
        b"Access-Control-Allow-Origin Access-Control-Expose-Headers Age Allow Alt-Svc Cache-Control "
        b"Content-Disposition Content-Encoding Content-Language Content-Length Content-Range "
        b"Content-Security-Policy Content-Type "
        b"Cross-Origin-Opener-Policy Date ETag Expires Last-Modified Link Location P3P Permissions-Policy Pragma "
        b"Referrer-Policy Retry-After Server Server-Timing Set-Cookie Strict-Transport-Security Vary Via "
        b"WWW-Authenticate X-Content-Type-Options X-Frame-Options X-Powered-By X-Request-ID X-XSS-Protection"
    ).split()
    for written in (name, name.lower())
}
_NAMES = NAMES
STATUSES = [b"%d" % status for status in range(1000)]
_STATUSES = STATUSES
VIA = (b"via", b"1.1 vsproxy")
_VIA = VIA


class Http2HeadReader:
    """Reads the heads of the requests on one connection; the limits are those of `RequestParser`."""

    __slots__ = ("keep_underscores", "max_fields", "max_head", "max_target", "parser")

    def __init__(self, max_head: int, max_fields: int, max_target: int, keep_underscores: bool) -> None:
        self.max_head = max_head
        self.max_fields = max_fields
        self.max_target = max_target
        self.keep_underscores = keep_underscores
        self.parser: RequestParser | None = None

    def read(self, fields: tuple[tuple[bytes, bytes], ...], ended: bool) -> RequestHead:
        """The head that `fields` are; `ended`: no body follows. Raises `BadMessage`.

        The body of one that does not say how long it will be is going to be chunked. An extended CONNECT (RFC 8441)
        becomes the GET that asks HTTP/1.1 for the same.
        """
        lines = head_lines(fields)
        if self.parser is None:
            self.parser = new_request_parser(self.max_head, self.max_fields, self.max_target, self.keep_underscores)
        try:
            head = self.parser.parse(lines, 0)
            if head is None or self.parser.end != len(lines):
                raise BadMessage(400, "bad field")
        except BadMessage:
            # It is of no use after that.
            self.parser = None
            raise
        if head.chunked or not head.keep_alive:
            raise BadMessage(400, "connection-specific field")
        head.minor = 2
        if not head.upgrade_requested and not ended and head.content_length < 0:
            head.chunked = True
        return head


def head_lines(fields: tuple[tuple[bytes, bytes], ...]) -> bytes:
    """A head of HTTP/1.1; what its parser is going to see is what was sent, line by line. Raises `BadMessage`."""
    method = path = authority = protocol = scheme = host = cookie = b""
    # The first six are known last.
    pieces = [b""] * 6
    count = 3
    for name, value in fields:
        if name and name[0] == 58:
            if name == b":method":
                method = value
            elif name == b":path":
                path = value
            elif name == b":authority":
                authority = value
            elif name == b":scheme":
                scheme = value
            elif name == b":protocol":
                protocol = value
            else:
                raise BadMessage(400, "unknown pseudo-field")
        elif name == b"cookie":
            # Crumbs of one field (RFC 9113 section 8.2.3).
            cookie = b"; ".join((cookie, value)) if cookie else value
        elif name == b"host":
            if host and host != value:
                raise BadMessage(400, "bad host")
            host = value
        elif not protocol or name != b"sec-websocket-key":
            # The key is ours: it has no meaning in HTTP/2.
            check_name(name)
            pieces.append(name)
            pieces.append(b": ")
            pieces.append(value)
            pieces.append(b"\r\n")
            count += 1
    if host and authority and host.lower() != authority.lower():
        raise BadMessage(400, "host is not :authority")
    check_target(method, path, scheme, protocol)
    if cookie:
        pieces += (b"cookie: ", cookie, b"\r\n")
        count += 1
    if protocol:
        method = b"GET"
        pieces += (b"connection: upgrade\r\nupgrade: ", protocol, b"\r\n")
        count += 2
        if protocol.lower() == b"websocket":
            pieces += (b"sec-websocket-key: ", base64.b64encode(secrets.token_bytes(16)), b"\r\n")
            count += 1
    pieces.append(b"\r\n")
    pieces[0] = method
    pieces[1] = b" "
    pieces[2] = path
    pieces[3] = b" HTTP/1.1\r\nHost: "
    pieces[4] = authority or host
    pieces[5] = b"\r\n"
    head = b"".join(pieces)
    if head.count(b"\n") != count:
        raise BadMessage(400, "bad field")
    return head


def check_name(name: bytes) -> None:
    """Refuse a name with a colon, a space or an upper-case letter in it, and fields of the connection."""
    size = len(name)
    if not is_lower(name, size):
        raise BadMessage(400, "bad field name")
    if size == 10:
        refused = name == b"connection" or name == b"keep-alive"
    elif size == 17:
        refused = name == b"transfer-encoding"
    elif size == 7:
        refused = name == b"upgrade"
    elif size == 16:
        refused = name == b"proxy-connection"
    else:
        return
    if refused:
        raise BadMessage(400, "connection-specific field")


def is_lower(name: bytes, size: int) -> bool:
    """Whether `name`, of `size` bytes, is a field name of HTTP/2 (RFC 9113 section 8.2.1)."""
    table = _CLASSES
    i = 0
    while i < size and table[name[i]] & _TOKEN and not 65 <= name[i] <= 90:
        i += 1
    return i == size and size > 0


def check_target(method: bytes, path: bytes, scheme: bytes, protocol: bytes) -> None:
    """Refuse what could not be a request line, or not this one."""
    if method == b"CONNECT" and not protocol:
        raise BadMessage(405, "connect")
    if protocol and (method != b"CONNECT" or not all_of(protocol, 0, len(protocol), _TOKEN)):
        raise BadMessage(400, "bad protocol")
    if (not path or path[0] != 47) and not (path == b"*" and method == b"OPTIONS"):
        raise BadMessage(400, "bad target")
    if scheme != b"https" and scheme != b"http" and scheme.lower() not in (b"https", b"http"):
        raise BadMessage(400, "bad scheme")


def response_fields(head: ResponseHead, via: bool, hsts: bytes) -> Fields:
    """The fields of a final answer, `:status` first; `hsts` is as of `response_lines`."""
    fields: Fields = [(b":status", _STATUSES[head.status])]
    add_lines(fields, head.fields)
    if head.content_length >= 0 and head.status != 204:
        fields.append((b"content-length", head.length))
    if via:
        fields.append(_VIA)
    if hsts and field_start(head.fields, b"strict-transport-security", 25) < 0:
        add_lines(fields, hsts)
    return fields


def interim_fields(head: ResponseHead) -> Fields:
    """The fields of a 1xx."""
    fields: Fields = [(b":status", _STATUSES[head.status])]
    add_lines(fields, head.fields)
    return fields


def opened_fields(head: ResponseHead) -> Fields:
    """The fields of a 200 in place of a 101 (RFC 8441 section 5): what belongs to the handshake of HTTP/1.1 is left."""
    fields: Fields = [(b":status", b"200")]
    add_lines(fields, head.fields)
    return [field for field in fields if field[0] != b"sec-websocket-accept"]


def trailer_fields(lines: bytes) -> Fields:
    """Trailers of HTTP/1.1 as fields."""
    fields: Fields = []
    add_lines(fields, lines)
    return fields


def add_lines(fields: Fields, lines: bytes) -> None:
    """Add field lines, of the form that the parsers produce, each with its CRLF."""
    buf = lines
    end = len(lines)
    start = 0
    while start < end:
        colon = start
        while buf[colon] != 58:
            colon += 1
        stop = colon + 1
        while buf[stop] != 10:
            stop += 1
        left = colon + 1
        right = stop - 1
        while left < right and (buf[left] == 32 or buf[left] == 9):
            left += 1
        while right > left and (buf[right - 1] == 32 or buf[right - 1] == 9):
            right -= 1
        written = part(lines, start, colon)
        name = _NAMES.get(written)
        fields.append((written.lower() if name is None else name, part(lines, left, right)))
        start = stop + 1


def trailer_lines(fields: tuple[tuple[bytes, bytes], ...]) -> bytes:
    """Trailers of HTTP/2 as lines, without those that may not come after a body. Raises `BadMessage`."""
    pieces: list[bytes] = []
    if len(fields) > _MAX_TRAILER_FIELDS:
        raise BadMessage(400, "trailers too large")
    size = 0
    for name, value in fields:
        check_name(name)
        if value and not all_of(value, 0, len(value), _VALUE):
            raise BadMessage(400, "bad trailer")
        size += len(name) + len(value) + 4
        if name not in _FORBIDDEN_TRAILERS and b"_" not in name:
            pieces += (name, b": ", value, b"\r\n")
    if size > _MAX_TRAILERS:
        raise BadMessage(400, "trailers too large")
    return b"".join(pieces)
