# cython: annotation_typing=False
"""Heads of HTTP/1.1 requests from bytes (RFC 9112). No I/O."""

from __future__ import annotations

from vsproxy.errors import BadMessage
from vsproxy.wire.field_names import (
    CLIENT_CERT,
    EXPECT,
    FORWARDED,
    HOST,
    REFERER,
    TE,
    UNDERSCORED,
    UPGRADE,
    USER_AGENT,
    X_FORWARDED_FOR,
    X_FORWARDED_HOST,
    X_FORWARDED_PROTO,
    X_REAL_IP,
)
from vsproxy.wire.fields import HeadParser, known_field
from vsproxy.wire.message import BODY_CHUNKED, BODY_LENGTH, BODY_NONE, RequestHead, field_end, field_start
from vsproxy.wire.syntax import (
    CLASSES,
    PATH,
    TARGET,
    TOKEN,
    http_minor,
    is_host,
    is_version,
    lists_trailers,
    part,
    same_name,
    skip_blanks,
    trim_blanks,
)

_CLASSES = CLASSES
_TOKEN, _TARGET, _PATH = TOKEN, TARGET, PATH
_HOST, _UPGRADE, _TE, _EXPECT, _UNDERSCORED = HOST, UPGRADE, TE, EXPECT, UNDERSCORED
_X_FORWARDED_FOR, _X_FORWARDED_PROTO, _X_FORWARDED_HOST = X_FORWARDED_FOR, X_FORWARDED_PROTO, X_FORWARDED_HOST
_X_REAL_IP, _FORWARDED, _CLIENT_CERT = X_REAL_IP, FORWARDED, CLIENT_CERT
_REFERER, _USER_AGENT = REFERER, USER_AGENT

LONGEST_METHOD = 32
_LONGEST_METHOD = LONGEST_METHOD
# Room in the request line for what is not the target: method, two spaces, version, CR.
_LINE_ROOM = LONGEST_METHOD + 32
# What a parser between two heads holds, so that an idle connection keeps none alive.
_NO_REQUEST = RequestHead()


