"""The header of the PROXY protocol, versions 1 and 2: who a connection really is from, said before anything else.

Follows HAProxy's specification, doc/proxy-protocol.txt, sections 2.1 and 2.2. No I/O: a parser is fed what
arrives, in whatever pieces.
"""

from __future__ import annotations

import ipaddress
import struct
from typing import NamedTuple

from vsproxy.errors import BadProxyHeader
from vsproxy.wire.crc32c import crc32c

#: Longest line of version 1 (bytes), CRLF included.
MAX_LINE = 107
#: Longest header of version 2 (bytes) that is taken; the format would allow 64 KiB.
MAX_HEADER = 16 * 1024
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"

_LINE_START = b"PROXY "
_FIXED = 16
_LOCAL, _PROXY = 0x20, 0x21
_TCP4, _TCP6 = 0x11, 0x21
# The size of the addresses by family and protocol: TCP and UDP over IPv4 and IPv6, the two kinds of Unix sockets.
_ADDRESS_SIZES = {0x00: 0, 0x11: 12, 0x12: 12, 0x21: 36, 0x22: 36, 0x31: 216, 0x32: 216}
_CRC32C = 0x03
_MAPPED = b"\0" * 10 + b"\xff\xff"


class Ends(NamedTuple):
    """Where a TCP connection comes from and where it went: packed addresses, both of 4 bytes or both of 16."""

    source: bytes
    source_port: int
    destination: bytes
    destination_port: int


class ProxyHeader(NamedTuple):
    """A header of `version` 1 or 2. `ends` is None where the connection's own addresses are to be used.

    That is so for LOCAL, for UNKNOWN, and for what is not TCP.
    """

    version: int
    ends: Ends | None


class ProxyHeaderParser:
    """Reads one header. Once `feed` has returned it, `rest` are the bytes that came behind it."""

    __slots__ = ("_data", "rest")

    def __init__(self) -> None:
        self._data = b""
        self.rest = b""

    @property
    def started(self) -> bool:
        """Whether a part of a header is there."""
        return len(self._data) > 0

    def feed(self, data: bytes) -> ProxyHeader | None:
        """Take bytes; the header once it is whole. Raises BadProxyHeader as soon as it cannot become one."""
        self._data += data
        seen = self._data
        if seen.startswith(_LINE_START):
            return self._line(seen)
        if seen.startswith(SIGNATURE):
            return self._binary(seen)
        if not (_LINE_START.startswith(seen) or SIGNATURE.startswith(seen)):
            raise BadProxyHeader("no PROXY header")
        return None

    def _line(self, seen: bytes) -> ProxyHeader | None:
        end = seen.find(b"\n", 0, MAX_LINE)
        if end < 0:
            if len(seen) >= MAX_LINE:
                raise BadProxyHeader("line too long")
            return None
        if seen[end - 1 : end] != b"\r":
            raise BadProxyHeader("bare LF")
        self.rest = seen[end + 1 :]
        return ProxyHeader(1, _line_ends(seen[: end - 1]))

    def _binary(self, seen: bytes) -> ProxyHeader | None:
        size = len(seen)
        if size > 12 and seen[12] not in (_LOCAL, _PROXY):
            raise BadProxyHeader("unknown version or command")
        # The family of a LOCAL connection means nothing.
        if size > 13 and seen[12] == _PROXY and (seen[13] >> 4 > 3 or seen[13] & 15 > 2):
            raise BadProxyHeader("unknown family or protocol")
        if size < _FIXED:
            return None
        end = _FIXED + int.from_bytes(seen[14:_FIXED], "big")
        if end > MAX_HEADER:
            raise BadProxyHeader("header too long")
        if size < end:
            return None
        self.rest = seen[end:]
        return ProxyHeader(2, _block_ends(seen[:end]) if seen[12] == _PROXY else None)


