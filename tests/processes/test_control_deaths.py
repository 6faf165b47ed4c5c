"""Control is killed: traffic does not notice, and its successor knows what it knew."""

from __future__ import annotations

import asyncio
from typing import Any

from support.family import kill, replaced, served_by
from support.proxies import entry, eventually
from support.scraping import fetch, growing, reach, samples, servers, shrunk, states
from support.server import Server
from support.stage import Stage

ADMIN = {"bind": "127.0.0.1:0"}
TWO = {"workers": 2, "shutdown_timeout": "1s"}
#: What control finds out it tells the others within milliseconds; what it did not tell is lost with it.
MOMENT = 0.3
CHECKS = {"path": "/health", "inter": "100ms", "timeout": "5s", "fall": 2, "rise": 2}


async def checked_servers(stage: Stage, count: int) -> list[Server]:
    return [await stage.server(health=True) for _ in range(count)]


def known(server: dict[str, Any]) -> tuple[object, ...]:
    return server["address"], server["state"], server["state_since"]


async def test_states_stay_and_checks_go_on(stage: Stage) -> None:
    up, down, drained, maint = await checked_servers(stage, 4)
    down.healthy = False
    others = entry(drained, state="drain"), entry(maint, state="maint")
    process = await stage.process(up, down, *others, pool={"health": CHECKS}, admin=ADMIN, proxy=TWO)
    wanted = ["up", "down", "drain", "maint"]
    await reach(process, "state", wanted)
    await served_by(stage, process, up)
    before = await servers(process)
    control = process.control
    kill(control)
    # Those who ask meanwhile get what was known last.
    assert {(await stage.get()).body for _ in range(6)} == {b"server1"}
    workers = process.workers
    assert await replaced(process, control, 2) == workers
    after = await servers(process)
    assert [known(server) for server in after] == [known(server) for server in before]
    assert {(await stage.get()).body for _ in range(6)} == {b"server1"}
    seen = up.checks
    await eventually(lambda: up.checks > seen + 2)
    up.healthy, down.healthy = False, True
    await reach(process, "state", ["down", "up", "drain", "maint"])
    # The workers follow the successor.
    assert process.workers == workers
    await served_by(stage, process, down)


async def test_an_ejected_server_stays_out_and_comes_back_in_its_time(stage: Stage) -> None:
    dead, good = await stage.server(), await stage.server()
    pool = {"max_fails": 1, "fail_window": "2s"}
    process = await stage.process(dead, good, pool=pool, admin=ADMIN, proxy=TWO)
    await dead.stop()
    assert {(await stage.get()).status for _ in range(4)} == {200}
    await reach(process, "state", ["down", "up"])
    await asyncio.sleep(MOMENT)
    control = process.control
    kill(control)
    await replaced(process, control, 2)
    assert await states(process) == ["down", "up"]
    await dead.start()
    await reach(process, "state", ["up", "up"])


async def test_the_admin_port_refuses_nobody_meanwhile(stage: Stage) -> None:
    process = await stage.process(await stage.server(), admin=ADMIN, proxy=TWO)
    for _ in range(3):
        control = process.control
        kill(control)
        # The third successor comes after a pause, and finds who has queued.
        answers = await asyncio.gather(*(fetch(process, "/healthz") for _ in range(8)))
        assert {response.status for response in answers} == {200}
        await replaced(process, control, 2)


async def test_counters_go_on(stage: Stage) -> None:
    (server,) = await checked_servers(stage, 1)
    process = await stage.process(server, pool={"health": CHECKS}, admin=ADMIN, proxy=TWO)
    await reach(process, "state", ["up"])
    for _ in range(5):
        assert (await stage.get()).status == 200
    before = growing(await samples(process))
    control = process.control
    kill(control)
    await replaced(process, control, 2)
    for _ in range(5):
        assert (await stage.get()).status == 200
    await eventually(lambda: server.checks > 8)
    await reach(process, "requests", [10])
    after = growing(await samples(process))
    assert shrunk(before, after) == set()


async def test_no_request_fails_while_control_dies_again_and_again(stage: Stage) -> None:
    first, second = await checked_servers(stage, 2)
    process = await stage.process(first, second, pool={"health": CHECKS}, admin=ADMIN, proxy=TWO)
    await reach(process, "state", ["up", "up"])
    await asyncio.sleep(MOMENT)
    over = asyncio.Event()

    async def ask() -> int:
        client = await stage.connect()
        count = 0
        while not over.is_set():
            assert (await client.request()).status == 200
            count += 1
        return count

    asking = [asyncio.create_task(ask()) for _ in range(4)]
    for _ in range(3):
        control = process.control
        kill(control)
        await replaced(process, control, 2)
    over.set()
    assert all(await asyncio.gather(*asking))
    assert await states(process) == ["up", "up"]
