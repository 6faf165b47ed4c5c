"""What outlives a reload: states, counters, connections to servers, whose turn it is. And what does not."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from support.family import connect_to, connect_to_each, served_by
from support.http import request_bytes
from support.proxies import Settings, entry, eventually, settings
from support.scraping import fetch, growing, pools, reach, samples, servers, shrunk, states
from support.scripts import Held, HeldBelow
from support.server import Server
from support.stage import Stage

TWO = {"workers": 2, "shutdown_timeout": "1s"}
ADMIN = {"bind": "127.0.0.1:0"}
CHECKS = {"path": "/health", "inter": "100ms", "timeout": "5s", "fall": 2, "rise": 2}


def with_servers(config: Settings, *listed: Settings | Server, **pool: Any) -> Settings:
    """`config` with another pool `main`."""
    main = config["pools"]["main"] | pool | {"servers": [entry(server) for server in listed]}
    return config | {"pools": {"main": main}}


async def test_states_and_checks(stage: Stage) -> None:
    """Nobody begins anew: the old keep their state and its age, a new one is checked first."""
    up, down, fresh = [await stage.server(health=True) for _ in range(3)]
    down.healthy = False
    config = settings(up, down, pool={"health": CHECKS}, proxy=TWO, admin=ADMIN)
    process = await stage.run(config)
    await reach(process, "state", ["up", "down"])
    before = await servers(process)
    for change in ({"keepalive": 5}, {"health": CHECKS | {"rise": 3}}, {"balance": "least_conn"}):
        await process.put_into_force(with_servers(config, up, down, **change))
        after = await servers(process)
        for key in ("state", "state_since", "address"):
            assert [server[key] for server in after] == [server[key] for server in before]
    seen = up.checks
    await eventually(lambda: up.checks > seen + 2)
    fresh.healthy = False
    await process.put_into_force(with_servers(config, up, down, fresh))
    await reach(process, "state", ["up", "down", "down"])
    assert not fresh.requests
    down.healthy = True
    await reach(process, "state", ["up", "up", "down"])


async def test_an_ejected_server_stays_out(stage: Stage) -> None:
    good, dead = await stage.server(), await stage.server()
    config = settings(good, dead, pool={"max_fails": 1, "fail_window": "60s"}, proxy=TWO, admin=ADMIN)
    process = await stage.run(config)
    await dead.stop()
    assert {(await stage.get()).status for _ in range(8)} == {200}
    await reach(process, "state", ["up", "down"])
    await dead.start()
    await process.put_into_force(with_servers(config, good, dead, keepalive=5))
    assert await states(process) == ["up", "down"]
    for worker in process.workers:
        client = await connect_to(stage, process, worker)
        assert {(await client.request()).body for _ in range(4)} == {b"server1"}


async def test_counters(stage: Stage) -> None:
    first, second = await stage.server(), await stage.server()
    config = settings(first, proxy=TWO, admin=ADMIN)
    process = await stage.run(config)
    clients = await connect_to_each(stage, process)
    for client in clients:
        for _ in range(3):
            assert (await client.request()).status == 200
    await reach(process, "requests", [6])
    before = growing(await samples(process))
    for changed in (with_servers(config, second, first, keepalive=5), config):
        await process.put_into_force(changed)
        now = growing(await samples(process))
        assert shrunk(before, now) == set()
    await reach(process, "requests", [6])
    for client in clients:
        assert (await client.request()).status == 200
    await reach(process, "requests", [8])


async def test_connections_to_servers(stage: Stage) -> None:
    server, other = await stage.server(), await stage.server()
    config = settings(server, proxy=TWO, admin=ADMIN)
    process = await stage.run(config)
    clients = await connect_to_each(stage, process)
    for client in clients:
        assert (await client.request()).status == 200
    used = [request.connection for request in server.requests]
    assert server.connections == 2
    changes = (
        with_servers(config, server, keepalive_timeout="30s"),
        with_servers(config, server, entry(other, backup=True), balance="least_conn"),
        config | {"routes": [{"path": "/", "pool": "main", "max_body": 9}]},
    )
    for changed in changes:
        await process.put_into_force(changed)
        for client in clients:
            assert (await client.request()).status == 200
        assert [request.connection for request in server.requests[-2:]] == used
    assert server.connections == 2
    await reach(process, "idle_connections", [2])


async def test_whose_turn_it_is(stage: Stage) -> None:
    listed = [await stage.server() for _ in range(3)]
    config = settings(*listed)
    process = await stage.run(config)
    client = await stage.connect()
    turns = [(await client.request()).body for _ in range(3)]
    assert len(set(turns)) == 3
    for number in range(7):
        # A reload that changes nothing, then one that changes the pool but not its servers.
        await process.put_into_force(
            with_servers(config, *listed, keepalive=number + 1 if number % 2 else 32)
        )
        assert (await client.request()).body == turns[number % 3]


async def test_a_removed_server_finishes_what_it_has_and_is_forgotten(stage: Stage) -> None:
    held = Held()
    going, staying = await stage.server(held), await stage.server()
    config = settings(going, proxy=TWO, admin=ADMIN)
    process = await stage.run(config)
    clients = await connect_to_each(stage, process)
    for client in clients:
        await client.send(request_bytes())
    await eventually(lambda: held.waiting == 2)
    await process.put_into_force(with_servers(config, staying))
    assert [server["address"] for server in await servers(process)] == [staying.address]
    assert going.address not in (await fetch(process, "/metrics")).body.decode()
    for worker in process.workers:
        another = await connect_to(stage, process, worker)
        assert {(await another.request()).body for _ in range(4)} == {b"server2"}
    held.release()
    for client in clients:
        assert (await client.response()).body == b"server1"
    # Nothing is kept of it: its connections are closed once they are not used.
    await eventually(lambda: not going.open)
    assert len(going.requests) == 2
    for client in clients:
        assert (await client.request()).body == b"server2"


async def test_a_removed_pool_closes_its_connections_and_ends_its_checks(stage: Stage) -> None:
    going, staying = await stage.server(health=True), await stage.server()
    config = settings(going, pool={"health": CHECKS}, proxy=TWO, admin=ADMIN)
    process = await stage.run(config)
    for worker in process.workers:
        assert (await (await connect_to(stage, process, worker)).request()).body == b"server1"
    other = {"pools": {"other": {"servers": [entry(staying)]}}, "routes": [{"path": "/", "pool": "other"}]}
    await process.put_into_force(config | other)
    assert set(await pools(process)) == {"other"}
    await eventually(lambda: not going.open)
    checks = going.checks
    assert {(await stage.get()).body for _ in range(6)} == {b"server2"}
    await asyncio.sleep(0.3)
    assert (going.checks, len(going.requests)) == (checks, 2)


@pytest.mark.parametrize("checked", [False, True], ids=["unchecked", "checked"])
async def test_a_configured_state_takes_effect(stage: Stage, checked: bool) -> None:
    script = HeldBelow()
    first, second = await stage.server(script, health=True), await stage.server(health=True)
    pool = {"health": CHECKS} if checked else {}
    alone = settings(first, pool=pool, proxy=TWO, admin=ADMIN)
    process = await stage.run(alone)
    client = await stage.connect()
    await client.send(request_bytes("POST", "/held", body=b"once"))
    await eventually(lambda: script.held.waiting == 1)
    config = with_servers(alone, first, second)
    await process.put_into_force(config)
    await reach(process, "state", ["up", "up"])
    for state in ("drain", "maint"):
        await process.put_into_force(with_servers(config, entry(first, state=state), second))
        assert await states(process) == [state, "up"]
        for worker in process.workers:
            another = await connect_to(stage, process, worker)
            assert {(await another.request()).body for _ in range(4)} == {b"server2"}
        # What it has, it finishes; a POST cannot go anywhere else.
        assert script.held.waiting == 1
    script.held.release()
    assert (await client.response()).body == b"server1"
    await process.put_into_force(config)
    await reach(process, "state", ["up", "up"])
    await served_by(stage, process, first, second)
