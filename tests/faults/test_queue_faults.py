"""Servers that are full: who waits, how long, and what those hear who waited in vain."""

from __future__ import annotations

import asyncio
import time

from support.http import request_bytes
from support.load import Load
from support.proxies import entry, eventually
from support.scripts import Held
from support.server import ok
from support.stage import Stage


async def test_max_connections_is_never_exceeded_at_full_speed(stage: Stage) -> None:
    most = 0
    now = 0

    async def counts(peer: object, request: object) -> None:
        nonlocal most, now
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        now -= 1
        await ok(peer, request)  # type: ignore[arg-type]

    server = await stage.server(counts)
    await stage.proxy(entry(server, max_connections=3), pool={"queue_timeout": "10s"})
    tally = await Load(stage.address, clients=20, requests=30).run()
    assert tally.faultless, (tally.statuses, tally.errors[:3])
    assert most <= 3


async def test_a_full_queue_is_503_at_once_with_retry_after(stage: Stage) -> None:
    held = Held()
    server = await stage.server(held)
    pool = {"queue_size": 2, "queue_timeout": "10s"}
    proxy = await stage.proxy(entry(server, max_connections=1), pool=pool)
    waiting = [asyncio.create_task(stage.get()) for _ in range(3)]
    await eventually(lambda: proxy.pools["main"].queued == 2)
    began = time.monotonic()
    response = await stage.get()
    assert response.status == 503
    assert response.fields.get("Retry-After")
    assert time.monotonic() - began < 5
    held.release()
    assert [(await task).status for task in waiting] == [200] * 3


async def test_a_wait_that_is_too_long_is_503_with_retry_after(stage: Stage) -> None:
    held = Held()
    server = await stage.server(held)
    await stage.proxy(entry(server, max_connections=1), pool={"queue_timeout": "300ms"})
    first = asyncio.create_task(stage.get())
    await eventually(lambda: held.waiting == 1)
    began = time.monotonic()
    response = await stage.post()
    assert response.status == 503
    assert response.fields.get("Retry-After")
    assert 0.2 < time.monotonic() - began < 5
    held.release()
    assert (await first).status == 200
    assert len(server.requests) == 1


async def test_the_queue_is_served_in_order(stage: Stage) -> None:
    held = Held()
    server = await stage.server(held)
    proxy = await stage.proxy(entry(server, max_connections=1))
    tasks = []
    for number in range(6):
        tasks.append(asyncio.create_task(stage.get(f"/{number}")))
        await eventually(lambda: held.waiting + proxy.pools["main"].queued == number + 1)  # noqa: B023
    held.release()
    await asyncio.gather(*tasks)
    assert server.targets() == [f"/{number}" for number in range(6)]


async def test_a_full_server_is_passed_over_for_one_with_room(stage: Stage) -> None:
    held = Held()
    full = await stage.server(held)
    free = await stage.server()
    await stage.proxy(entry(full, max_connections=1, weight=100), free)
    waiting = asyncio.create_task(stage.get())
    await eventually(lambda: held.waiting == 1)
    assert [(await stage.get()).body for _ in range(5)] == [b"server2"] * 5
    held.release()
    assert (await waiting).status == 200


async def test_full_primaries_make_way_for_the_backup(stage: Stage) -> None:
    """Available means up and not full."""
    held = Held()
    primary = await stage.server(held)
    backup = await stage.server()
    await stage.proxy(entry(primary, max_connections=1), entry(backup, backup=True))
    waiting = asyncio.create_task(stage.get())
    await eventually(lambda: held.waiting == 1)
    assert (await stage.get()).body == b"server2"
    held.release()
    assert (await waiting).status == 200
    assert (await stage.get()).body == b"server1"


async def test_those_in_the_queue_go_on_when_the_full_server_dies(stage: Stage) -> None:
    held = Held()
    dying = await stage.server(held)
    await stage.proxy(entry(dying, max_connections=1), pool={"queue_timeout": "10s", "max_fails": 1})
    client = await stage.connect()
    await client.send(request_bytes())
    await eventually(lambda: held.waiting == 1)
    waiting = [asyncio.create_task(stage.get()) for _ in range(3)]
    began = time.monotonic()
    await dying.stop()
    assert {(await task).status for task in waiting} <= {502, 503}
    assert time.monotonic() - began < 3


async def test_a_client_that_resets_frees_its_place(stage: Stage) -> None:
    held = Held()
    server = await stage.server(held)
    await stage.proxy(entry(server, max_connections=1))
    client = await stage.connect()
    await client.send(request_bytes())
    await eventually(lambda: held.waiting == 1)
    second = asyncio.create_task(stage.get("/second"))
    client.reset()
    await eventually(lambda: "/second" in server.targets())
    held.release()
    assert (await second).status == 200
