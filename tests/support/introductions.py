"""PROXY headers as the tests read and write them: by hand, sharing nothing with the code under test."""

from __future__ import annotations

import re
import socket
import struct

from support.peer import Peer

_SIGNATURE = bytes.fromhex("0d0a0d0a000d0a515549540a")
_LINE = re.compile(rb"PROXY (TCP4|TCP6) ([0-9a-f.:]+) ([0-9a-f.:]+) (0|[1-9][0-9]*) (0|[1-9][0-9]*)\r\n")


async def read_introduction(peer: Peer) -> str:
    """The header that comes next: `v1 SOURCE PORT DESTINATION PORT`, or `v1 UNKNOWN`, or `v2 LOCAL`.

    Raises AssertionError for what is none, Ended if it is cut short.
    """
    start = await peer.read_exactly(12)
    if start != _SIGNATURE:
        line = start + (b"" if start.endswith(b"\r\n") else await peer.read_until(b"\r\n"))
        if line == b"PROXY UNKNOWN\r\n":
            return "v1 UNKNOWN"
        match = _LINE.fullmatch(line)
        assert match, f"no PROXY header: {line!r}"
        socket.inet_pton(socket.AF_INET if match[1] == b"TCP4" else socket.AF_INET6, match[2].decode())
        return "v1 " + b" ".join((match[2], match[4], match[3], match[5])).decode()
    command, family, size = struct.unpack("!BBH", await peer.read_exactly(4))
    body = await peer.read_exactly(size)
    if command == 0x20:
        assert (family, body) == (0, b"")
        return "v2 LOCAL"
    assert command == 0x21
    width, kind = (4, socket.AF_INET) if family == 0x11 else (16, socket.AF_INET6)
    assert (family, size) in ((0x11, 12), (0x21, 36)), (family, size)
    source, destination, source_port, destination_port = struct.unpack(f"!{width}s{width}sHH", body)
    return f"v2 {socket.inet_ntop(kind, source)} {source_port} {socket.inet_ntop(kind, destination)} {destination_port}"


def line(source: str, destination: str = "192.0.2.1", source_port: int = 4711, destination_port: int = 80) -> bytes:
    """A header of version 1."""
    family = "TCP6" if ":" in source else "TCP4"
    return f"PROXY {family} {source} {destination} {source_port} {destination_port}\r\n".encode()


def block(source: str, destination: str = "192.0.2.1", source_port: int = 4711, destination_port: int = 80) -> bytes:
    """A header of version 2, with a value that means nothing behind it."""
    kind, family = (socket.AF_INET6, 0x21) if ":" in source else (socket.AF_INET, 0x11)
    body = socket.inet_pton(kind, source) + socket.inet_pton(kind, destination)
    body += struct.pack("!HH", source_port, destination_port) + b"\xe0\x00\x02hi"
    return _SIGNATURE + struct.pack("!BBH", 0x21, family, len(body)) + body


#: What stands for no address.
UNKNOWN = b"PROXY UNKNOWN\r\n"
LOCAL = _SIGNATURE + bytes((0x20, 0, 0, 0))