class RequestParser(HeadParser):
    """Reads request heads, one after the other, from whatever pieces arrive.

    `max_head` bounds a whole head in bytes (431), `max_fields` its field lines (431), `max_target` the
    target (414). Names with "_" are dropped unless `keep_underscores`; those that a back end could take for
    a field the proxy decides about are always dropped.
    """

    __slots__ = ("_authority", "_blank_seen", "_head", "_keep_underscores", "_max_target")

    _max_target: int
    _keep_underscores: bool
    _blank_seen: bool
    _authority: bytes  # of an absolute-form target: it replaces Host (RFC 9112 3.2.2)
    _head: RequestHead

    def __init__(self, max_head: int, max_fields: int, max_target: int, keep_underscores: bool) -> None:
        self.prepare(max_head, max_fields, max_target, keep_underscores)

    def prepare(self, max_head: int, max_fields: int, max_target: int, keep_underscores: bool) -> None:
        """As `__init__`; see `new_request_parser`."""
        self.prepare_fields(max_head, max_fields, 400)
        self._max_target = max_target
        self._keep_underscores = keep_underscores
        self._blank_seen = False
        self._authority = b""
        self._head = _NO_REQUEST
        self._line_limit = min(max_head, max_target + _LINE_ROOM)
        self._line_status = 414

    def parse(self, data: bytes, pos: int) -> RequestHead | None:
        """Consume data[pos:] up to the end of a head, and return that head; None: more is needed.

        Sets `end`. Raises `BadMessage` (400, 405, 414, 417, 431, 505); the parser is of no use after that.
        """
        if not self.advance(data, pos):
            return None
        head = self._head
        if head.minor == 1 and not head.host:
            raise BadMessage(400, "no host")
        self.check_framing(head.minor)
        if self._authority:
            head.host = self._authority
        head.fields = self.end_to_end()
        if self._nominated is not None:
            self.note_again()
        head.content_length = self._length
        head.length = self._length_text
        head.chunked = self._chunked
        head.keep_alive = self.persists(head.minor)
        if head.minor == 0:
            head.expect_continue = False  # RFC 9110 10.1.1
        elif self._upgrade_listed:
            head.upgrade = self._upgrade
        self.reset()
        self._head = _NO_REQUEST
        self._blank_seen = False
        self._authority = b""
        return head

    # The request line

    def start_line(self, data: bytes, pos: int, size: int) -> int:
        """Read the request line (RFC 9112 3), after one empty line at most."""
        if pos < size and data[pos] == 13 and not self._blank_seen:
            if pos + 1 >= size or data[pos + 1] != 10:
                return self.bad_request_line(data, pos, size)
            self._blank_seen = True
            pos += 2
            self._origin = pos
        if pos >= size:
            return pos
        if not _CLASSES[data[pos]] & _TOKEN:
            raise BadMessage(400, "bad method")
        return self.request_line(data, pos, size)

    def request_line(self, data: bytes, start: int, size: int) -> int:
        """Method, target and version of the line at `start`; the offset after it, or `start` if cut off."""
        buf = data
        table = _CLASSES
        i = start
        while i < size and table[buf[i]] & _TOKEN:
            i += 1
        method_end = i
        target = i + 1
        if i >= size or buf[i] != 32:
            return self.bad_request_line(data, start, size)
        i = target
        while i < size and table[buf[i]] & _PATH:
            i += 1
        path_end = i
        while i < size and table[buf[i]] & _TARGET:
            i += 1
        stop = i + 10
        if i == target or stop >= size or buf[i] != 32 or buf[stop] != 10 or buf[stop - 1] != 13:
            return self.bad_request_line(data, start, size)
        minor = http_minor(data, i + 1)
        if minor < 0:
            return self.bad_request_line(data, start, size)
        if stop - start > self._line_limit or i - target > self._max_target:
            raise BadMessage(414, "target too long")
        # Not by a call of the class, which takes the way through Python.
        head = RequestHead.__new__(RequestHead)
        head.clear()
        self._head = head
        head.minor = minor
        head.method = part(data, start, method_end)
        if method_end - start > _LONGEST_METHOD:
            raise BadMessage(400, "bad method")
        if head.method == b"CONNECT":
            raise BadMessage(405, "connect")
        if buf[target] == 47:
            head.target = part(data, target, i)
            head.path = head.target if path_end == i else part(data, target, path_end)
        else:
            self.take_other_target(data, target, i)
        if minor == 1 and buf[target] == 47:
            head.line = part(data, start, stop + 1)
        else:
            head.line = b"%b %b HTTP/1.1\r\n" % (head.method, head.target)
        self._in_fields = True
        return stop + 1

    def bad_request_line(self, data: bytes, start: int, size: int) -> int:
        """`start` if the line at `start` is only cut off; else raises."""
        cut = data.find(b"\n", start, size)
        if cut < 0:
            return start
        if cut - start > self._line_limit:
            raise BadMessage(414, "start line too long")
        version = cut - 9
        if (
            version > start
            and data[cut - 1] == 13
            and is_version(data, version)
            and http_minor(data, version) < 0
        ):
            raise BadMessage(505, "unsupported version")
        raise BadMessage(400, "bad request line")

    def take_other_target(self, data: bytes, start: int, end: int) -> None:
        """Accept a target in absolute-form, or "*" of OPTIONS (RFC 9112 3.2)."""
        head = self._head
        if end == start + 1 and data[start] == 42 and head.method == b"OPTIONS":
            head.target = head.path = b"*"
            return
        if same_name(data, start, min(start + 7, end), b"http://", 7):
            start += 7
        elif same_name(data, start, min(start + 8, end), b"https://", 8):
            start += 8
        else:
            raise BadMessage(400, "bad target")
        rest = start
        while rest < end and data[rest] != 47 and data[rest] != 63:
            rest += 1
        if not is_host(data, start, rest):
            raise BadMessage(400, "bad target")
        self._authority = data[start:rest]
        target = data[rest:end]
        if not target:
            target = b"*" if head.method == b"OPTIONS" else b"/"
        elif data[rest] == 63:
            target = b"/" + target
        head.target = target
        question = target.find(b"?")
        head.path = target if question < 0 else target[:question]

    # Fields

    def take(self, kind: int, data: bytes, start: int, name_end: int, end: int) -> bool:
        """Read the fields that a proxy decides about."""
        if kind >= _REFERER:
            self.note(kind, data, start, name_end, end)
            return False
        if kind == _UNDERSCORED:
            return self.take_underscored(data, start, name_end)
        if known_field(data, start, name_end) != kind:
            return False
        if kind == _CLIENT_CERT:
            self._head.client_cert += data[start : end + 2]
            return True
        left = skip_blanks(data, name_end + 1, end)
        right = trim_blanks(data, left, end)
        head = self._head
        if kind == _HOST:
            if head.host or not is_host(data, left, right):
                raise BadMessage(400, "bad host")
            head.host = part(data, left, right)
        elif kind >= _X_FORWARDED_FOR:
            self.take_forwarding(kind, part(data, left, right))
        elif kind == _TE:
            head.te_trailers = head.te_trailers or lists_trailers(data, left, right)
        elif kind == _EXPECT:
            if not same_name(data, left, right, b"100-continue", 12):
                raise BadMessage(417, "unknown expectation")
            head.expect_continue = True
        else:
            if kind == _UPGRADE:
                head.upgrade_requested = True
            self.take_framing(kind, data, left, right)
        return True

    def note(self, kind: int, data: bytes, start: int, name_end: int, end: int) -> None:
        """Store where in `fields` the value of a field is that may be logged in the end."""
        head = self._head
        offset = self._kept - self._run
        if kind == _REFERER:
            if head.referer == 0 and same_name(data, start, name_end, b"referer", 7):
                head.referer = name_end + 1 + offset
                head.referer_end = end + offset
        elif head.user_agent == 0 and same_name(data, start, name_end, b"user-agent", 10):
            head.user_agent = name_end + 1 + offset
            head.user_agent_end = end + offset

    def note_again(self) -> None:
        """As `note`, after lines were taken out from among those that had been counted."""
        head = self._head
        fields = head.fields
        head.referer = max(field_start(fields, b"referer", 7), 0)
        head.user_agent = max(field_start(fields, b"user-agent", 10), 0)
        head.referer_end = field_end(fields, head.referer) if head.referer > 0 else 0
        head.user_agent_end = field_end(fields, head.user_agent) if head.user_agent > 0 else 0

    def take_forwarding(self, kind: int, value: bytes) -> None:
        """Store what an earlier proxy, or the client posing as one, said about the request."""
        head = self._head
        if kind == _X_FORWARDED_FOR:
            earlier = head.x_forwarded_for
            head.x_forwarded_for = value if earlier is None else earlier + b", " + value
        elif kind == _FORWARDED:
            earlier = head.forwarded
            head.forwarded = value if earlier is None else earlier + b", " + value
        # Of the others the last counts: it is the one that the nearest proxy added.
        elif kind == _X_FORWARDED_PROTO:
            head.x_forwarded_proto = value
        elif kind == _X_FORWARDED_HOST:
            head.x_forwarded_host = value
        elif kind == _X_REAL_IP:
            head.x_real_ip = value
        else:
            head.x_request_id = value

    def take_underscored(self, data: bytes, start: int, name_end: int) -> bool:
        """Whether a field with "_" in its name is dropped."""
        name = data[start:name_end]
        if self._keep_underscores and not known_field(name.replace(b"_", b"-"), 0, len(name)):
            return False
        head = self._head
        if head.dropped_underscores is None:
            head.dropped_underscores = []
        head.dropped_underscores.append(name)
        return True


def new_request_parser(
    max_head: int, max_fields: int, max_target: int, keep_underscores: bool
) -> RequestParser:
    """A parser, for each connection anew."""
    # Not by a call of the class, which takes the way through Python.
    parser = RequestParser.__new__(RequestParser)
    parser.prepare(max_head, max_fields, max_target, keep_underscores)
    return parser


def request_body_mode(head: RequestHead) -> int:
    """How the body of a request ends, one of BODY_* (RFC 9112 6.3)."""
    if head.chunked:
        return BODY_CHUNKED
    return BODY_LENGTH if head.content_length >= 0 else BODY_NONE
