"""A worker is killed: it is replaced, a sibling accepts for it meanwhile, and only what it had is lost."""

from __future__ import annotations

import asyncio
import time

import pytest

from support.client import Client
from support.family import connect_to, held, kill, replaced, workers_of
from support.http import request_bytes
from support.peer import Ended
from support.proxies import ProxyProcess, eventually
from support.scripts import HeldBelow
from support.stage import Stage

TWO = {"workers": 2, "shutdown_timeout": "1s"}


async def kill_until_it_pauses(process: ProxyProcess, deaths: int) -> None:
    """Kill worker 0 again and again; each short life makes the pause before the next start longer."""
    count = len(process.workers)
    for death in range(deaths):
        victim = process.workers[0]
        kill(victim)
        if death < deaths - 1:
            await replaced(process, victim, count)
        else:
            await eventually(lambda: victim not in process.workers)  # noqa: B023


async def keep_asking(client: Client, until: asyncio.Event) -> int:
    """Requests one after the other on one connection, each answered with 200; how many."""
    count = 0
    while not until.is_set():
        assert (await client.request()).status == 200
        count += 1
    return count


async def test_every_worker_serves(stage: Stage) -> None:
    process = await stage.process(await stage.server(), proxy=TWO)
    assert len(process.workers) == 2
    for worker in process.workers:
        client = await connect_to(stage, process, worker)
        assert (await client.request()).status == 200


async def test_a_killed_worker_is_replaced_and_the_other_notices_nothing(stage: Stage) -> None:
    script = HeldBelow()
    process = await stage.process(await stage.server(script), proxy=TWO)
    victim, other = process.workers
    lost, kept = await connect_to(stage, process, victim), await connect_to(stage, process, other)
    asking = [await connect_to(stage, process, other) for _ in range(4)]
    for client in (lost, kept):
        await client.send(request_bytes(target="/held"))
    await eventually(lambda: script.held.waiting == 2)
    over = asyncio.Event()
    asked = [asyncio.create_task(keep_asking(client, over)) for client in asking]
    kill(victim)
    assert await lost.wait_closed()
    workers = await replaced(process, victim, 2)
    assert {(await stage.get()).status for _ in range(20)} == {200}
    over.set()
    assert all(await asyncio.gather(*asked))
    script.held.release()
    assert (await kept.response()).status == 200
    assert workers[1] == other
    successor = await connect_to(stage, process, workers[0])
    assert (await successor.request()).status == 200


async def test_while_a_worker_is_down_a_sibling_accepts_for_it(stage: Stage) -> None:
    process = await stage.process(await stage.server(), proxy=TWO)
    other = process.workers[1]
    await kill_until_it_pauses(process, 6)
    clients = [await stage.connect() for _ in range(8)]
    for client in clients:
        assert (await client.request()).status == 200
    # Half of them came through the sockets of the one that is still down.
    assert process.workers == [other]
    assert set(workers_of(process, clients)) == {other}
    workers = await eventually(lambda: process.workers if len(process.workers) == 2 else None, 10)
    assert workers
    assert (await (await connect_to(stage, process, workers[0])).request()).status == 200
    for client in clients:
        assert (await client.request()).status == 200


async def test_repeated_quick_deaths_are_answered_with_longer_and_longer_pauses(stage: Stage) -> None:
    process = await stage.process(await stage.server(), proxy=TWO)
    pauses = []
    for _ in range(5):
        # From before the kill, so that a busy machine can only lengthen it.
        victim, began = process.workers[0], time.monotonic()
        kill(victim)
        await replaced(process, victim, 2)
        pauses.append(time.monotonic() - began)
    due = (0.0, 0.1, 0.2, 0.4, 0.8)
    assert all(pause >= least for pause, least in zip(pauses, due, strict=True)), pauses

    def deaths() -> list[str]:
        return [line for line in process.log if "has ended: signal SIGKILL" in line]

    await eventually(lambda: len(deaths()) == 5)
    assert all("worker 0" in line for line in deaths())


@pytest.mark.parametrize("deaths", [1, 3])
async def test_who_waits_for_the_only_worker_is_served_by_its_successor(stage: Stage, deaths: int) -> None:
    process = await stage.process(await stage.server(), proxy={"workers": 1})
    await kill_until_it_pauses(process, deaths)
    asked = [asyncio.create_task(stage.get()) for _ in range(20)]
    assert {response.status for response in await asyncio.gather(*asked)} == {200}
    assert len(process.workers) == 1


async def test_all_workers_killed_at_once(stage: Stage) -> None:
    process = await stage.process(await stage.server(), proxy=TWO)
    victims = process.workers
    for worker in victims:
        kill(worker)
    asked = [asyncio.create_task(stage.get()) for _ in range(20)]
    # A request that was accepted by a worker that had not died yet is lost with it.
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert [answer for answer in answers if not isinstance(answer, Ended | ConnectionError)]
    for worker in victims:
        await replaced(process, worker, 2)
    for worker in process.workers:
        assert (await (await connect_to(stage, process, worker)).request()).status == 200


async def test_a_killed_borrower_passes_on_what_it_had_borrowed(stage: Stage) -> None:
    """Three workers; one is down, and then the one that accepts for it."""
    process = await stage.process(await stage.server(), proxy={"workers": 3})
    await kill_until_it_pauses(process, 5)
    clients = [await stage.connect() for _ in range(24)]
    for client in clients:
        assert (await client.request()).status == 200
    owners = workers_of(process, clients)
    # Who has the most is who has borrowed.
    victim = max(process.workers, key=owners.count)
    survivors = [client for client, owner in zip(clients, owners, strict=True) if owner != victim]
    kill(victim)
    assert {(await stage.get()).status for _ in range(30)} == {200}
    for client in survivors:
        assert (await client.request()).status == 200
    await replaced(process, victim, 3)
    for worker in process.workers:
        assert (await (await connect_to(stage, process, worker)).request()).status == 200


async def test_deaths_cost_no_descriptor_and_no_thread(stage: Stage) -> None:
    process = await stage.process(
        await stage.server(), proxy=TWO, admin={"bind": "127.0.0.1:0"}, pool={"keepalive": 0}
    )
    for worker in process.workers:
        async with await connect_to(stage, process, worker) as client:
            assert (await client.request()).status == 200
    before = held(process)
    for _ in range(3):
        for victim in (*process.workers, process.control):
            kill(victim)
            await replaced(process, victim, 2)
            assert (await stage.get()).status == 200
    # What differs is for the moment: a connection that has just ended, a thread that asks for a name.
    await eventually(lambda: held(process).keys() == before.keys() and _no_more(held(process), before))


def _no_more(now: dict[str, tuple[int, int]], before: dict[str, tuple[int, int]]) -> bool:
    return all(now[name] <= before[name] for name in now)
