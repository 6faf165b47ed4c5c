"""Pools with real servers: failover, backup, checks, queues, drained and returning servers, reload."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

from support.http import Request
from support.proxies import entry, settings
from support.scripts import Held
from support.server import Conversation, Server
from support.stage import Stage
from vsproxy import Config
from vsproxy.upstream.server import DRAIN, UP

CHECKS = {"path": "/api/health", "status": "200", "inter": "100ms", "fall": 3, "rise": 2}


class Switchable:
    """A server whose health answer can be changed."""

    def __init__(self) -> None:
        self.healthy = True
        self.checks = 0

    async def __call__(self, peer: Conversation, request: Request) -> None:
        if request.target == "/api/health":
            self.checks += 1
            await peer.respond(b"", 200 if self.healthy else 503)
        else:
            await peer.respond(peer.server.name.encode())


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


async def names(stage: Stage, count: int) -> Counter[bytes]:
    return Counter([(await stage.get()).body for _ in range(count)])


async def test_the_guide_backup_takes_over_and_gives_back(stage: Stage) -> None:
    scripts = [Switchable(), Switchable(), Switchable()]
    servers = [await stage.server(script) for script in scripts]
    proxy = await stage.proxy(
        entry(servers[0], weight=5), entry(servers[1], weight=5), entry(servers[2], backup=True),
        pool={"balance": "least_conn", "health": CHECKS},
    )  # fmt: skip
    live = proxy.pools["main"].servers
    await until(lambda: all(server.state == UP for server in live))
    assert await names(stage, 10) == {b"server1": 5, b"server2": 5}
    scripts[0].healthy = scripts[1].healthy = False
    await until(lambda: live[0].state_name == live[1].state_name == "down")
    assert await names(stage, 4) == {b"server3": 4}
    scripts[0].healthy = True
    await until(lambda: live[0].state == UP)
    assert await names(stage, 4) == {b"server1": 4}


async def test_fall_is_counted_exactly(stage: Stage) -> None:
    script = Switchable()
    proxy = await stage.proxy(await stage.server(script), pool={"health": CHECKS})
    server = proxy.pools["main"].servers[0]
    await until(lambda: server.state == UP)
    script.healthy = False
    before = server.check_failures
    await until(lambda: server.state_name == "down")
    assert server.check_failures - before == 3


async def test_weights_are_kept_by_round_robin(stage: Stage) -> None:
    servers = [await stage.server(Switchable()) for _ in range(3)]
    await stage.proxy(entry(servers[0], weight=3), entry(servers[1], weight=2), servers[2])
    assert await names(stage, 12) == {b"server1": 6, b"server2": 4, b"server3": 2}


async def test_max_connections_queues_and_then_serves(stage: Stage) -> None:
    held = Held()
    server = await stage.server(held)
    proxy = await stage.proxy(entry(server, max_connections=2))
    asked = [asyncio.create_task(stage.get()) for _ in range(6)]
    await until(lambda: held.waiting == 2 and proxy.pools["main"].queued == 4)
    held.release()
    assert [response.status for response in await asyncio.gather(*asked)] == [200] * 6
    assert held.most <= 2


async def test_a_full_queue_times_out_with_503_and_retry_after(stage: Stage) -> None:
    held = Held()
    proxy = await stage.proxy(entry(await stage.server(held), max_connections=1), pool={"queue_timeout": "200ms"})
    first = asyncio.create_task(stage.get())
    await until(lambda: held.waiting == 1)
    second = await stage.get()
    assert (second.status, second.fields.get("retry-after")) == (503, "1")
    assert proxy.pools["main"].queue_timeouts == 1
    held.release()
    assert (await first).status == 200


async def test_a_drained_server_finishes_what_it_has_and_gets_nothing_new(stage: Stage) -> None:
    held = Held()
    proxy = await stage.proxy(await stage.server(held), await stage.server(Switchable()))
    first = asyncio.create_task(stage.get())
    await until(lambda: held.waiting == 1)
    pool = proxy.pools["main"]
    pool.set_state(pool.servers[0], DRAIN, "test")
    assert await names(stage, 4) == {b"server2": 4}
    held.release()
    assert (await first).status == 200


async def test_a_reload_swaps_routes_and_pools_and_keeps_connections(stage: Stage) -> None:
    servers: list[Server] = [await stage.server(Switchable()) for _ in range(2)]
    config = settings(servers[0])
    proxy = await stage.proxy(servers[0])
    client = await stage.connect()
    assert (await client.request()).body == b"server1"
    old = proxy.pools["main"].servers[0]
    await proxy.reload(Config.model_validate({**config, "pools": {"main": {"servers": [entry(s) for s in servers]}}}))
    assert proxy.pools["main"].servers[0] is old
    assert {(await client.request()).body for _ in range(4)} == {b"server1", b"server2"}


async def test_a_name_that_does_not_resolve_is_a_server_that_is_down(stage: Stage) -> None:
    proxy = await stage.proxy("nowhere.invalid:80", await stage.server(Switchable()))
    assert [server.state_name for server in proxy.pools["main"].servers].count("down") == 1
    assert await names(stage, 3) == {b"server1": 3}


async def test_no_route_is_404(stage: Stage) -> None:
    await stage.proxy(await stage.server(), route={"path": "/only"})
    assert (await stage.get("/other")).status == 404
    assert (await stage.get("/only/this")).status == 200
    assert (await stage.get("/onlythis")).status == 404
