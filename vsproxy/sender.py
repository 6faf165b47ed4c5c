# cython: annotation_typing=False
"""Writing to a connection: straight to the kernel while it takes everything, through the transport when not."""

from __future__ import annotations

import asyncio
from typing import Any

from vsproxy import sockets

#: A smaller body (bytes) is copied behind its head: that costs less than a list of pieces.
SMALL_BODY = 4 * 1024
#: As much is copied for a transport that takes only one piece at a time, since each is a record and a system call.
FEW_BYTES = 16 * 1024
_SMALL_BODY, _FEW_BYTES = SMALL_BODY, FEW_BYTES


class Sender:
    """Writes for the protocol of `transport`.

    The loop's `write` asks, queues and accounts for what nearly always leaves at once. A plain connection is
    therefore written to by its descriptor, as long as nothing waits in the transport; `queued` is set once
    something may. Whether the transport is about to go is asked each time: its descriptor may soon be another's.
    """

    __slots__ = ("buffered", "descriptor", "is_closing", "queued", "write_queued")

    def __init__(self, transport: asyncio.Transport) -> None:
        sock = transport.get_extra_info("socket")
        secure = transport.get_extra_info("ssl_object") or transport.get_extra_info("sslcontext")
        # Somebody else may have written before.
        self.prepare(transport, -1 if sock is None or secure is not None else sock.fileno(), True)

    def prepare(self, transport: asyncio.Transport, descriptor: int, queued: bool) -> None:
        """For `__init__` and `new_sender`."""
        self.write_queued: Any = transport.write
        self.is_closing: Any = transport.is_closing
        self.buffered: Any = transport.get_write_buffer_size
        self.queued = queued
        self.descriptor = descriptor

    def write(self, data: bytes) -> None:
        """Write; nothing happens to a connection that is going down, which the protocol is told otherwise."""
        if self.is_closing():
            return
        if self.descriptor >= 0 and (not self.queued or self.buffered() == 0):
            sent = sockets.send(self.descriptor, data)
            if sent == len(data):
                self.queued = False
                return
            self.queued = True
            if sent > 0:
                data = data[sent:]
        self.write_queued(data)

    def write_parts(self, head: bytes, body: bytes, tail: bytes) -> None:
        """As `write` of all three, the last of which may be empty, without copying a `body` that is large."""
        if len(body) < (_SMALL_BODY if self.descriptor >= 0 else _FEW_BYTES):
            self.write(b"".join((head, body, tail)))
            return
        if self.is_closing():
            return
        sent = 0
        if self.descriptor >= 0 and (not self.queued or self.buffered() == 0):
            sent = sockets.send_parts(self.descriptor, head, body, tail)
            if sent == len(head) + len(body) + len(tail):
                self.queued = False
                return
            self.queued = True
        for piece in (head, body, tail):
            if sent < len(piece):
                self.write_queued(piece[sent:] if sent > 0 else piece)
                sent = 0
            else:
                sent -= len(piece)


def new_sender(transport: asyncio.Transport, descriptor: int) -> Sender:
    """For a transport that nobody has written to; `descriptor` is that of its plain connection, or -1: ask."""
    if descriptor < 0:
        return Sender(transport)
    # Neither by a call of the class, which takes the way through Python, nor by asking, which is a system call.
    sender = Sender.__new__(Sender)
    sender.prepare(transport, descriptor, False)
    return sender
