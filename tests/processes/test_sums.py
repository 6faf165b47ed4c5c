"""What is counted is counted over all workers, and outlives them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from support.family import connect_to, kill, replaced
from support.http import Request, request_bytes
from support.proxies import ProxyProcess
from support.scraping import Samples, fetch, growing, pools, reach, samples, shrunk
from support.scripts import Held
from support.server import Conversation
from support.stage import Stage

ADMIN = {"bind": "127.0.0.1:0"}
TWO = {"workers": 2, "shutdown_timeout": "1s"}


async def some_of_all(peer: Conversation, request: Request) -> None:
    """Statuses of several classes, by the target."""
    await peer.respond(b"12345678", int(request.target.removeprefix("/")))


async def settled(read: Callable[[], Awaitable[Any]], wanted: Any) -> None:
    """Wait until `read()` gives what is wanted: workers tell what they have counted ten times a second."""
    found = None
    try:
        async with asyncio.timeout(5):
            while (found := await read()) != wanted:
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"{found}, not {wanted}") from None


def total(found: Samples, name: str, **labels: str) -> float:
    return sum(
        value
        for (sample, its), value in found.items()
        if sample == name and labels.items() <= dict(its).items()
    )


async def test_counts_are_summed_over_the_workers(stage: Stage) -> None:
    process = await stage.process(await stage.server(some_of_all), admin=ADMIN, proxy=TWO)
    for worker in process.workers:
        client = await connect_to(stage, process, worker)
        for status in (200, 204, 404, 500):
            assert (await client.request(target=f"/{status}")).status == status
    classes = {"1xx": 0, "2xx": 4, "3xx": 0, "4xx": 2, "5xx": 2}

    async def shown() -> tuple[object, ...]:
        pool = (await pools(process))["main"]
        server = pool["servers"][0]
        return server["requests"], server["responses"], server["idle_connections"], server["bytes_received"]

    await settled(shown, (8, classes, 2, 48))

    async def measured() -> tuple[float, ...]:
        found = await samples(process)
        return (
            total(found, "vsproxy_server_requests_total"),
            *(total(found, "vsproxy_server_responses_total", code=name) for name in classes),
            total(found, "vsproxy_server_idle_connections"),
        )

    await settled(measured, (8, *classes.values(), 2))


async def test_gauges_are_summed_and_end_with_their_worker(stage: Stage) -> None:
    held = Held()
    process = await stage.process(await stage.server(held), admin=ADMIN, proxy=TWO)
    victim, other = process.workers
    for worker, count in ((victim, 3), (other, 2)):
        for _ in range(count):
            client = await connect_to(stage, process, worker)
            await client.send(request_bytes())
    await reach(process, "active", [5])
    kill(victim)
    await replaced(process, victim, 2)
    await reach(process, "active", [2])
    held.release()
    await reach(process, "active", [0])


async def test_counters_survive_the_death_of_a_worker_and_a_reload(stage: Stage) -> None:
    """No sample that Prometheus would take for a counter gets smaller, and nothing counted is lost."""
    process = await stage.process(await stage.server(some_of_all), admin=ADMIN, proxy=TWO)
    asked = 0

    async def ask() -> None:
        nonlocal asked
        for worker in process.workers:
            client = await connect_to(stage, process, worker)
            for status in (200, 204, 404):
                assert (await client.request(target=f"/{status}")).status == status
                asked += 1
        await reach(process, "requests", [asked])

    await ask()
    before = growing(await samples(process))
    for act in (die, reload, die, reload):
        await act(process)
        now = growing(await samples(process))
        assert shrunk(before, now) == set()
        await ask()
        before = growing(await samples(process))


async def die(process: ProxyProcess) -> None:
    victim = process.workers[0]
    kill(victim)
    await replaced(process, victim, 2)


async def reload(process: ProxyProcess) -> None:
    assert (await process.reload())["ok"]


async def test_ready_while_there_is_a_worker(stage: Stage) -> None:
    process = await stage.process(await stage.server(), admin=ADMIN, proxy=TWO)
    assert (await fetch(process, "/readyz")).status == 200
    victim = process.workers[0]
    kill(victim)
    assert (await fetch(process, "/readyz")).status == 200
    await replaced(process, victim, 2)
    assert (await fetch(process, "/readyz")).status == 200
