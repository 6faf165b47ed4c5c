"""Tunnels as streams: what goes through arrives whole, and a side that does not read holds up the other."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from support.certificates import Certificates, make_certificates
from support.proxies import ProxyProcess
from support.stage import Stage

MIB = 1 << 20
SIZE = 96 * MIB
BLOCK = hashlib.sha512(b"tunnel").digest() * 1024  # 64 KiB
DIGEST = hashlib.sha256(BLOCK * (SIZE // len(BLOCK))).hexdigest()
MAX_GROWTH = 16 * MIB
STALL = 0.5
OPENING = (
    b"GET /api/ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Tunnel:
    """An open tunnel: its two ends and the proxy between them."""

    client: Ends
    server: Ends
    process: ProxyProcess


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certs"))


@pytest.fixture(params=["ws", "wss"])
async def tunnel(request: pytest.FixtureRequest, stage: Stage, certificates: Certificates) -> AsyncIterator[Tunnel]:
    opened: asyncio.Queue[Ends] = asyncio.Queue()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(SWITCH)
        opened.put_nowait((reader, writer))

    listening = await asyncio.start_server(accept, "127.0.0.1", 0)
    secure = request.param == "wss"
    tls = {"tls": {"cert": str(certificates.cert), "key": str(certificates.key)}} if secure else {}
    process = await stage.process("{}:{}".format(*listening.sockets[0].getsockname()), listener=tls)
    host, port = process.address.split(":")
    name = "localhost" if secure else None
    context = certificates.client_context() if secure else None
    client = await asyncio.open_connection(host, int(port), ssl=context, server_hostname=name)
    client[1].write(OPENING)
    assert (await client[0].readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
    server = await opened.get()
    yield Tunnel(client, server, process)
    for _, writer in (client, server):
        writer.transport.abort()
    listening.close()


class Sending:
    """Sends SIZE bytes into one end; `done` says how far it is."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self.done = 0
        self.task = asyncio.create_task(self._send())

    async def _send(self) -> None:
        for _ in range(SIZE // len(BLOCK)):
            self.writer.write(BLOCK)
            await self.writer.drain()
            self.done += len(BLOCK)

    async def stuck(self) -> int:
        """Wait until it has not got on for `STALL` seconds; how far it is then."""
        last = -1
        while self.done > last:
            last = self.done
            await asyncio.sleep(STALL)
        return last


async def digest(reader: asyncio.StreamReader) -> str:
    """Of the next SIZE bytes."""
    sha, left = hashlib.sha256(), SIZE
    while left:
        data = await reader.read(min(left, MIB))
        assert data, f"ended {left} bytes early"
        sha.update(data)
        left -= len(data)
    return sha.hexdigest()


@pytest.mark.parametrize("direction", ["up", "down"])
async def test_a_side_that_reads_late_holds_up_the_other(tunnel: Tunnel, direction: str) -> None:
    source, sink = (tunnel.client, tunnel.server) if direction == "up" else (tunnel.server, tunnel.client)
    before = tunnel.process.rss()
    sending = Sending(source[1])
    # How much the kernel's buffers take is its own affair: at most 32 MiB of each connection were seen.
    assert 0 < await sending.stuck() < SIZE
    sink[1].write(b"the other way is free")
    assert await source[0].readexactly(21) == b"the other way is free"
    assert await digest(sink[0]) == DIGEST
    await sending.task
    assert tunnel.process.peak_rss() - before < MAX_GROWTH


async def test_both_ways_at_once_arrive_whole(tunnel: Tunnel) -> None:
    before = tunnel.process.rss()
    sending = [Sending(tunnel.client[1]), Sending(tunnel.server[1])]
    assert await asyncio.gather(digest(tunnel.client[0]), digest(tunnel.server[0])) == [DIGEST, DIGEST]
    await asyncio.gather(*(each.task for each in sending))
    assert tunnel.process.peak_rss() - before < MAX_GROWTH


@pytest.mark.parametrize("who", ["client", "server"])
async def test_what_was_sent_before_an_end_arrives_before_it(tunnel: Tunnel, who: str) -> None:
    source, sink = (tunnel.client, tunnel.server) if who == "client" else (tunnel.server, tunnel.client)
    sending = Sending(source[1])
    await sending.stuck()
    got = asyncio.create_task(digest(sink[0]))
    await sending.task
    source[1].close()
    assert await got == DIGEST
    assert await sink[0].read() == b""
