"""Several workers act as one: one set of checks, what one meets all know, limits are for all together."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Sequence

import pytest

from support.client import Client
from support.family import connect_to, connect_to_each
from support.http import Request, request_bytes
from support.proxies import entry, eventually
from support.scraping import reach
from support.scripts import Held, HeldBelow, reset_at_once
from support.server import Conversation, Server
from support.stage import Stage

ADMIN = {"bind": "127.0.0.1:0"}
TWO = {"workers": 2, "shutdown_timeout": "1s"}
SWEEP = 0.1
#: Requests that take turns between two servers.
TURNS = 6


@pytest.mark.parametrize("workers", [1, 4])
async def test_a_server_is_checked_as_often_however_many_workers_there_are(
    stage: Stage, workers: int
) -> None:
    interval, count = 0.05, 20
    server = await stage.server(health=True)
    health = {"path": "/health", "inter": f"{interval}s", "timeout": "5s"}
    await stage.process(server, pool={"health": health}, proxy={"workers": workers})
    seen, began = server.checks, time.monotonic()
    await eventually(lambda: server.checks >= seen + count, 20)
    # The interval is jittered by a fifth at most; four times the checks would take a quarter of the time.
    assert time.monotonic() - began > 0.75 * interval * (count - 1)


async def is_tried(bad: Server, client: Client) -> bool:
    """Whether the worker that has `client` tries `bad` before the other server, which has to answer."""
    before = bad.connections
    for _ in range(TURNS):
        assert (await client.request()).body == b"server2"
    return bad.connections > before


async def left_alone(bad: Server, clients: Sequence[Client]) -> None:
    """Wait until the worker of each client has heard that `bad` is down; from then on none tries it."""
    async with asyncio.timeout(10):
        for client in clients:
            while await is_tried(bad, client):
                await asyncio.sleep(0.01)
    assert not any([await is_tried(bad, client) for client in clients])


async def test_what_one_worker_meets_all_know(stage: Stage) -> None:
    bad, good = await stage.server(on_connect=reset_at_once), await stage.server()
    process = await stage.process(
        bad, good, pool={"max_fails": 3, "fail_window": "60s"}, admin=ADMIN, proxy=TWO
    )
    first, second = await connect_to_each(stage, process)
    while bad.connections < 3:
        assert (await first.request()).body == b"server2"
    await reach(process, "state", ["down", "up"])
    await left_alone(bad, [second, first])


async def test_failures_of_several_workers_count_together(stage: Stage) -> None:
    bad, good = await stage.server(on_connect=reset_at_once), await stage.server()
    process = await stage.process(
        bad, good, pool={"max_fails": 4, "fail_window": "60s"}, admin=ADMIN, proxy=TWO
    )
    clients = await connect_to_each(stage, process)
    for client in itertools.cycle(clients):
        # Two in each worker: neither has seen enough by itself.
        assert (await client.request()).body == b"server2"
        if bad.connections == 4:
            break
    await reach(process, "state", ["down", "up"])
    await left_alone(bad, clients)


async def test_least_conn_counts_what_the_other_workers_have(stage: Stage) -> None:
    busy, idle = HeldBelow(), HeldBelow()
    listed = [await stage.server(busy), await stage.server(idle)]
    process = await stage.process(*listed, pool={"balance": "least_conn"}, admin=ADMIN, proxy=TWO)
    here, there = process.workers
    long = [await connect_to(stage, process, here) for _ in range(8)]
    for client in long:
        await client.send(request_bytes(target="/held"))
    await eventually(lambda: busy.held.waiting == idle.held.waiting == 4)
    idle.held.release()
    # Now there are four at one server and none at the other, and the other worker has none of its own.
    client = await connect_to(stage, process, there)
    async with asyncio.timeout(10):
        # Who counts only its own takes turns for ever.
        while {(await client.request()).body for _ in range(TURNS)} != {b"server2"}:
            await asyncio.sleep(0.01)
    assert {(await client.request()).body for _ in range(20)} == {b"server2"}
    await reach(process, "active", [4, 0])
    busy.held.release()
    for client in long:
        assert (await client.response()).status == 200


async def fill(clients: list[Client], target: str, running: Callable[[], int], limit: int) -> None:
    """Send one request after the other, and wait a sweep after each so that all workers know of it."""
    for client in clients:
        before = running()
        await client.send(request_bytes(target=target))
        if before < limit:
            await eventually(lambda: running() > before)  # noqa: B023
            await asyncio.sleep(2 * SWEEP)


async def test_max_connections_is_for_all_workers_together_and_the_queue_wakes_on_the_sweep(
    stage: Stage,
) -> None:
    limit = 3
    mine, theirs = Held(), Held()

    async def script(peer: Conversation, request: Request) -> None:
        await (mine if request.target == "/mine" else theirs)(peer, request)

    pool = {"queue_timeout": "20s"}
    server = entry(await stage.server(script), max_connections=limit)
    process = await stage.process(server, pool=pool, admin=ADMIN, proxy=TWO)
    here, there = process.workers
    served = [await connect_to(stage, process, here) for _ in range(limit)]
    await fill(served, "/mine", lambda: mine.waiting, limit)
    queued = [await connect_to(stage, process, there) for _ in range(limit + 1)]
    # Each worker may have one, or those with little to do might never get a place.
    await fill(queued, "/theirs", lambda: theirs.waiting, 1)
    await reach(process, "active", [limit + 1])
    mine.release()
    # Nothing has ended in the other worker, so that only the sweep can tell it of free places.
    await eventually(lambda: theirs.waiting == limit)
    theirs.release()
    for client in (*served, *queued):
        assert (await client.response()).status == 200
    assert (mine.most, theirs.most) == (limit, limit)


async def test_a_burst_overshoots_max_connections_by_no_more_than_the_other_workers(stage: Stage) -> None:
    limit = 4
    held = Held()
    server = await stage.server(held)
    process = await stage.process(entry(server, max_connections=limit), proxy=TWO)
    clients = [await connect_to(stage, process, worker) for _ in range(10) for worker in process.workers]
    for client in clients:
        await client.send(request_bytes())
    await eventually(lambda: held.waiting >= limit)
    await asyncio.sleep(3 * SWEEP)
    assert held.most <= limit + 1
    held.release()
    for client in clients:
        assert (await client.response()).status == 200
    assert held.most <= limit + 1
