"""Everything at once on a few connections, at random: what is not given up arrives whole, and nothing is left over."""

from __future__ import annotations

import asyncio
import random

import pytest

from support.bulk import BLOCK, bulk, digest_of
from support.h2_client import H2Client
from support.h2_front import Front
from support.http import Request
from support.proxies import eventually
from support.server import Conversation

CLIENTS, STREAMS, AT_ONCE = 3, 120, 30
#: Sizes around everything that is a boundary: nothing, a frame, the first window, a buffer.
SIZES = (0, 1, 100, 16383, 16384, 16385, 65535, 65536, 65537, 131072, 262145, 1_000_000)


async def script(peer: Conversation, request: Request) -> None:
    """`bulk`; /dies is answered in half, /mute never."""
    if request.target == "/dies":
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + bytes(50_000))
        peer.reset()
    elif request.target == "/mute":
        await peer.wait_closed()
    else:
        await bulk(peer, request)


class Mixed:
    """One client's random work; the same for the same seed."""

    def __init__(self, client: H2Client, seed: int) -> None:
        self.client = client
        self.random = random.Random(seed)
        self.may_start = asyncio.Semaphore(AT_ONCE)

    async def run(self) -> None:
        """All streams, at most AT_ONCE at a time."""
        kinds = (self.get, self.post, self.post_in_drops, self.give_up, self.give_up_upload, self.dies)
        async with asyncio.TaskGroup() as streams:
            for _ in range(STREAMS):
                streams.create_task(self.one(self.random.choice(kinds), self.random.choice(SIZES)))

    async def one(self, kind: object, size: int) -> None:
        """One stream of some kind."""
        async with self.may_start:
            await kind(size)  # type: ignore[operator]

    async def get(self, size: int) -> None:
        """A download."""
        response = await self.client.request(path=f"/{size}", keep=False)
        assert (response.status, response.digest, response.complete) == (200, digest_of(size), True)

    async def post(self, size: int) -> None:
        """An upload at full speed, with a length or without."""
        await self.upload(size, size or 1, self.random.random() < 0.5)

    async def post_in_drops(self, size: int) -> None:
        """An upload in pieces, with pauses."""
        await self.upload(size, size // 7 + 1, self.random.random() < 0.5)

    async def upload(self, size: int, piece: int, declared: bool) -> None:
        """`size` bytes, `piece` at a time."""
        fields = [("content-length", str(size))] if declared else []
        stream = await self.client.start("POST", fields=fields, end=False)
        body = bulk_bytes(size)
        for start in range(0, size, piece):
            await stream.send(body[start : start + piece])
            await asyncio.sleep(0)
        await stream.end()
        response = await stream.finished()
        assert (response.status, response.body.decode()) == (200, digest_of(size))

    async def give_up(self, size: int) -> None:
        """A download that is cancelled at some time, or has ended by then."""
        stream = await self.client.start(path=self.random.choice(("/mute", f"/{size}")), keep=False)
        await asyncio.sleep(self.random.random() / 50)
        if not stream.over:
            await stream.cancel()

    async def give_up_upload(self, size: int) -> None:
        """An upload that is cancelled before its end."""
        stream = await self.client.start("POST", "/cut", fields=[("content-length", str(size + 1))], end=False)
        await stream.send(bulk_bytes(size))
        await stream.cancel()

    async def dies(self, size: int) -> None:
        """An answer that is cut."""
        response = await self.client.request(path="/dies", keep=False)
        assert response.reset
        assert not response.complete


def bulk_bytes(size: int) -> bytes:
    """The first `size` bytes of what `bulk` sends."""
    return (BLOCK * (size // len(BLOCK) + 1))[:size]


@pytest.mark.parametrize("seed", range(3))
async def test_what_is_not_given_up_arrives_whole(front: Front, seed: int) -> None:
    server = await front.stage.server(script, read_body=False)
    proxy = await front.proxy(server, pool={"max_fails": 0})
    async with front.client() as one, front.client(window=65535) as two, front.client(window=1000) as three:
        async with asyncio.TaskGroup() as clients:
            for number, client in enumerate((one, two, three)):
                client.patience = 90.0
                clients.create_task(Mixed(client, seed * CLIENTS + number).run())
        for client in (one, two, three):
            assert client.goaways == []
        await eventually(lambda: proxy.pools["main"].servers[0].active == 0, 20, what="no request in progress")
