# cython: annotation_typing=False
"""What is known of an exchange that is over, and the line it makes in the access log, in either format.

JSON keys, in this order: `time` (start of the exchange, RFC 3339 with milliseconds, UTC), `client` (address),
`method`, `host`, `path` (the request target), `proto` ("HTTP/1.1"), `status`, `bytes_in` and `bytes_out` (of
the bodies, from and to the client), `queue_ms` (waited for a server), `connect_ms` (spent connecting),
`first_byte_ms` (until the response began), `total_ms`, `pool`, `server` (address of the last one tried),
`tries`, `request_id`, `outcome` ("ok", "client_gone", "upstream_reset", ...), `listener` (address), `tls`
(true or false), `referer`, `user_agent`. A time that has no meaning for the exchange is null; text that is
not known is "". What a client sent is read as Latin-1, byte by byte, so every line is valid JSON and
`value.encode("latin-1")` gives the bytes back.

Combined: `client - - [day/Mon/year:h:m:s +0000] "method path proto" status bytes_out "referer" "user_agent"`,
where quotes, backslashes, controls and everything above ASCII are written as `\\xHH`.

A line is put together in the buffer that it is written from, and what is the same in many lines is kept as it
stands there: the second, the names.
"""

from __future__ import annotations

import json
import time

from vsproxy.log_text import (
    MOST_DIGITS,
    MOST_OF_DURATION,
    is_plain,
    put,
    put_milliseconds,
    put_number,
    put_text,
    put_three_digits,
    room_for,
)

_NO_SECOND = -1
# Names that are kept escaped; beyond it, as when many clients come and go, all are made anew.
MAX_NAMES = 4096
_MAX_NAMES = MAX_NAMES
# Room for what stands in every line: the keys and punctuation, the time, seven numbers and four durations.
_FIXED = 512 + 7 * MOST_DIGITS + 4 * MOST_OF_DURATION
# Bytes that one character of a name takes at most: two escapes of JSON.
_LONGEST_CHARACTER = 12

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
# By byte, as the two formats have it; what is plain stands for itself.
_JSON = [json.dumps(chr(byte))[1:-1].encode() for byte in range(256)]
_HEX = [bytes([byte]) if is_plain(bytes([byte]), 0, 1) else b"\\x%02X" % byte for byte in range(256)]


class AccessRecord:
    """What is known of one exchange when it has ended; to be filled anew for the next.

    `time` is in seconds since 1970; `queue`, `connect`, `first_byte` and `total` are durations in seconds,
    negative when that did not happen. `bytes_in` and `bytes_out` count bodies. `method` is empty when no
    request could be read. `minor` is that of HTTP/1, or 2 for HTTP/2. The value of Referer is `fields` from `referer`
    to `referer_end`, that of User-Agent from `user_agent` to `user_agent_end`.
    """

    __slots__ = (
        "bytes_in",
        "bytes_out",
        "client",
        "connect",
        "fields",
        "first_byte",
        "host",
        "listener",
        "method",
        "minor",
        "outcome",
        "pool",
        "queue",
        "referer",
        "referer_end",
        "request_id",
        "server",
        "status",
        "target",
        "time",
        "tls",
        "total",
        "tries",
        "user_agent",
        "user_agent_end",
    )

    time: float
    client: str
    listener: str
    method: bytes
    host: bytes
    target: bytes
    minor: int
    status: int
    bytes_in: int
    bytes_out: int
    queue: float
    connect: float
    first_byte: float
    total: float
    pool: str
    server: str
    tries: int
    request_id: bytes
    outcome: str
    fields: bytes
    referer: int
    referer_end: int
    user_agent: int
    user_agent_end: int
    tls: bool

    def __init__(self) -> None:
        self.time = 0.0
        self.client = ""
        self.listener = ""
        self.method = b""
        self.host = b""
        self.target = b""
        self.minor = 1
        self.status = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.queue = -1.0
        self.connect = -1.0
        self.first_byte = -1.0
        self.total = -1.0
        self.pool = ""
        self.server = ""
        self.tries = 0
        self.request_id = b""
        self.outcome = ""
        self.fields = b""
        self.referer = 0
        self.referer_end = 0
        self.user_agent = 0
        self.user_agent_end = 0
        self.tls = False

    def room(self) -> int:
        """Bytes that its line takes at most, in either format."""
        return (
            _FIXED
            + _LONGEST_CHARACTER
            * (len(self.client) + len(self.listener) + len(self.pool) + len(self.server) + len(self.outcome))
            + room_for(len(self.method) + len(self.host) + len(self.target))
            + room_for(len(self.request_id) + self.referer_end - self.referer)
            + room_for(self.user_agent_end - self.user_agent)
        )


class AccessLines:
    """Records to lines of one format. A subclass supplies `put_line`, `stamp` and `escape`."""

    __slots__ = ("_names", "_second", "_stamp")

    def __init__(self) -> None:
        self._second = _NO_SECOND
        self._stamp = b""
        self._names: dict[str, bytes] = {}

    def put_line(self, buf: bytearray, at: int, record: AccessRecord) -> int:
        """Put the line of `record`, ASCII, with its newline, into `buf` at `at`; the offset after it.

        There has to be room for `record.room()` bytes.
        """
        raise NotImplementedError

    def stamp(self, second: int) -> bytes:
        """What stands in a line for a second, given since 1970."""
        raise NotImplementedError

    def escape(self, name: str) -> bytes:
        """How a name, of which we know, is written."""
        raise NotImplementedError

    def stamp_of(self, second: int) -> bytes:
        """The stamp of `second`, made once."""
        if second != self._second:
            self._stamp = self.stamp(second)
            self._second = second
        return self._stamp

    def name(self, text: str) -> bytes:
        """`text` as it is written, escaped once."""
        known = self._names.get(text)
        if known is None:
            if len(self._names) >= _MAX_NAMES:
                self._names.clear()
            known = self._names[text] = self.escape(text)
        return known


