# cython: annotation_typing=False
"""One HTTP message head, as the wire layer read it and as the rest of the proxy passes it on."""

from __future__ import annotations

from http import HTTPStatus

from vsproxy.wire.syntax import part, same_name, skip_blanks, trim_blanks

BODY_NONE = 0
BODY_LENGTH = 1
BODY_CHUNKED = 2
BODY_UNTIL_CLOSE = 3
"""How the end of a body is found (RFC 9112 6.3)."""

REASONS = {status.value: status.phrase.encode("ascii") for status in HTTPStatus}


class RequestHead:
    """The head of a request; `fields` are end-to-end field lines as received, each with its CRLF.

    Not in `fields`: Host, Content-Length, the fields of the connection (RFC 9110 7.6.1), Expect, and the
    forwarding fields, which have attributes of their own (None: absent; X-Forwarded-For and Forwarded join
    their lines with ", ", of the others the last counts). `client_cert` are the whole lines, as received, of the
    fields about a client's certificate, which are not in `fields` either.
    `target` is byte for byte what was received; of an absolute-form target what follows the authority,
    which became `host`. `line` is the request line as it goes on, with its CRLF. `content_length` -1: absent;
    `length` is the same in decimal digits. `upgrade` is empty unless Connection lists it too.
    `referer` and `referer_end` say where in `fields` the value of the first line of that name is, with blanks around
    it (0 to 0: there is none), `user_agent` and `user_agent_end` the same.
    `minor` is that of HTTP/1, or 2 for HTTP/2.
    `dropped_underscores` are the names of fields that were left out because they contain "_".
    """

    __slots__ = (
        "chunked",
        "client_cert",
        "content_length",
        "dropped_underscores",
        "expect_continue",
        "fields",
        "forwarded",
        "host",
        "keep_alive",
        "length",
        "line",
        "method",
        "minor",
        "path",
        "referer",
        "referer_end",
        "target",
        "te_trailers",
        "upgrade",
        "upgrade_requested",
        "user_agent",
        "user_agent_end",
        "x_forwarded_for",
        "x_forwarded_host",
        "x_forwarded_proto",
        "x_real_ip",
        "x_request_id",
    )

    line: bytes
    method: bytes
    target: bytes
    path: bytes
    host: bytes
    minor: int
    fields: bytes
    referer: int
    referer_end: int
    user_agent: int
    user_agent_end: int
    content_length: int
    length: bytes
    chunked: bool
    keep_alive: bool
    expect_continue: bool
    upgrade: bytes
    upgrade_requested: bool
    te_trailers: bool
    x_forwarded_for: bytes | None
    x_forwarded_proto: bytes | None
    x_forwarded_host: bytes | None
    x_real_ip: bytes | None
    x_request_id: bytes | None
    forwarded: bytes | None
    client_cert: bytes
    dropped_underscores: list[bytes] | None

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Set everything to what it is in a head that says nothing."""
        self.line = b""
        self.method = b""
        self.target = b""
        self.path = b""
        self.host = b""
        self.minor = 1
        self.fields = b""
        self.referer = 0
        self.referer_end = 0
        self.user_agent = 0
        self.user_agent_end = 0
        self.content_length = -1
        self.length = b""
        self.chunked = False
        self.keep_alive = True
        self.expect_continue = False
        self.upgrade = b""
        self.upgrade_requested = False
        self.te_trailers = False
        self.x_forwarded_for = None
        self.x_forwarded_proto = None
        self.x_forwarded_host = None
        self.x_real_ip = None
        self.x_request_id = None
        self.forwarded = None
        self.client_cert = b""
        self.dropped_underscores = None


class ResponseHead:
    """The head of a response; `fields` are end-to-end field lines as received, each with its CRLF.

    Not in `fields`: Content-Length and the fields of the connection (RFC 9110 7.6.1). `line` is the status line
    as it goes on, with its CRLF. `content_length` -1: absent or without meaning (1xx, 204); `length` is the same
    in decimal digits. `keepalive_timeout`: seconds, -1.0 if the server named none; `promises_keep_alive`: it said so.
    `body_mode` is one of BODY_*, set by `response_body_mode`.
    """

    __slots__ = (
        "body_mode",
        "chunked",
        "content_length",
        "fields",
        "keep_alive",
        "keepalive_timeout",
        "length",
        "line",
        "minor",
        "promises_keep_alive",
        "reason",
        "status",
        "upgrade",
    )

    line: bytes
    status: int
    reason: bytes
    minor: int
    fields: bytes
    content_length: int
    length: bytes
    chunked: bool
    keep_alive: bool
    promises_keep_alive: bool
    upgrade: bytes
    keepalive_timeout: float
    body_mode: int

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Set everything to what it is in a head that says nothing."""
        self.line = b""
        self.status = 0
        self.reason = b""
        self.minor = 1
        self.fields = b""
        self.content_length = -1
        self.length = b""
        self.chunked = False
        self.keep_alive = True
        self.promises_keep_alive = False
        self.upgrade = b""
        self.keepalive_timeout = -1.0
        self.body_mode = 0


def make_response(status: int, fields: bytes, body: bytes) -> ResponseHead:
    """The head of an answer made here, for `body` of known length. `fields`: whole lines with CRLF."""
    head = ResponseHead()
    head.status = status
    head.reason = REASONS.get(status, b"")
    head.line = b"HTTP/1.1 %d %b\r\n" % (status, head.reason)
    head.fields = fields
    head.content_length = len(body)
    head.length = b"%d" % len(body)
    head.body_mode = BODY_LENGTH
    return head


def field_start(fields: bytes, name: bytes, length: int) -> int:
    """Where the value of the first line of `fields` called `name` (lower case, of `length`) begins, blanks included.

    `fields` are lines of the form that the parsers produce, each with its CRLF. -1: there is no such line.
    """
    buf = fields
    end = len(fields)
    start = 0
    while start < end:
        colon = start + length
        if colon < end and buf[colon] == 58 and same_name(fields, start, colon, name, length):
            return colon + 1
        while buf[start] != 10:
            start += 1
        start += 1
    return -1


def field_end(fields: bytes, start: int) -> int:
    """Where the line that has `start` in it ends, before its CRLF."""
    buf = fields
    end = start
    while buf[end] != 13:
        end += 1
    return end


def field_value(fields: bytes, name: bytes) -> bytes | None:
    """The value of the first line of `fields` called `name` (lower case), without blanks around it.

    None: there is no such line.
    """
    start = field_start(fields, name, len(name))
    if start < 0:
        return None
    end = field_end(fields, start)
    start = skip_blanks(fields, start, end)
    return part(fields, start, trim_blanks(fields, start, end))
