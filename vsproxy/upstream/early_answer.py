"""The early answer of a server that closes while we still write.

A write that fails discards what was received, so the answer is read from a duplicate of the descriptor.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

#: How much (bytes) of an early answer is read back.
LIMIT = 1 << 20


def duplicate(transport: asyncio.Transport) -> int:
    """A duplicate of the transport's descriptor, to be made before a large upload; -1 if there can be none."""
    sock = transport.get_extra_info("socket")
    if sock is None:
        return -1
    try:
        return os.dup(sock.fileno())
    except OSError:
        # Out of descriptors: the upload goes on, only an early answer may get lost.
        return -1


def read_answer(descriptor: int, connection: Any, protocol: Any) -> None:
    """Give `protocol` what the server said before the break, as long as the exchange of `connection` lasts.

    They are one, but where there is TLS in between: `connection` has `events` while its exchange lasts.
    """
    if descriptor < 0:
        return
    received = 0
    try:
        while connection.events is not None and received < LIMIT:
            data = os.read(descriptor, 65536)
            if not data:
                protocol.eof_received()
                return
            received += len(data)
            protocol.data_received(data)
    except (BlockingIOError, ConnectionError):
        return
