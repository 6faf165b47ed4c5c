"""One end of a connection, driven by hand: what is sent, read, half-closed or reset is the test's choice.

It works on a bare non-blocking socket, so nothing is read that the test does not read (a client that "does
not read" really does not) and FIN and reset are told apart.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import socket
import struct
import termios
from typing import Self

PATIENCE = 30.0  # seconds any one step may take before the test fails
CHUNK = 256 * 1024


class Ended(AssertionError):
    """The other side ended while the test wanted more bytes. `how` is `fin` or `reset`."""

    def __init__(self, how: str, got: bytes) -> None:
        super().__init__(f"the connection ended ({how}) after {got[:200]!r}")
        self.how = how
        self.got = got


class Peer:
    """One end of a TCP or Unix connection. Every wait is bounded by `patience` seconds."""

    def __init__(self, sock: socket.socket, patience: float = PATIENCE) -> None:
        sock.setblocking(False)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock
        self.patience = patience
        self.buffer = bytearray()
        self.ended: str | None = None  # "fin" or "reset" once the other side has ended

    async def send(self, data: bytes) -> None:
        """Send all of `data`. Raises ConnectionError when the other side is gone."""
        async with asyncio.timeout(self.patience):
            await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def arrive(self) -> None:
        """Wait until the other side's kernel has all that was sent: a reset takes along what is still on its way."""
        async with asyncio.timeout(self.patience):
            while struct.unpack("i", fcntl.ioctl(self.sock, termios.TIOCOUTQ, b"\0\0\0\0"))[0]:
                await asyncio.sleep(0.001)

    async def drip(self, data: bytes, pause: float, size: int = 1) -> None:
        """Send `data` `size` bytes at a time, `pause` seconds apart."""
        for start in range(0, len(data), size):
            await self.send(data[start : start + size])
            await asyncio.sleep(pause)

    async def recv(self) -> bytes:
        """The next bytes, from the buffer first; empty at the end, and then `ended` says how."""
        if self.buffer:
            return self.take(len(self.buffer))
        return await self._receive()

    async def _receive(self) -> bytes:
        if self.ended:
            return b""
        try:
            async with asyncio.timeout(self.patience):
                data = await asyncio.get_running_loop().sock_recv(self.sock, CHUNK)
        except TimeoutError:
            raise AssertionError(f"nothing arrived for {self.patience} s") from None
        except ConnectionError:
            self.ended = "reset"
            return b""
        if not data:
            self.ended = "fin"
        return data

    async def fill(self) -> None:
        """Read once more into the buffer. Raises Ended at the end."""
        more = await self._receive()
        if not more:
            raise Ended(self.ended or "", bytes(self.buffer))
        self.buffer += more

    async def read_until(self, mark: bytes) -> bytes:
        """Everything up to and with `mark`. Raises Ended when it does not come."""
        while (at := self.buffer.find(mark)) < 0:
            await self.fill()
        return self.take(at + len(mark))

    async def read_exactly(self, size: int) -> bytes:
        """Exactly `size` bytes. Raises Ended when they do not come."""
        while len(self.buffer) < size:
            await self.fill()
        return self.take(size)

    async def read_to_end(self) -> bytes:
        """Everything until the other side ends; `ended` then says how."""
        parts = []
        while data := await self.recv():
            parts.append(data)
        return b"".join(parts)

    async def wait_closed(self) -> str:
        """Read and drop until the other side ends; `fin` or `reset`."""
        await self.read_to_end()
        return self.ended or ""

    async def is_silent(self, seconds: float) -> bool:
        """Whether nothing at all, not even an end, arrives for `seconds`."""
        if self.buffer or self.ended:
            return False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.fill()
        return not self.buffer and not self.ended

    def take(self, size: int) -> bytes:
        """Remove and return `size` bytes of the buffer."""
        data = bytes(self.buffer[:size])
        del self.buffer[:size]
        return data

    def half_close(self) -> None:
        """Send FIN, keep reading."""
        self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close both ways: FIN, or a reset by the kernel when bytes were left unread."""
        self.sock.close()

    def reset(self) -> None:
        """Close with a reset (RST)."""
        if self.sock.fileno() >= 0:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.sock.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.close()
