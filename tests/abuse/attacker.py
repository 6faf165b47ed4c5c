"""A client of HTTP/2 that does as it likes, on a bare socket."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from support import h2_frames as h2
from support.peer import PATIENCE, Peer

PIECE = 64 * 1024
BATCH, BATCH_PAUSE = 10, 0.02
OPENING = h2.PREFACE + h2.settings() + h2.settings_ack()


@dataclass
class Attacker:
    """One connection. `frames`: what has come so far, without the bytes of DATA, which `received` counts."""

    peer: Peer
    frames: list[h2.Frame] = field(default_factory=list)
    received: int = 0
    sent: int = 0
    spent: int = 0  # of the credit, if anybody counts
    #: When it was connected, when it got a GOAWAY or an end, and when it was ended altogether (s; 0: not yet).
    began: float = field(default_factory=time.monotonic)
    told: float = 0.0
    ended: float = 0.0
    _buffer: bytearray = field(default_factory=bytearray)

    async def send(self, data: bytes) -> bool:
        """Send all of it, unless the other side is gone; whether it was not."""
        with contextlib.suppress(ConnectionError):
            for at in range(0, len(data), PIECE):
                await self.peer.send(data[at : at + PIECE])
                self.sent += len(data[at : at + PIECE])
            return True
        return False

    async def send_in_batches(self, pieces: Sequence[bytes]) -> None:
        """Send ten at a time: who serves them shares a processor with those who measure."""
        for at in range(0, len(pieces), BATCH):
            await self.send(b"".join(pieces[at : at + BATCH]))
            await asyncio.sleep(BATCH_PAUSE)

    async def read(self) -> bool:
        """Read once; False at the end."""
        data = await self.peer.recv()
        self._take(data)
        return bool(data)

    async def read_some(self, most: int) -> bool:
        """The same, so many bytes at most."""
        data = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self.peer.sock, most), PATIENCE)
        self._take(data)
        return bool(data)

    def _take(self, data: bytes) -> None:
        self._buffer += data
        for frame in h2.take_frames(self._buffer):
            if frame.type == h2.DATA:
                self.received += len(frame.payload)
                frame = h2.Frame(frame.type, frame.flags, frame.stream, b"")
            elif frame.type == h2.GOAWAY and not self.told:
                self.told = time.monotonic()
            self.frames.append(frame)
        if not data:
            self.ended = time.monotonic()
            self.told = self.told or self.ended

    async def read_to_end(self) -> None:
        """Read until the other side ends."""
        while await self.read():
            pass

    async def flood(self, data: bytes) -> None:
        """Send, and read what comes meanwhile, until the other side ends."""
        reading = asyncio.create_task(self.read_to_end())
        try:
            await self.send(data)
            await reading
        finally:
            reading.cancel()

    async def until(self, kind: int, stream: int) -> h2.Frame:
        """Read until there is a frame of this type for this stream."""
        seen = 0
        while True:
            for frame in self.frames[seen:]:
                if (frame.type, frame.stream) == (kind, stream):
                    return frame
            seen = len(self.frames)
            assert await self.read(), f"ended; came: {self.came()}"

    async def cut(self) -> None:
        """Wait, and read nothing, until the other side has reset the connection."""
        async with asyncio.timeout(PATIENCE):
            while not self.peer.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                await asyncio.sleep(0.02)

    async def ping(self) -> None:
        """Read until all that was sent before has been dealt with, or to the end."""
        if await self.send(h2.ping(b"are you?")):
            before = self._pongs()
            while self._pongs() == before and await self.read():
                pass

    def _pongs(self) -> int:
        return sum(frame.type == h2.PING and bool(frame.flags & h2.ACK) for frame in self.frames)

    def goodbye(self) -> int | None:
        """The code of the last GOAWAY, None without one."""
        codes = [frame.error_code for frame in self.frames if frame.type == h2.GOAWAY]
        return codes[-1] if codes else None

    async def until_resets(self, count: int) -> None:
        """Read until so many streams were reset."""
        while len(self.resets()) < count:
            assert await self.read(), self.came()

    def resets(self) -> list[int]:
        """The codes of all RST_STREAM."""
        return [frame.error_code for frame in self.frames if frame.type == h2.RST_STREAM]

    def came(self) -> str:
        """The last frames, for people."""
        return ", ".join(str(frame) for frame in self.frames[-20:]) or "nothing"

    def leave(self) -> None:
        """End with a reset, so that no bytes of ours lie in the kernel."""
        self.peer.reset()


@contextlib.asynccontextmanager
async def attacker(address: str, *, receive_buffer: int = 0, opening: bytes = OPENING) -> AsyncIterator[Attacker]:
    """Connect and send `opening`; a small `receive_buffer` makes a client that does not read felt soon."""
    host, port = address.rsplit(":", 1)
    sock = socket.socket()
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, (host, int(port)))
    one = Attacker(Peer(sock))
    try:
        await one.send(opening)
        yield one
    finally:
        one.leave()


def get(stream: int, path: str = "/") -> bytes:
    """A request without a body."""
    return h2.headers(stream, block("GET", path), end=True)


def post(stream: int, path: str = "/", *fields: tuple[str, str]) -> bytes:
    """The head of a request with a body."""
    return h2.headers(stream, block("POST", path, *fields))


def block(method: str, path: str, *fields: tuple[str, str]) -> bytes:
    """The header block of a request."""
    return h2.hpack_block(
        [(":method", method), (":scheme", "http"), (":authority", "victim.example"), (":path", path), *fields]
    )


async def ended(one: Attacker, data: bytes, code: int | None = h2.ENHANCE_YOUR_CALM) -> None:
    """Send it, and be ended with a GOAWAY of this code; None: without a word."""
    await one.flood(data)
    assert one.goodbye() == code, one.came()


def numbers(count: int) -> range:
    """The first streams of a client."""
    return range(1, 2 * count, 2)