class JsonLines(AccessLines):
    """Records to lines of JSON."""

    __slots__ = ()

    def stamp(self, second: int) -> bytes:
        """The beginning of a line, up to the milliseconds."""
        return time.strftime('{"time":"%Y-%m-%dT%H:%M:%S.', time.gmtime(second)).encode()

    def escape(self, name: str) -> bytes:
        """What stands between the quotes."""
        return json.dumps(name)[1:-1].encode()

    def put_line(self, buf: bytearray, at: int, record: AccessRecord) -> int:
        """See `AccessLines`."""
        second = int(record.time)
        at = put(buf, at, self.stamp_of(second))
        at = put_three_digits(buf, at, int((record.time - second) * 1000.0))
        at = put(buf, at, b'Z","client":"')
        at = put(buf, at, self.name(record.client))
        at = put(buf, at, b'","method":"')
        at = put_text(buf, at, record.method, 0, len(record.method), _JSON)
        at = put(buf, at, b'","host":"')
        at = put_text(buf, at, record.host, 0, len(record.host), _JSON)
        at = put(buf, at, b'","path":"')
        at = put_text(buf, at, record.target, 0, len(record.target), _JSON)
        if not record.method:
            at = put(buf, at, b'","proto":"","status":')
        elif record.minor == 1:
            at = put(buf, at, b'","proto":"HTTP/1.1","status":')
        elif record.minor == 2:
            at = put(buf, at, b'","proto":"HTTP/2.0","status":')
        else:
            at = put(buf, at, b'","proto":"HTTP/1.0","status":')
        at = put_number(buf, at, record.status)
        at = self.put_measures(buf, at, record)
        at = put(buf, at, b',"pool":"')
        at = put(buf, at, self.name(record.pool))
        at = put(buf, at, b'","server":"')
        at = put(buf, at, self.name(record.server))
        at = put(buf, at, b'","tries":')
        at = put_number(buf, at, record.tries)
        at = put(buf, at, b',"request_id":"')
        at = put_text(buf, at, record.request_id, 0, len(record.request_id), _JSON)
        at = put(buf, at, b'","outcome":"')
        at = put(buf, at, self.name(record.outcome))
        at = put(buf, at, b'","listener":"')
        at = put(buf, at, self.name(record.listener))
        at = put(buf, at, b'","tls":true,"referer":"' if record.tls else b'","tls":false,"referer":"')
        at = put_text(buf, at, record.fields, record.referer, record.referer_end, _JSON)
        at = put(buf, at, b'","user_agent":"')
        at = put_text(buf, at, record.fields, record.user_agent, record.user_agent_end, _JSON)
        return put(buf, at, b'"}\n')

    def put_measures(self, buf: bytearray, at: int, record: AccessRecord) -> int:
        """How much it was and how long it took."""
        at = put(buf, at, b',"bytes_in":')
        at = put_number(buf, at, record.bytes_in)
        at = put(buf, at, b',"bytes_out":')
        at = put_number(buf, at, record.bytes_out)
        at = put(buf, at, b',"queue_ms":')
        at = put_milliseconds(buf, at, record.queue)
        at = put(buf, at, b',"connect_ms":')
        at = put_milliseconds(buf, at, record.connect)
        at = put(buf, at, b',"first_byte_ms":')
        at = put_milliseconds(buf, at, record.first_byte)
        at = put(buf, at, b',"total_ms":')
        return put_milliseconds(buf, at, record.total)


class CombinedLines(AccessLines):
    """Records to lines of the combined format."""

    __slots__ = ()

    def stamp(self, second: int) -> bytes:
        """What stands between the client and the request; the names of the months do not follow the locale."""
        at = time.gmtime(second)
        return (
            f" - - [{at.tm_mday:02d}/{_MONTHS[at.tm_mon - 1]}/{at.tm_year}"
            f':{at.tm_hour:02d}:{at.tm_min:02d}:{at.tm_sec:02d} +0000] "'
        ).encode()

    def escape(self, name: str) -> bytes:
        """The only text outside quotes: a space would shift all that follows."""
        escaped = b"".join([_HEX[byte] for byte in name.encode("utf-8", "surrogatepass")])
        return escaped.replace(b" ", b"\\x20") or b"-"

    def put_line(self, buf: bytearray, at: int, record: AccessRecord) -> int:
        """See `AccessLines`."""
        at = put(buf, at, self.name(record.client))
        at = put(buf, at, self.stamp_of(int(record.time)))
        if record.method:
            at = put_text(buf, at, record.method, 0, len(record.method), _HEX)
            at = put(buf, at, b" ")
            at = put_text(buf, at, record.target, 0, len(record.target), _HEX)
            if record.minor == 1:
                at = put(buf, at, b' HTTP/1.1" ')
            else:
                at = put(buf, at, b' HTTP/2.0" ' if record.minor == 2 else b' HTTP/1.0" ')
        else:
            at = put(buf, at, b'-" ')
        at = put_number(buf, at, record.status)
        at = put(buf, at, b" ")
        at = put_number(buf, at, record.bytes_out)
        at = put(buf, at, b' "')
        at = put_or_dash(buf, at, record.fields, record.referer, record.referer_end)
        at = put(buf, at, b'" "')
        at = put_or_dash(buf, at, record.fields, record.user_agent, record.user_agent_end)
        return put(buf, at, b'"\n')


def put_or_dash(buf: bytearray, at: int, data: bytes, start: int, end: int) -> int:
    """data[start:end] as the combined format has it."""
    return put_text(buf, at, data, start, end, _HEX) if end > start else put(buf, at, b"-")
