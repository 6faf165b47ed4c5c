"""Tunnels that are refused, answered wrongly, or whose ends die, half-close, idle or do not read."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from support.client import Client
from support.http import Request, request_bytes
from support.proxies import eventually
from support.scripts import sends
from support.server import Conversation
from support.stage import Stage

ASK = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"

Tunnelled = Callable[[Conversation], Awaitable[None]]


def switches(tunnelled: Tunnelled) -> Callable[[Conversation, Request], Awaitable[None]]:
    """A server that says 101 and then does what `tunnelled` does."""

    async def script(peer: Conversation, request: Request) -> None:
        await peer.send(SWITCH)
        await tunnelled(peer)

    return script


async def echo(peer: Conversation) -> None:
    """Send everything back; a FIN is answered by a FIN."""
    while data := await peer.recv():
        await peer.send(data)
    peer.close()


async def until_closed(peer: Conversation) -> None:
    """Read on, say nothing."""
    await peer.wait_closed()


async def open_tunnel(stage: Stage) -> Client:
    """A client that has its 101."""
    client = await stage.connect()
    assert (await client.request("GET", "/api/ws", fields=ASK)).status == 101
    return client


async def test_client_that_resets_ends_the_servers_end(stage: Stage) -> None:
    server = await stage.server(switches(until_closed))
    proxy = await stage.proxy(server)
    client = await open_tunnel(stage)
    client.reset()
    await eventually(lambda: not server.open, 10, what="the server's end closed")
    await eventually(lambda: proxy.pools["main"].servers[0].active == 0)


async def test_server_that_resets_breaks_the_clients_end(stage: Stage) -> None:
    async def dies(peer: Conversation) -> None:
        await peer.recv()
        peer.reset()

    await stage.proxy(await stage.server(switches(dies)))
    client = await open_tunnel(stage)
    await client.send(b"ping")
    assert await client.wait_closed() == "reset"


async def test_server_that_closes_closes_the_client(stage: Stage) -> None:
    async def leaves(peer: Conversation) -> None:
        await peer.send(b"bye")
        peer.close()

    await stage.proxy(await stage.server(switches(leaves)))
    client = await open_tunnel(stage)
    assert await client.read_exactly(3) == b"bye"
    assert await client.wait_closed() == "fin"


async def test_half_close_by_the_client_leaves_the_other_way_open(stage: Stage) -> None:
    async def answers_at_the_end(peer: Conversation) -> None:
        data = await peer.read_to_end()
        assert peer.ended == "fin"
        await peer.send(b"got " + data)
        peer.close()

    await stage.proxy(await stage.server(switches(answers_at_the_end)))
    client = await open_tunnel(stage)
    await client.send(b"everything")
    client.half_close()
    assert await client.read_to_end() == b"got everything"


async def test_half_close_by_the_server_leaves_the_other_way_open(stage: Stage) -> None:
    heard = asyncio.Event()

    async def listens_on(peer: Conversation) -> None:
        await peer.send(b"that was all")
        peer.half_close()
        assert await peer.read_to_end() == b"still here"
        heard.set()

    await stage.proxy(await stage.server(switches(listens_on)))
    client = await open_tunnel(stage)
    assert await client.read_to_end() == b"that was all"
    await client.send(b"still here")
    client.half_close()
    await asyncio.wait_for(heard.wait(), 10)


async def test_idle_tunnel_is_closed_at_both_ends(stage: Stage) -> None:
    server = await stage.server(switches(until_closed))
    await stage.proxy(server, route={"tunnel_timeout": "400ms"})
    client = await open_tunnel(stage)
    await client.wait_closed()
    await eventually(lambda: not server.open, 10, what="the server's end closed")


async def test_a_tunnel_that_is_used_does_not_idle_out(stage: Stage) -> None:
    """And the timeouts of requests are not its timeouts."""
    short = {"timeouts": {"read": "1s", "send": "1s"}}
    listener = {"idle_timeout": "1s", "body_timeout": "1s", "header_timeout": "1s"}
    await stage.proxy(
        await stage.server(switches(echo)), route={"tunnel_timeout": "3s"}, pool=short, listener=listener
    )
    client = await open_tunnel(stage)
    for _ in range(3):
        await asyncio.sleep(1.3)
        await client.send(b"ping")
        assert await client.read_exactly(4) == b"ping"


@pytest.mark.parametrize("status", [200, 400, 403, 426])
async def test_refused_upgrade_is_an_ordinary_answer(stage: Stage, status: int) -> None:
    async def refuses(peer: Conversation, request: Request) -> None:
        await peer.respond(b"no tunnel", status)

    server = await stage.server(refuses)
    await stage.proxy(server)
    client = await stage.connect()
    response = await client.request("GET", "/api/ws", fields=ASK)
    assert (response.status, response.body, response.complete) == (status, b"no tunnel", True)
    assert (await stage.get()).status == status
    assert [request.connection for request in server.requests] == [1, 2], "asked for an upgrade, reused"


@pytest.mark.parametrize("ends", ["close", "reset"])
async def test_server_that_ends_instead_of_101_is_502(stage: Stage, ends: str) -> None:
    await stage.proxy(await stage.server(sends(b"", ends)), pool={"retry": {"tries": 1}})
    client = await stage.connect()
    assert (await client.request("GET", "/api/ws", fields=ASK)).status == 502


async def test_101_to_another_protocol_is_502(stage: Stage) -> None:
    other = SWITCH.replace(b"websocket", b"h2c")
    await stage.proxy(await stage.server(sends(other)), pool={"retry": {"tries": 1}})
    client = await stage.connect()
    assert (await client.request("GET", "/api/ws", fields=ASK)).status == 502


async def test_bytes_right_behind_the_101_reach_the_client(stage: Stage) -> None:
    await stage.proxy(await stage.server(sends(SWITCH + b"first frame")))
    client = await open_tunnel(stage)
    assert await client.read_exactly(11) == b"first frame"


async def test_bytes_right_behind_the_request_are_never_a_request(stage: Stage) -> None:
    """They are the tunnel's if there is one, else they pass the parser or the connection closes."""

    async def refuses(peer: Conversation, request: Request) -> None:
        await peer.respond(b"no", 403)

    server = await stage.server(refuses)
    await stage.proxy(server)
    client = await stage.connect()
    await client.send(request_bytes("GET", "/api/ws", fields=ASK) + b"\x81\x85garbage that is a frame")
    assert (await client.response()).status == 403
    await client.wait_closed()
    assert server.targets() == ["/api/ws"]


