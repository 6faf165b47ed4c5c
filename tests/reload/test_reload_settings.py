"""What a good reload puts into force, in every worker: routes, pools, limits, logs, the admin port."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import pytest

from support.client import connect
from support.family import connect_to, connect_to_each
from support.http import request_bytes
from support.proxies import entry, eventually, settings
from support.scraping import fetch, pools, reach
from support.scripts import Held
from support.stage import Stage

TWO = {"workers": 2, "shutdown_timeout": "1s"}
ADMIN = {"bind": "127.0.0.1:0"}


@pytest.mark.parametrize("by_signal", [False, True], ids=["command", "signal"])
async def test_routes_and_pools_change_under_open_connections(stage: Stage, by_signal: bool) -> None:
    first, second = await stage.server(), await stage.server()
    config = settings(first, proxy=TWO, admin=ADMIN)
    process = await stage.run(config)
    clients = await connect_to_each(stage, process)
    for client in clients:
        assert (await client.request()).body == b"server1"
    family = process.family
    changed = config | {
        "routes": [{"path": "/", "pool": "fresh"}, {"host": "old.example", "pool": "main"}],
        "pools": config["pools"] | {"fresh": {"servers": [entry(second)]}},
    }
    if by_signal:
        process.write(changed)
        process.signal(signal.SIGHUP)
        await process.wait_for_line("reloaded .*lb.toml in")
    else:
        status, said = await process.reload_command()  # nothing is different yet
        assert (status, said.startswith("reloaded in ")) == (0, True)
        process.write(changed)
        assert (await process.reload_command())[0] == 0
    for client in clients:
        response = await client.request()
        assert (response.body, response.fields.has_token("Connection", "close")) == (b"server2", False)
        assert (await client.request(host="old.example")).body == b"server1"
    assert set(await pools(process)) == {"main", "fresh"}
    assert process.family == family
    await process.put_into_force(config)
    for client in clients:
        assert (await client.request()).body == b"server1"
    assert set(await pools(process)) == {"main"}


async def test_a_limit_of_a_route(stage: Stage) -> None:
    config = settings(await stage.server(), proxy=TWO)
    process = await stage.run(config)
    for limit, status in ((None, 200), (5, 413), (10, 200)):
        route = {"path": "/", "pool": "main"} | ({"max_body": limit} if limit else {})
        await process.put_into_force(config | {"routes": [route]})
        for worker in process.workers:
            client = await connect_to(stage, process, worker)
            assert (await client.request("POST", body=b"1234567890")).status == status


async def test_limits_of_a_listener_are_for_those_who_come_after(stage: Stage) -> None:
    config = settings(await stage.server(), proxy=TWO)
    process = await stage.run(config)
    early = await connect_to_each(stage, process)
    for client in early:
        await client.send(b"GET / HTTP/1.1\r\n")
    strict = {"bind": "127.0.0.1:0", "header_timeout": "2s", "max_fields": 2}
    await process.put_into_force(config | {"listeners": [strict]})
    slow = []
    for worker in process.workers:
        client = await connect_to(stage, process, worker)
        await client.send(b"GET / HTTP/1.1\r\n")
        slow.append(client)
        client = await connect_to(stage, process, worker)
        assert (await client.request(fields={"A": "1", "B": "2", "C": "3"})).status == 431
    for client in slow:
        assert (await client.response()).status == 408
    # They keep what they had, and so their time; then they come again for the new.
    for client in early:
        await client.send(b"Host: a\r\nA: 1\r\nB: 2\r\nC: 3\r\n\r\n")
        response = await client.response()
        assert (response.status, response.fields.has_token("Connection", "close")) == (200, True)


async def test_a_limit_of_a_server_lets_in_those_who_wait_for_it(stage: Stage) -> None:
    held = Held()
    server = await stage.server(held)
    config = settings(entry(server, max_connections=1), pool={"queue_timeout": "20s"}, admin=ADMIN)
    process = await stage.run(config)
    clients = [await stage.connect() for _ in range(3)]
    for client in clients:
        await client.send(request_bytes())

    async def queued(count: int) -> None:
        async with asyncio.timeout(5):
            while (await pools(process))["main"]["queued"] != count:
                await asyncio.sleep(0.01)

    await queued(2)
    config["pools"]["main"]["servers"] = [entry(server, max_connections=2)]
    await process.put_into_force(config)
    await eventually(lambda: held.waiting == 2)
    await queued(1)
    config["pools"]["main"]["servers"] = [entry(server)]
    await process.put_into_force(config)
    await eventually(lambda: held.waiting == 3)
    held.release()
    for client in clients:
        assert (await client.response()).status == 200


async def test_the_balancing_of_a_pool(stage: Stage) -> None:
    listed = [await stage.server() for _ in range(3)]
    config = settings(*listed, proxy=TWO, admin=ADMIN)
    process = await stage.run(config)
    clients = await connect_to_each(stage, process)
    for client in clients:
        assert len({(await client.request()).body for _ in range(6)}) == 3
    config["pools"]["main"] |= {"balance": "hash", "hash_key": "uri"}
    await process.put_into_force(config)
    assert len({(await client.request(target="/same")).body for client in clients for _ in range(6)}) == 1
    assert (await pools(process))["main"]["balance"] == "hash"


async def test_the_access_log_moves(stage: Stage, tmp_path: Path) -> None:
    first, second = tmp_path / "first.log", tmp_path / "second.log"
    config = settings(await stage.server(), proxy=TWO, log={"access": "json", "access_path": str(first)})
    process = await stage.run(config)
    clients = await connect_to_each(stage, process)
    steps = [
        ("/first", {"access": "json", "access_path": str(first)}),
        ("/second", {"access": "json", "access_path": str(second)}),
        ("/none", {"access": "off"}),
        ("/third", {"access": "json", "access_path": str(second)}),
    ]
    for target, section in steps:
        await process.put_into_force(config | {"log": section})
        for client in clients:
            response = await client.request(target=target)
            assert (response.status, response.fields.has_token("Connection", "close")) == (200, False)

    def logged(path: Path) -> list[str]:
        return [json.loads(line)["path"] for line in path.read_text().splitlines()]

    await eventually(lambda: len(logged(first)) == 2 and len(logged(second)) == 4)
    assert logged(first) == ["/first", "/first"]
    # Each worker writes in its own time.
    assert sorted(logged(second)) == ["/second", "/second", "/third", "/third"]


async def test_the_admin_port_moves_opens_and_closes(stage: Stage) -> None:
    first, moved = stage.free_address(), stage.free_address()
    config = settings(await stage.server(), proxy=TWO, admin={"bind": first})
    process = await stage.run(config)
    await process.put_into_force(config | {"admin": {"bind": moved}})
    process.admin_address = moved
    assert (await fetch(process, "/healthz")).status == 200
    with pytest.raises(ConnectionRefusedError):
        await connect(first)
    await process.put_into_force({key: value for key, value in config.items() if key != "admin"})
    with pytest.raises(ConnectionRefusedError):
        await connect(moved)
    await process.put_into_force(config | {"admin": {"bind": moved}})
    assert (await fetch(process, "/healthz")).status == 200
    await reach(process, "state", ["up"])


async def test_what_needs_a_restart_is_said_and_the_rest_is_done(stage: Stage) -> None:
    config = settings(await stage.server(), proxy=TWO)
    process = await stage.run(config)
    changed = config | {"proxy": {**TWO, "workers": 3}, "routes": [{"path": "/new", "pool": "main"}]}
    process.write(changed)
    status, said = await process.reload_command()
    assert status == 0
    assert "proxy.workers = 3 takes effect at the next start" in said
    await process.wait_for_line("WARNING .* proxy.workers = 3 takes effect")
    assert len(process.workers) == 2
    for client in await connect_to_each(stage, process):
        assert (await client.request()).status == 404
        assert (await client.request(target="/new")).status == 200


async def test_the_timeout_of_a_stop(stage: Stage) -> None:
    held = Held()
    config = settings(await stage.server(held), proxy={**TWO, "shutdown_timeout": "60s"})
    process = await stage.run(config)
    client = await stage.connect()
    await client.send(request_bytes())
    await eventually(lambda: held.waiting == 1)
    await process.put_into_force(config | {"proxy": {**TWO, "shutdown_timeout": "200ms"}})
    process.signal(signal.SIGTERM)
    assert await client.wait_closed() == "reset"
    assert await process.wait(10) == 0
