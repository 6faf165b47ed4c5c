"""How much a peer has not taken yet: what is left in the transport and in the kernel's send queue.

The transport's own buffer is no sign of progress: the kernel calls a socket writable again only after much
of its queue has drained, which takes a slow peer longer than a timeout.
"""

from __future__ import annotations

import asyncio
import fcntl
import struct
import termios


def unsent_bytes(transport: asyncio.WriteTransport) -> int:
    """Bytes written to `transport` that the peer has not acknowledged."""
    buffered = transport.get_write_buffer_size()
    sock = transport.get_extra_info("socket")
    if sock is None or sock.fileno() < 0:
        return buffered
    queued: int = struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"))[0]
    return buffered + queued
