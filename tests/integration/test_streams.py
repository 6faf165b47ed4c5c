"""Streams in memory that does not grow: slow readers on either side, both directions at once, many at once.

The 2 GiB transfers are in `test_transfers.py`; here the other side holds back.
"""

from __future__ import annotations

import asyncio
import hashlib

from support.client import Client
from support.http import Request, read_response_head, request_bytes
from support.proxies import ProxyProcess
from support.server import Conversation
from support.stage import Stage

MIB = 1 << 20
MAX_GROWTH = 16 * MIB
# No power of two: a block that is lost, doubled or moved changes the digest.
BLOCK = hashlib.shake_256(b"vsproxy").digest(250_007)


class Source:
    """`size` bytes, generated; `digest` is that of what was sent."""

    def __init__(self, size: int) -> None:
        self.left = size
        self._sum = hashlib.md5()

    async def pour(self, peer: Conversation | Client) -> str:
        """Send everything; the digest."""
        peer.patience = 60
        while self.left:
            block = BLOCK[: self.left]
            await peer.send(block)
            self._sum.update(block)
            self.left -= len(block)
        return self._sum.hexdigest()


async def drain(peer: Conversation | Client, size: int, pause: float = 0.0, slow: int = 0) -> str:
    """Read `size` bytes, the first `slow` of them with `pause` seconds between reads; the digest."""
    peer.patience = 60
    digest = hashlib.md5()
    got = 0
    while got < size:
        data = await peer.recv()
        assert data, f"ended ({peer.ended}) after {got} of {size} bytes"
        digest.update(data)
        got += len(data)
        if got < slow:
            await asyncio.sleep(pause)
    assert got == size
    return digest.hexdigest()


def head(size: int) -> bytes:
    """A response head for a body of `size` bytes."""
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size


async def warm(stage: Stage, process: ProxyProcess) -> int:
    """Let the process allocate what it needs at all; its memory then."""
    for _ in range(20):
        assert (await stage.get("/warm")).status == 200
    return process.rss()


async def test_a_client_that_reads_slowly_holds_the_server_back(stage: Stage) -> None:
    size = 100 * MIB
    sums: list[str] = []
    source = Source(size)

    async def script(peer: Conversation, request: Request) -> None:
        if request.target == "/warm":
            await peer.respond(b"ok")
            return
        await peer.send(head(size))
        sums.append(await source.pour(peer))

    process = await stage.process(await stage.server(script))
    before = await warm(stage, process)
    client = await stage.connect(receive_buffer=65536)
    await client.send(request_bytes())
    await read_response_head(client)
    reading = asyncio.create_task(drain(client, size, pause=0.02, slow=3 * MIB))
    await asyncio.sleep(0.5)
    assert source.left > size // 8, "the server was not held back"
    got = await reading
    assert sums == [got]
    assert process.peak_rss() - before < MAX_GROWTH


async def test_a_server_that_reads_slowly_holds_the_client_back(stage: Stage) -> None:
    size = 100 * MIB
    sums: list[str] = []

    async def script(peer: Conversation, request: Request) -> None:
        if request.target != "/warm":
            sums.append(await drain(peer, size, pause=0.02, slow=10 * MIB))
        await peer.respond(b"ok")

    process = await stage.process(await stage.server(script, read_body=False))
    before = await warm(stage, process)
    client = await stage.connect()
    await client.send(request_bytes("POST", fields={"Content-Length": str(size)}))
    source = Source(size)
    sending = asyncio.create_task(source.pour(client))
    await asyncio.sleep(0.3)
    assert source.left > size // 8, "the client was not held back"
    sent = await sending
    assert (await client.response()).status == 200
    assert sums == [sent]
    assert process.peak_rss() - before < MAX_GROWTH


async def test_both_directions_at_once(stage: Stage) -> None:
    """An echo: the answer streams while the upload does, and both ends read at their own speed."""
    size = 200 * MIB

    async def script(peer: Conversation, request: Request) -> None:
        if request.target == "/warm":
            await peer.respond(b"ok")
            return
        await peer.send(head(size))
        got = 0
        while got < size:
            data = await peer.recv()
            assert data
            await peer.send(data)
            got += len(data)

    process = await stage.process(await stage.server(script, read_body=False))
    before = await warm(stage, process)
    client = await stage.connect()
    await client.send(request_bytes("POST", fields={"Content-Length": str(size)}))
    sending = asyncio.create_task(Source(size).pour(client))
    await read_response_head(client)
    assert await drain(client, size) == await sending
    assert process.peak_rss() - before < MAX_GROWTH


async def test_twenty_streams_at_once_arrive_whole(stage: Stage) -> None:
    size = 5 * MIB
    sums: list[str] = []

    async def script(peer: Conversation, request: Request) -> None:
        await peer.send(head(size))
        sums.append(await Source(size).pour(peer))

    await stage.proxy(await stage.server(script))

    async def download() -> str:
        client = await stage.connect()
        await client.send(request_bytes())
        await read_response_head(client)
        return await drain(client, size, pause=0.01, slow=MIB)

    got = await asyncio.gather(*(download() for _ in range(20)))
    assert set(got) == set(sums)
    assert len(sums) == 20


async def test_chunks_of_every_size_arrive_whole(stage: Stage) -> None:
    """Chunked both ways, with chunk borders everywhere."""
    sizes = [1, 2, 3, 15, 16, 17, 255, 256, 4095, 4096, 65535, 65536, 65537, 262_144, 300_001] * 4
    parts = [BLOCK[:size] if size <= len(BLOCK) else BLOCK + BLOCK[: size - len(BLOCK)] for size in sizes]

    async def script(peer: Conversation, request: Request) -> None:
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for part in parts:
            await peer.send(b"%X\r\n" % len(part) + part + b"\r\n")
        await peer.send(b"0\r\n\r\n")
        assert request.body == b"".join(parts)

    await stage.proxy(await stage.server(script))
    client = await stage.connect()
    await client.send(request_bytes("POST", fields={"Transfer-Encoding": "chunked"}))
    for part in parts:
        await client.send(b"%x\r\n" % len(part) + part + b"\r\n")
    await client.send(b"0\r\n\r\n")
    response = await client.response()
    assert response.complete
    assert response.body == b"".join(parts)
