"""What stands in for the network and the clock, so that only the proxy's own instructions are counted.

A real loop would add its turns and system calls, which depend on what arrives together, and on the time.
"""

from __future__ import annotations

import asyncio
import fcntl
import itertools
import socket
import termios
import time
from collections.abc import Callable
from typing import Any


class Peer(asyncio.Transport):
    """Transport and other side of one connection: `protocol` is the proxy's, whose writes go to a real socket.

    What is called for every request is a C function, as with uvloop's transports.
    """

    def __init__(self, protocol: Any, sock: socket.socket) -> None:
        # The proxy writes to it by its number, and asks the kernel whether it still stands.
        ours, self._other = socket.socketpair()
        ours.setblocking(False)
        self._waiting = bytearray(4)
        self.taken = bytearray(65536)
        super().__init__({"peername": ("127.0.0.1", 40000), "sockname": ("127.0.0.1", 80), "socket": ours})
        sock.close()
        self.protocol = protocol
        self.is_closing = bool  # type: ignore[method-assign]  # bool() is False
        self.get_extra_info = self._extra.get  # type: ignore[attr-defined,method-assign]
        protocol.connection_made(self)

    def has_sent(self) -> bool:
        """Whether the proxy has written something; no exception is made to find out."""
        fcntl.ioctl(self._other, termios.FIONREAD, self._waiting)
        return any(self._waiting)

    def take_sent(self) -> int:
        """How much the proxy has written, which is in `taken` then."""
        return self._other.recv_into(self.taken)

    def write(self, data: Any) -> None:
        """Only for what a socket does not take at once."""
        raise AssertionError("the proxy writes through the loop in the middle of a workload")

    def get_write_buffer_size(self) -> int:
        """Nothing ever waits."""
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing is ever buffered."""

    def close(self) -> None:
        """A workload is made of connections that stay."""
        raise AssertionError("the proxy closes a connection in the middle of a workload")

    abort = write_eof = close

    def pause_reading(self) -> None:
        """Nobody is slow."""
        raise AssertionError("the proxy pauses reading in the middle of a workload")

    resume_reading = pause_reading


class StandInLoop(asyncio.SelectorEventLoop):
    """A loop whose connections are all with a `Peer`."""

    def __init__(self) -> None:
        super().__init__()
        self.clients: list[Peer] = []
        self.servers: list[Peer] = []

    async def connect_accepted_socket(
        self, protocol_factory: Callable[[], Any], sock: socket.socket, **options: Any
    ) -> tuple[Peer, Any]:
        """A client has come."""
        peer = Peer(protocol_factory(), sock)
        self.clients.append(peer)
        return peer, peer.protocol

    async def create_connection(
        self, protocol_factory: Callable[[], Any], *address: Any, **options: Any
    ) -> tuple[Peer, Any]:
        """The proxy connects to a server."""
        peer = Peer(protocol_factory(), socket.socket())
        self.servers.append(peer)
        return peer, peer.protocol


def stop_the_clock() -> None:
    """Time passes by the call, not by the second: what is computed from it, and printed, is always the same."""
    time.monotonic = itertools.count(1_000_000.0, 0.0001).__next__
    time.time = itertools.repeat(1_700_000_000.25).__next__