def _line_ends(line: bytes) -> Ends | None:
    """What a line of version 1, without its CRLF, says."""
    if line == b"PROXY UNKNOWN" or line.startswith(b"PROXY UNKNOWN "):
        return None
    words = line.split(b" ")
    if len(words) != 6 or words[1] not in (b"TCP4", b"TCP6"):
        raise BadProxyHeader("malformed line")
    address = _ipv4 if words[1] == b"TCP4" else _ipv6
    return Ends(address(words[2]), _port(words[4]), address(words[3]), _port(words[5]))


def _ipv4(word: bytes) -> bytes:
    try:
        return ipaddress.IPv4Address(word.decode("ascii")).packed
    except ValueError:
        raise BadProxyHeader("malformed address") from None


def _ipv6(word: bytes) -> bytes:
    # A zone means something on one host alone.
    if b"%" in word:
        raise BadProxyHeader("malformed address")
    try:
        return ipaddress.IPv6Address(word.decode("ascii")).packed
    except ValueError:
        raise BadProxyHeader("malformed address") from None


def _port(word: bytes) -> int:
    if not word.isdigit() or len(word) > 5 or (word[:1] == b"0" and len(word) > 1) or int(word) > 65535:
        raise BadProxyHeader("malformed port")
    return int(word)


def _block_ends(header: bytes) -> Ends | None:
    """What a whole header of version 2 with the command PROXY says."""
    kind = header[13]
    size = _ADDRESS_SIZES.get(kind)
    if size is None:
        # Half of it is unspecified: where its addresses end is not known, and they are to be ignored.
        return None
    start = _FIXED + size
    if start > len(header):
        raise BadProxyHeader("addresses cut short")
    _check_values(header, start)
    if kind == _TCP4:
        source, destination, *ports = struct.unpack_from("!4s4sHH", header, _FIXED)
    elif kind == _TCP6:
        source, destination, *ports = struct.unpack_from("!16s16sHH", header, _FIXED)
    else:
        return None
    return Ends(source, ports[0], destination, ports[1])


def _check_values(header: bytes, position: int) -> None:
    """Walk over the type-length-value vectors from `position` on, and compare the checksum if there is one."""
    while position < len(header):
        value = position + 3
        end = value + int.from_bytes(header[position + 1 : value], "big")
        if value > len(header) or end > len(header):
            raise BadProxyHeader("value cut short")
        if header[position] == _CRC32C:
            zeroed = header[:value] + b"\0" * (end - value) + header[end:]
            if header[value:end] != crc32c(zeroed).to_bytes(4, "big"):
                raise BadProxyHeader("wrong checksum")
        position = end


def ends_of(source: str, source_port: int, destination: str, destination_port: int) -> Ends:
    """The ends of a connection from addresses as text, a zone allowed, an IPv4 address perhaps inside one of IPv6.

    Raises ValueError for what is not an address.
    """
    packed = [ipaddress.ip_address(text.partition("%")[0]).packed for text in (source, destination)]
    if all(len(address) == 4 or address.startswith(_MAPPED) for address in packed):
        packed = [address[-4:] for address in packed]
    elif len(packed[0]) != len(packed[1]):
        packed = [address if len(address) == 16 else _MAPPED + address for address in packed]
    return Ends(packed[0], source_port, packed[1], destination_port)


def line_of(ends: Ends | None) -> bytes:
    """The header of version 1; `ends` None: UNKNOWN."""
    if ends is None:
        return b"PROXY UNKNOWN\r\n"
    source, destination = ipaddress.ip_address(ends.source), ipaddress.ip_address(ends.destination)
    family = f"TCP{source.version}"
    return f"PROXY {family} {source} {destination} {ends.source_port} {ends.destination_port}\r\n".encode()


def block_of(ends: Ends | None) -> bytes:
    """The header of version 2, without further values; `ends` None: LOCAL."""
    if ends is None:
        return SIGNATURE + bytes((_LOCAL, 0, 0, 0))
    kind = _TCP4 if len(ends.source) == 4 else _TCP6
    ports = struct.pack("!HH", ends.source_port, ends.destination_port)
    addresses = ends.source + ends.destination + ports
    return SIGNATURE + bytes((_PROXY, kind)) + len(addresses).to_bytes(2, "big") + addresses
