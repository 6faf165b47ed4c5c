"""Idle connections to servers that die at the worst moment: it costs a client nothing, and a POST is never doubled."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from support.http import Request
from support.load import Load
from support.proxies import eventually
from support.scripts import end
from support.server import Conversation, Script, Server
from support.stage import Stage


def closes_after_answer(how: str) -> Script:
    """Answers, promises keepalive, and ends the connection."""

    async def script(peer: Conversation, request: Request) -> None:
        await peer.respond(b"ok", fields=[("Connection", "keep-alive")])
        end(peer, how)

    return script


def closes_on_second(how: str) -> Script:
    """Ends the connection when a second request arrives on it, unanswered."""

    async def script(peer: Conversation, request: Request) -> None:
        if peer.requests > 1:
            peer.server.requests.remove(request)  # not acted on: it does not count as seen
            end(peer, how)
        else:
            await peer.respond(b"ok")

    return script


def repeated(*servers: Server) -> list[bytes]:
    """Bodies that arrived more than once, over all servers."""
    seen = Counter(request.body for server in servers for request in server.requests)
    return [body for body, count in seen.items() if count > 1]


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("how", ["close", "reset"])
async def test_every_server_closes_after_each_answer_at_full_speed(stage: Stage, method: str, how: str) -> None:
    servers = [await stage.server(closes_after_answer(how)) for _ in range(3)]
    proxy = await stage.proxy(*servers)
    tally = await Load(stage.address, clients=16, requests=60, method=method).run()
    assert tally.faultless, (tally.statuses, tally.errors[:3])
    if method == "POST":
        assert not repeated(*servers)
    assert {server.state_name for server in proxy.pools["main"].servers} == {"up"}


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("how", ["close", "reset"])
async def test_every_server_closes_on_the_second_request_at_full_speed(stage: Stage, method: str, how: str) -> None:
    """GET is tried again; POST goes out only on a connection that cannot be hit by the race."""
    servers = [await stage.server(closes_on_second(how)) for _ in range(3)]
    proxy = await stage.proxy(*servers)
    tally = await Load(stage.address, clients=16, requests=60, method=method).run()
    assert tally.faultless, (tally.statuses, tally.errors[:3])
    if method == "POST":
        assert not repeated(*servers)
    assert {server.state_name for server in proxy.pools["main"].servers} == {"up"}


async def test_post_after_gets_on_servers_that_close_on_the_second_request(stage: Stage) -> None:
    """GETs fill the pool with idle connections; the POST must not be the one that finds out."""
    server = await stage.server(closes_on_second("close"))
    await stage.proxy(server)
    for _ in range(10):
        assert (await stage.get()).status == 200
        assert (await stage.post()).status == 200


async def test_server_that_restarts_while_connections_are_idle_costs_nothing(stage: Stage) -> None:
    server = await stage.server()
    proxy = await stage.proxy(server)
    assert (await Load(stage.address, clients=8, requests=4).run()).faultless
    await server.stop()
    await server.start()
    for method in ("POST", "GET"):
        tally = await Load(stage.address, clients=8, requests=4, method=method).run()
        assert tally.faultless, (tally.statuses, tally.errors[:3])
    assert proxy.pools["main"].servers[0].state_name == "up"


async def test_keepalive_timeout_that_a_server_announces_is_learned(stage: Stage) -> None:
    """`Keep-Alive: timeout=1`: the connection is dropped before the server drops it."""

    async def script(peer: Conversation, request: Request) -> None:
        await peer.respond(b"ok", fields=[("Keep-Alive", "timeout=1")])

    server = await stage.server(script)
    await stage.proxy(server)
    await stage.get()
    await eventually(lambda: not server.open, 10, what="the idle connection closed")
    assert (await stage.post()).status == 200
    assert server.connections == 2


async def test_keepalive_timeout_of_the_pool_closes_idle_connections(stage: Stage) -> None:
    server = await stage.server()
    await stage.proxy(server, pool={"keepalive_timeout": "300ms"})
    await stage.get()
    await eventually(lambda: not server.open, 10, what="the idle connection closed")


async def test_a_408_on_an_idle_connection_is_nobodys_answer(stage: Stage) -> None:
    """Servers say 408 and close when a connection idles too long; the next client must not get it."""
    told = asyncio.Event()

    async def script(peer: Conversation, request: Request) -> None:
        await peer.respond(b"ok")
        if peer.number == 1:
            await peer.send(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            told.set()
            peer.close()

    await stage.proxy(await stage.server(script))
    assert (await stage.get()).status == 200
    await told.wait()
    assert [(await stage.post()).status for _ in range(3)] == [200] * 3


@pytest.mark.parametrize("promised", [True, False])
async def test_posts_alone_reuse_connections_that_a_server_promised_to_keep(stage: Stage, promised: bool) -> None:
    """Nobody but POSTs could earn the trust: a connection that lives for a second, as promised, does."""

    async def script(peer: Conversation, request: Request) -> None:
        await peer.respond(b"ok", fields=[("Connection", "keep-alive")] if promised else [])

    server = await stage.server(script)
    proxy = await stage.proxy(server, pool={"keepalive": 2})
    for _ in range(4):
        await stage.post()
    assert server.connections == 4
    ours = proxy.pools["main"].servers[0]
    oldest = ours.idle[0]
    await eventually(lambda: oldest.sweep.now - oldest.idle_since >= 1.0, 10, what="a second of idleness")
    assert ours.idle[0] is oldest
    for _ in range(4):
        await stage.post()
    assert server.connections == (5 if promised else 8)


async def test_connection_close_from_a_server_is_honoured(stage: Stage) -> None:
    async def script(peer: Conversation, request: Request) -> None:
        await peer.respond(b"ok", fields=[("Connection", "Close")])
        await peer.wait_closed()

    server = await stage.server(script)
    await stage.proxy(server)
    for _ in range(3):
        assert (await stage.post()).status == 200
    assert [request.connection for request in server.requests] == [1, 2, 3]


async def test_idle_connections_are_reused_last_in_first_out_and_bounded(stage: Stage) -> None:
    gate = asyncio.Barrier(8)

    async def script(peer: Conversation, request: Request) -> None:
        if request.target == "/wait":
            await gate.wait()
        await peer.respond(b"ok")

    server = await stage.server(script)
    await stage.proxy(server, pool={"keepalive": 3})
    await asyncio.gather(*(stage.get("/wait") for _ in range(8)))
    await eventually(lambda: len(server.open) == 3, what="three idle connections kept")
    for _ in range(5):
        await stage.get()
    assert server.connections == 8
    assert len({request.connection for request in server.requests[8:]}) == 1


async def test_requests_per_upstream_connection_are_bounded(stage: Stage) -> None:
    server = await stage.server()
    await stage.proxy(server, pool={"keepalive_requests": 2})
    for _ in range(6):
        await stage.get()
    assert [request.connection for request in server.requests] == [1, 1, 2, 2, 3, 3]
