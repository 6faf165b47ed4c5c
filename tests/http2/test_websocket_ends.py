"""How WebSockets over HTTP/2 end, from either side, and that neither side is read faster than the other takes."""

from __future__ import annotations

import asyncio
import hashlib

import pytest
from websockets.asyncio.server import ServerConnection

from support.h2_front import Front
from support.h2_websocket import VERSION, H2WebSocket, open_websocket, opened, opening
from support.http import Request
from support.proxies import eventually, settings
from support.server import Conversation
from support.websocket_servers import accepting, echoing
from vsproxy import Config

NO_ERROR = 0


async def test_a_server_that_dies_breaks_the_tunnel_visibly(front: Front) -> None:
    async def vanish(connection: ServerConnection) -> None:
        await connection.recv()
        connection.transport.abort()

    async with echoing(vanish) as address:
        await front.proxy(address)
        async with front.client() as client:
            socket = await opened(client)
            await socket.send("bye")
            await client.until(lambda: socket.stream.over, "the end of the stream")
            assert not socket.protocol.close_rcvd
            await client.ping()


async def test_a_reset_of_the_server_is_a_reset_of_the_stream(front: Front) -> None:
    """RFC 8441 section 5: a TCP reset becomes RST_STREAM, an orderly end END_STREAM."""
    now = asyncio.Event()

    async def script(peer: Conversation, request: Request) -> None:
        await peer.send(accepting(request))
        await now.wait()
        peer.reset() if request.target == "/reset" else peer.close()

    await front.proxy(await front.stage.server(script))
    async with front.client() as client:
        reset, closed = await opened(client, "/reset"), await opened(client, "/close")
        now.set()
        assert await reset.stream.was_reset() != NO_ERROR
        await client.until(lambda: closed.stream.over, "the end of the other")
        assert closed.stream.so_far.complete


class Watched:
    """A script that accepts an upgrade and notes how its connection ended."""

    def __init__(self) -> None:
        self.got = b""
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def __call__(self, peer: Conversation, request: Request) -> None:
        await peer.send(accepting(request))
        self.got = await peer.read_to_end()
        self.ended.set_result(peer.ended or "")

    async def end(self) -> str:
        """`fin` or `reset`, awaited."""
        async with asyncio.timeout(20):
            return await self.ended


@pytest.mark.parametrize("how", ["cancel", "end", "close", "abort"])
async def test_the_server_hears_that_the_client_has_gone(front: Front, how: str) -> None:
    watched = Watched()
    await front.proxy(await front.stage.server(watched))
    async with front.client() as client:
        socket = await opened(client)
        await socket.stream.send(b"said before")
        await client.ping()
        if how == "cancel":
            await socket.stream.cancel()
        elif how == "end":
            await socket.stream.end()
        elif how == "close":
            await client.close()
        else:
            await client.abort()
        assert await watched.end() in (("fin",) if how == "end" else ("fin", "reset"))
    if how == "end":
        assert watched.got == b"said before"


async def test_a_silent_tunnel_is_ended_after_its_timeout(front: Front) -> None:
    async with echoing(ping_interval=None) as address:
        await front.proxy(address, route={"tunnel_timeout": "1s"})
        async with front.client() as client:
            socket = await opened(client)
            await client.until(lambda: socket.stream.over, "the end of the stream", 10)
            assert client.goaways == []
            # A connection with a tunnel that does talk is not silent.
            other = await opened(client)
            for _ in range(8):
                await asyncio.sleep(0.2)
                await other.send("talking")
                assert await other.recv() == "talking"


async def test_an_idle_timeout_does_not_end_a_tunnel(plain: Front) -> None:
    async with echoing(ping_interval=None) as address:
        await plain.proxy(address, listener={"idle_timeout": "200ms", "body_timeout": "200ms"})
        async with plain.client() as client:
            socket = await opened(client)
            await asyncio.sleep(1.0)
            await socket.send("late")
            assert await socket.recv() == "late"


async def test_a_reload_keeps_a_tunnel(front: Front) -> None:
    async with echoing() as address:
        proxy = await front.proxy(address)
        async with front.client() as client:
            socket = await opened(client)
            await socket.send("before")
            assert await socket.recv() == "before"
            changed = settings(address, listener=front.listener(), route={"path": "/new"})
            await proxy.reload(Config.model_validate(changed))
            await socket.send("after")
            assert await socket.recv() == "after"
            assert (await open_websocket(client)).response.status == 404
            assert (await open_websocket(client, "/new")).response.status == 200


# Back-pressure


async def test_a_client_that_takes_nothing_holds_the_server_back(front: Front) -> None:
    """Of a gigabyte that the server wants to send only the buffers on the way are filled."""
    sent = 0

    async def script(peer: Conversation, request: Request) -> None:
        nonlocal sent
        await peer.send(accepting(request))
        peer.patience = 3600.0
        while True:
            await peer.send(bytes(65536))
            sent += 65536

    await front.proxy(await front.stage.server(script))
    async with front.client(window=65535) as client:
        stream = await client.start_raw([*opening(client, "/"), VERSION], end=False, credit=False)
        stream.keep = False
        await stream.arrived(65535)
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.3)
        assert sent < 16 << 20
        await stream.give_credit(32 << 20)
        await stream.arrived(32 << 20)
        await stream.cancel()


async def test_a_server_that_takes_nothing_holds_the_client_back(front: Front) -> None:
    now = asyncio.Event()
    digest = hashlib.sha256()

    async def script(peer: Conversation, request: Request) -> None:
        await peer.send(accepting(request))
        await now.wait()
        while data := await peer.recv():
            digest.update(data)

    proxy = await front.proxy(await front.stage.server(script))
    block = hashlib.sha512(b"tunnel").digest() * 16384
    async with front.client() as client:
        socket = await opened(client)
        sending = asyncio.create_task(send_all(socket, block, 64))
        before = -1
        while before != socket.stream.sent:
            before = socket.stream.sent
            await asyncio.sleep(0.3)
        assert socket.stream.sent < 16 << 20
        now.set()
        await sending
        await socket.stream.end()
        await eventually(lambda: proxy.pools["main"].servers[0].active == 0, 20)
    assert digest.digest() == hashlib.sha256(block * 64).digest()


async def send_all(socket: H2WebSocket, block: bytes, count: int) -> None:
    for _ in range(count):
        await socket.stream.send(block)
