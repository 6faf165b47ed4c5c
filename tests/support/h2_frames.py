"""HTTP/2 frames and HPACK as bytes, right or wrong (RFC 9113 4 to 6, RFC 7541): nothing here refuses anything.

What is sent is made without state: fields are literals that no table remembers, so a block means the same in every
order and on every connection.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADER_SIZE = 9

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
PRIORITY_UPDATE = 16

ACK = END_STREAM = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITIZED = 0x20

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE = 1, 2, 3, 4, 5
MAX_HEADER_LIST_SIZE = 6

NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT, STREAM_CLOSED = range(6)
FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, CONNECT_ERROR, ENHANCE_YOUR_CALM = range(6, 12)

DEFAULT_WINDOW = 65535
DEFAULT_FRAME_SIZE = 16384
DEFAULT_TABLE_SIZE = 4096
MAX_WINDOW = 2**31 - 1

NAMES = (
    "DATA",
    "HEADERS",
    "PRIORITY",
    "RST_STREAM",
    "SETTINGS",
    "PUSH_PROMISE",
    "PING",
    "GOAWAY",
    "WINDOW_UPDATE",
    "CONTINUATION",
)

Fields = Iterable[tuple[str, str]]


@dataclass(frozen=True)
class Frame:
    """One frame off the wire."""

    type: int
    flags: int
    stream: int
    payload: bytes

    @property
    def error_code(self) -> int:
        """Of a RST_STREAM or a GOAWAY."""
        start = 4 if self.type == GOAWAY else 0
        return int.from_bytes(self.payload[start : start + 4], "big")

    @property
    def settings(self) -> dict[int, int]:
        """Of a SETTINGS frame, the last of each identifier."""
        return {
            int.from_bytes(self.payload[i : i + 2], "big"): int.from_bytes(self.payload[i + 2 : i + 6], "big")
            for i in range(0, len(self.payload), 6)
        }

    @property
    def ends_stream(self) -> bool:
        """Whether nothing more comes on its stream."""
        return self.type in (DATA, HEADERS) and bool(self.flags & END_STREAM)

    def __str__(self) -> str:
        name = NAMES[self.type] if self.type < len(NAMES) else f"type {self.type}"
        code = f" error {self.error_code}" if self.type in (RST_STREAM, GOAWAY) else ""
        return f"{name} stream {self.stream} flags {self.flags:#x} length {len(self.payload)}{code}"


def raw(type: int, flags: int, stream: int, payload: bytes = b"", length: int | None = None) -> bytes:
    """A frame; one that lies about its length if `length` is given."""
    size = len(payload) if length is None else length
    return size.to_bytes(3, "big") + bytes((type, flags)) + stream.to_bytes(4, "big") + payload


def padded(payload: bytes, padding: int | None) -> tuple[bytes, int]:
    """The payload with so many bytes of padding, and the flag for it."""
    return (payload, 0) if padding is None else (bytes((padding,)) + payload + bytes(padding), PADDED)


def data(stream: int, payload: bytes = b"", *, end: bool = False, padding: int | None = None) -> bytes:
    """A DATA frame."""
    body, flag = padded(payload, padding)
    return raw(DATA, flag | (END_STREAM if end else 0), stream, body)


def priority_fields(depends_on: int, weight: int = 16, exclusive: bool = False) -> bytes:
    """What PRIORITY carries, and HEADERS with that flag; `weight` from 1 to 256."""
    return (depends_on | exclusive << 31).to_bytes(4, "big") + bytes((weight - 1,))


def headers(
    stream: int,
    block: bytes,
    *,
    end: bool = False,
    end_headers: bool = True,
    padding: int | None = None,
    priority: bytes = b"",
) -> bytes:
    """A HEADERS frame with a block of HPACK; `priority` is what `priority_fields` makes."""
    payload, flag = padded(priority + block, padding)
    flags = flag | (END_STREAM if end else 0) | (END_HEADERS if end_headers else 0) | (PRIORITIZED if priority else 0)
    return raw(HEADERS, flags, stream, payload)


def continuation(stream: int, block: bytes = b"", *, end_headers: bool = True) -> bytes:
    """A CONTINUATION frame."""
    return raw(CONTINUATION, END_HEADERS if end_headers else 0, stream, block)


def priority(stream: int, depends_on: int = 0, weight: int = 16, exclusive: bool = False) -> bytes:
    """A PRIORITY frame."""
    return raw(PRIORITY, 0, stream, priority_fields(depends_on, weight, exclusive))


def priority_update(stream: int, value: bytes = b"u=1") -> bytes:
    """A PRIORITY_UPDATE frame (RFC 9218 7.1)."""
    return raw(PRIORITY_UPDATE, 0, 0, stream.to_bytes(4, "big") + value)


def rst_stream(stream: int, code: int = CANCEL) -> bytes:
    """A RST_STREAM frame."""
    return raw(RST_STREAM, 0, stream, code.to_bytes(4, "big"))


def settings(*pairs: tuple[int, int]) -> bytes:
    """A SETTINGS frame with these identifiers and values, in this order."""
    return raw(SETTINGS, 0, 0, b"".join(key.to_bytes(2, "big") + value.to_bytes(4, "big") for key, value in pairs))


def settings_ack() -> bytes:
    """A SETTINGS frame that acknowledges."""
    return raw(SETTINGS, ACK, 0)


def push_promise(stream: int, promised: int, block: bytes) -> bytes:
    """A PUSH_PROMISE frame."""
    return raw(PUSH_PROMISE, END_HEADERS, stream, promised.to_bytes(4, "big") + block)


def ping(payload: bytes = bytes(8), *, ack: bool = False) -> bytes:
    """A PING frame."""
    return raw(PING, ACK if ack else 0, 0, payload)


def goaway(last_stream: int = 0, code: int = NO_ERROR, debug: bytes = b"") -> bytes:
    """A GOAWAY frame."""
    return raw(GOAWAY, 0, 0, last_stream.to_bytes(4, "big") + code.to_bytes(4, "big") + debug)


def window_update(stream: int, increment: int) -> bytes:
    """A WINDOW_UPDATE frame."""
    return raw(WINDOW_UPDATE, 0, stream, increment.to_bytes(4, "big"))


def hpack_integer(value: int, prefix: int, first: int = 0) -> bytes:
    """An integer with a prefix of so many bits (RFC 7541 5.1); `first` has the bits before it."""
    limit = (1 << prefix) - 1
    if value < limit:
        return bytes((first | value,))
    out = bytearray((first | limit,))
    value -= limit
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def hpack_string(text: bytes) -> bytes:
    """A string literal without Huffman coding (RFC 7541 5.2)."""
    return hpack_integer(len(text), 7) + text


def hpack_field(name: str, value: str) -> bytes:
    """A literal field without indexing and with a new name (RFC 7541 6.2.2)."""
    return b"\0" + hpack_string(name.encode("latin-1")) + hpack_string(value.encode("latin-1"))


def hpack_block(fields: Fields) -> bytes:
    """A header block."""
    return b"".join(hpack_field(name, value) for name, value in fields)


def take_frames(buffer: bytearray) -> Iterator[Frame]:
    """The whole frames at the front of `buffer`, which are removed from it."""
    while len(buffer) >= HEADER_SIZE:
        end = HEADER_SIZE + int.from_bytes(buffer[:3], "big")
        if len(buffer) < end:
            return
        stream = int.from_bytes(buffer[5:9], "big") & MAX_WINDOW
        frame = Frame(buffer[3], buffer[4], stream, bytes(buffer[HEADER_SIZE:end]))
        del buffer[:end]
        yield frame