@pytest.mark.parametrize("protocol", ["h2c", "foo", "websocket, h2c"])
async def test_upgrade_that_the_route_does_not_list_is_not_passed_on_as_asked(stage: Stage, protocol: str) -> None:
    server = await stage.server()
    await stage.proxy(server)
    client = await stage.connect()
    fields = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": protocol, "HTTP2-Settings": "AAMAAABk"}
    assert (await client.request("GET", "/", fields=fields)).status == 200
    (request,) = server.requests
    assert request.fields.get_all("HTTP2-Settings") == []
    assert not request.fields.has_token("Upgrade", "h2c")
    assert not request.fields.has_token("Upgrade", "foo")


async def test_upgrades_of_a_route_may_be_others(stage: Stage) -> None:
    switch = SWITCH.replace(b"websocket", b"chat")
    await stage.proxy(await stage.server(sends(switch + b"hi")), route={"upgrades": ["chat"]})
    client = await stage.connect()
    response = await client.request("GET", "/", fields={"Connection": "Upgrade", "Upgrade": "chat"})
    assert response.status == 101
    assert await client.read_exactly(2) == b"hi"


@pytest.mark.parametrize("reader", ["client", "server"])
async def test_an_end_that_does_not_read_holds_the_other_back(stage: Stage, reader: str) -> None:
    """Bytes pile up in the kernel and in bounded buffers, and no further."""
    sent = 0

    async def pours(peer: Conversation | Client) -> None:
        nonlocal sent
        peer.patience = 60
        while sent < 200 << 20:
            await peer.send(bytes(1 << 16))
            sent += 1 << 16

    async def idles(peer: Conversation) -> None:
        await asyncio.sleep(60)

    await stage.proxy(await stage.server(switches(pours if reader == "client" else idles)))
    client = await open_tunnel(stage)
    pouring = asyncio.create_task(pours(client)) if reader == "server" else None
    await eventually(lambda: sent, what="the first bytes")
    before = -1
    while sent != before:
        before = sent
        await asyncio.sleep(0.5)
    assert 0 < sent < 32 << 20
    if pouring:
        pouring.cancel()
        await asyncio.gather(pouring, return_exceptions=True)


async def test_megabytes_both_ways_at_once_come_back_as_they_went(stage: Stage) -> None:
    await stage.proxy(await stage.server(switches(echo)))
    client = await open_tunnel(stage)
    data = bytes(range(251)) * 40_000
    sending = asyncio.create_task(client.send(data))
    assert await client.read_exactly(len(data)) == data
    await sending


async def test_a_tunnel_counts_as_active_and_dead_ends_are_noticed_at_once(stage: Stage) -> None:
    server = await stage.server(switches(until_closed))
    proxy = await stage.proxy(server)
    live = proxy.pools["main"].servers[0]
    clients = [await open_tunnel(stage) for _ in range(3)]
    assert live.active == 3
    for client in clients:
        client.reset()
    await eventually(lambda: live.active == 0, 10, what="the tunnels gone")
