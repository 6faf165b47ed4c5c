"""Reloads that coincide: with each other, with a process that dies, with a stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator

import pytest

from support.family import connect_to, kill, replaced
from support.proxies import ProxyProcess, Settings, eventually, settings
from support.scraping import fetch
from support.stage import Stage
from vsproxy.errors import VsproxyError

TWO = {"workers": 2, "shutdown_timeout": "1s"}


def routed(config: Settings, path: str) -> Settings:
    """`config` with one route, below `path`."""
    return config | {"routes": [{"path": path, "pool": "main"}]}


async def assert_all_serve(stage: Stage, process: ProxyProcess, path: str) -> None:
    """Every worker has the route below `path`, and no other."""
    for worker in process.workers:
        client = await connect_to(stage, process, worker)
        assert (await client.request(target=path)).status == 200
        assert (await client.request(target="/no/such")).status == 404


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process that does nothing for a while; it may be killed meanwhile."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


async def test_many_at_once_are_all_answered_and_the_last_file_is_in_force(stage: Stage) -> None:
    config = settings(await stage.server(), proxy=TWO)
    process = await stage.run(config)
    asked = []
    for number in range(10):
        asked.append(asyncio.create_task(process.reload(routed(config, f"/{number}"))))
        if number % 3 == 0:
            process.signal(signal.SIGHUP)
        await asyncio.sleep(0)
    answers = await asyncio.gather(*asked)
    assert [answer["ok"] for answer in answers] == [True] * 10
    await assert_all_serve(stage, process, "/9")


async def test_each_who_asks_hears_about_a_file_that_was_read_after_the_question(stage: Stage) -> None:
    """While a reload is held up another is asked for, with a file that is wrong by then."""
    config = settings(await stage.server(), proxy=TWO)
    process = await stage.run(config)
    client = await connect_to(stage, process, process.workers[1])
    read = stage.directory / "read.sock"
    with_socket = routed(config, "/first") | {"listeners": [*config["listeners"], {"bind": f"unix:{read}"}]}
    with stopped(process.workers[0]):
        first = asyncio.create_task(process.reload(with_socket))
        # There once the file was read.
        await eventually(read.exists)
        assert not first.done()
        process.write(routed(config, "/second") | {"pools": {}})
        second = asyncio.create_task(process.reload())
        # Nobody has switched yet.
        assert (await client.request(target="/anything")).status == 200
    assert (await first)["ok"]
    assert not (await second)["ok"]
    await assert_all_serve(stage, process, "/first")


@pytest.mark.parametrize("victim", ["worker", "control"])
async def test_one_that_dies_before_it_is_prepared_is_no_obstacle(stage: Stage, victim: str) -> None:
    config = settings(await stage.server(), proxy=TWO, admin={"bind": "127.0.0.1:0"})
    process = await stage.run(config)
    pid = process.control if victim == "control" else process.workers[0]
    with stopped(pid):
        asked = asyncio.create_task(process.reload(routed(config, "/new")))
        await asyncio.sleep(0.2)
        assert not asked.done()
        kill(pid)
        assert (await asked)["ok"]
    await replaced(process, pid, 2)
    await assert_all_serve(stage, process, "/new")
    assert (await fetch(process, "/readyz")).status == 200


@pytest.mark.parametrize("victim", ["worker", "control"])
async def test_deaths_and_reloads_in_any_order(stage: Stage, victim: str) -> None:
    """A new listener each time: whoever is born meanwhile has to have its sockets too."""
    config = settings(await stage.server(), proxy=TWO, admin={"bind": "127.0.0.1:0"})
    process = await stage.run(config)
    for number in range(4):
        path = stage.directory / f"{number}.sock"
        changed = routed(config, f"/{number}")
        changed["listeners"] = [*config["listeners"], {"bind": f"unix:{path}"}]
        pid = process.control if victim == "control" else process.workers[number % 2]
        asked = asyncio.create_task(process.reload(changed))
        await asyncio.sleep(0.003 * number)
        kill(pid)
        answer = await asked
        assert answer["ok"], answer
        await replaced(process, pid, 2)
        await assert_all_serve(stage, process, f"/{number}")
        here = stage.address
        stage.address = f"unix:{path}"
        assert {(await stage.get(f"/{number}")).status for _ in range(8)} == {200}
        stage.address = here
    assert not (stage.directory / "0.sock").exists()


async def test_no_request_fails_while_reloads_follow_each_other(stage: Stage) -> None:
    config = settings(await stage.server(), proxy=TWO)
    process = await stage.run(config)
    over = asyncio.Event()

    async def ask() -> int:
        client = await stage.connect()
        count = 0
        while not over.is_set():
            assert (await client.request(target="/always/there")).status == 200
            count += 1
        return count

    asking = [asyncio.create_task(ask()) for _ in range(4)]
    for number in range(30):
        await process.put_into_force(routed(config, ("/", "/always", "/always/there")[number % 3]))
    over.set()
    assert all(await asyncio.gather(*asking))


async def test_a_stop_refuses_the_reload_that_is_under_way(stage: Stage) -> None:
    config = settings(await stage.server(), proxy=TWO)
    process = await stage.run(config)
    with stopped(process.workers[0]):
        asked = asyncio.create_task(process.reload(routed(config, "/new")))
        await asyncio.sleep(0.2)
        process.signal(signal.SIGTERM)
        answer = await asked
        assert (answer["ok"], "stopping" in answer["message"]) == (False, True)
    assert await process.wait(10) == 0
    with pytest.raises(VsproxyError, match="no vsproxy"):
        await process.reload()


async def test_no_process_is_left_over_and_none_is_new(stage: Stage) -> None:
    config = settings(await stage.server(), proxy=TWO)
    process = await stage.run(config)
    family = process.family
    for number in range(5):
        await process.put_into_force(routed(config, f"/{number}"))
        assert process.family == family
    process.signal(signal.SIGHUP)
    await eventually(lambda: sum(" reloaded " in line for line in process.log) == 6)
    await eventually(lambda: process.family == family)
