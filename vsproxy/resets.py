"""Ending a connection so that the peer cannot take it for complete."""

from __future__ import annotations

import asyncio
import socket
import struct


def reset_on_close(transport: asyncio.Transport) -> None:
    """Make `transport.abort()` send RST: without SO_LINGER both loops send FIN, which looks like an end."""
    sock = transport.get_extra_info("socket")
    if sock is None:
        return
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    except OSError:
        # The descriptor is closed already: nothing is left to reset.
        return
