"""The access log: one line per exchange, as JSON or in the combined format of Apache and nginx.

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

The line is made on the loop thread. Formatting in the writer thread costs the same processor time, since both
hold the interpreter's lock for it, and was measured to raise the slowest 0.1 % of the loop's steps from 0.15
to 1.6 ms, because the loop then waits for that lock.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from vsproxy.log_writer import CLOSE_TIMEOUT, LogWriter

AccessFormat = Literal["json", "combined", "off"]

# What can stand in either format as it is: printable ASCII without quote and backslash.
_PLAIN = bytes(code for code in range(0x20, 0x7F) if code not in b'"\\')
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_HEX_ESCAPES = {code: f"\\x{code:02X}" for code in range(256) if code not in _PLAIN}
_HEX_SPACE = "\\x20"
_NO_SECOND = -1


@dataclass(slots=True, kw_only=True)
class AccessRecord:
    """What is known of one exchange when it has ended.

    `time` is in seconds since 1970; `queue`, `connect`, `first_byte` and `total` are durations in seconds,
    negative when that did not happen. `bytes_in` and `bytes_out` count bodies. `method` is empty when no
    request could be read. `minor` is that of HTTP/1.
    """

    time: float
    client: str
    listener: str
    method: bytes = b""
    host: bytes = b""
    target: bytes = b""
    minor: int = 1
    status: int
    bytes_in: int = 0
    bytes_out: int = 0
    queue: float = -1.0
    connect: float = -1.0
    first_byte: float = -1.0
    total: float = -1.0
    pool: str = ""
    server: str = ""
    tries: int = 0
    request_id: bytes
    outcome: str
    referer: bytes = b""
    user_agent: bytes = b""
    tls: bool


class AccessLog:
    """Formats records and hands the lines to a writer thread.

    `format` is "json", "combined" or "off" (then nothing is opened or written); `path` is a file, a FIFO or
    `-` for stdout. All methods are for the thread of the loop, `reopen` from `loop.add_signal_handler`, but
    `close` may be called in another one once nothing is logged any more, as it waits for the disk.

    To change format or path, start the new log beside the old one, which is where it can fail; log to it, and
    close the old one. No line is lost then or written twice.
    """

    def __init__(self, format: AccessFormat, path: str, lock: int | None = None) -> None:
        """`lock` is a descriptor that all processes with a log at `path` have in common, as `LogLock` says.

        Without one, lines longer than PIPE_BUF (4 KiB) may be mixed with those of another process, unless
        `path` is a file. Raises ValueError for an unknown format.
        """
        if format not in ("json", "combined", "off"):
            raise ValueError(f"access log format {format!r}")
        lines = JsonLines() if format == "json" else CombinedLines()
        self._line: Callable[[AccessRecord], str] = lines.line
        self._writer = None if format == "off" else LogWriter(path, lock)

    @property
    def written(self) -> int:
        """Lines that the system has taken."""
        return self._writer.written if self._writer else 0

    @property
    def lost(self) -> int:
        """Lines that could not be written: full disk, broken pipe, a reader too slow for 8 MiB of queue."""
        return self._writer.lost if self._writer else 0

    def start(self) -> None:
        """Open the output and start the writer thread. Raises OSError that names the path if that fails."""
        if self._writer:
            self._writer.start()

    def log(self, record: AccessRecord) -> None:
        """Write one line, soon. Never blocks, never raises; what cannot be written is counted in `lost`."""
        if self._writer:
            self._writer.put(self._line(record))

    def reopen(self) -> None:
        """Open the path again, after the file was renamed. No line is lost or torn. No effect on stdout."""
        if self._writer:
            self._writer.reopen()

    def close(self, timeout: float = CLOSE_TIMEOUT) -> None:
        """Write what is queued, for at most about `timeout` seconds, and close. Later lines are lost."""
        if self._writer:
            self._writer.close(timeout)


class JsonLines:
    """Records to lines of JSON."""

    def __init__(self) -> None:
        self._second = _NO_SECOND
        self._stamp = ""
        self._encode = json.JSONEncoder().encode

    def line(self, record: AccessRecord) -> str:
        """The line for `record`, ASCII, with its newline."""
        second = int(record.time)
        if second != self._second:
            self._second = second
            self._stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        fields = (
            record.method, record.host, record.target, record.request_id, record.referer, record.user_agent
        )
        names = (record.client, record.pool, record.server, record.outcome, record.listener)
        if are_plain(fields, names):
            method, host, target, request_id, referer, user_agent = decode(fields)
            client, pool, server, outcome, listener = names
        else:
            method, host, target, request_id, referer, user_agent = map(self._escape, decode(fields))
            client, pool, server, outcome, listener = map(self._escape, names)
        return (
            f'{{"time":"{self._stamp}.{int((record.time - second) * 1000):03d}Z","client":"{client}",'
            f'"method":"{method}","host":"{host}","path":"{target}","proto":"{protocol(record)}",'
            f'"status":{record.status},"bytes_in":{record.bytes_in},"bytes_out":{record.bytes_out},'
            f'"queue_ms":{milliseconds(record.queue)},"connect_ms":{milliseconds(record.connect)},'
            f'"first_byte_ms":{milliseconds(record.first_byte)},"total_ms":{milliseconds(record.total)},'
            f'"pool":"{pool}","server":"{server}","tries":{record.tries},"request_id":"{request_id}",'
            f'"outcome":"{outcome}","listener":"{listener}","tls":{"true" if record.tls else "false"},'
            f'"referer":"{referer}","user_agent":"{user_agent}"}}\n'
        )

    def _escape(self, text: str) -> str:
        return self._encode(text)[1:-1]


class CombinedLines:
    """Records to lines of the combined format."""

    def __init__(self) -> None:
        self._second = _NO_SECOND
        self._stamp = ""

    def line(self, record: AccessRecord) -> str:
        """The line for `record`, ASCII, with its newline."""
        second = int(record.time)
        if second != self._second:
            self._second = second
            self._stamp = combined_time(second)
        fields = (record.method, record.target, record.referer, record.user_agent)
        method, target, referer, user_agent = decode(fields)
        client = record.client
        if not are_plain(fields, (client,)):
            method, target, referer, user_agent = (
                text.translate(_HEX_ESCAPES) for text in (method, target, referer, user_agent)
            )
            client = client.encode("utf-8", "surrogatepass").decode("latin-1").translate(_HEX_ESCAPES)
        request = f"{method} {target} {protocol(record)}" if method else "-"
        # The client is the only text outside quotes, and a space would shift all that follows.
        return (
            f'{client.replace(" ", _HEX_SPACE) or "-"} - - [{self._stamp}] "{request}" {record.status} '
            f'{record.bytes_out} "{referer or "-"}" "{user_agent or "-"}"\n'
        )


def are_plain(fields: tuple[bytes, ...], names: tuple[str, ...]) -> bool:
    """Whether nothing in them needs to be escaped, in either format."""
    text = "".join(names)
    return not b"".join(fields).translate(None, _PLAIN) and (
        text.isascii() and text.isprintable() and '"' not in text and "\\" not in text
    )


def decode(fields: tuple[bytes, ...]) -> list[str]:
    """What was sent, one character per byte."""
    return [field.decode("latin-1") for field in fields]


def protocol(record: AccessRecord) -> str:
    """`HTTP/1.x`, or nothing when no request could be read."""
    return f"HTTP/1.{record.minor}" if record.method else ""


def milliseconds(seconds: float) -> str:
    """A duration for JSON, with microseconds; null when negative."""
    return "null" if seconds < 0 else f"{seconds * 1000:.3f}"


def combined_time(second: int) -> str:
    """`10/Oct/2000:13:55:36 +0000`; the names of the months do not follow the locale."""
    at = time.gmtime(second)
    return (
        f"{at.tm_mday:02d}/{_MONTHS[at.tm_mon - 1]}/{at.tm_year}"
        f":{at.tm_hour:02d}:{at.tm_min:02d}:{at.tm_sec:02d} +0000"
    )
