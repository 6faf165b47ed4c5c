"""Checks that fail, flap, hang and lie; servers that go down and come back."""

from __future__ import annotations

import asyncio
import time

import pytest

from support.http import Request
from support.load import Load
from support.proxies import entry, eventually
from support.scripts import Held, mute
from support.server import Conversation, Server
from support.stage import Stage
from vsproxy import Proxy

# A check that is answered must not run into this on a busy machine: the first one decides, and tests count them.
CHECKS = {"path": "/health", "inter": "100ms", "timeout": "1s", "fall": 3, "rise": 2}


async def states(proxy: Proxy, *wanted: str) -> None:
    """Wait until the servers of `main` are in the `wanted` states."""
    servers = proxy.pools["main"].servers
    await eventually(lambda: tuple(server.state_name for server in servers) == wanted, what=str(wanted))


class Checked:
    """A server whose checks are answered from a list, one after the other; the last one stays."""

    def __init__(self, *verdicts: bool) -> None:
        self.verdicts = list(verdicts)
        self.asked = 0

    async def __call__(self, peer: Conversation, request: Request) -> None:
        if request.target == "/health":
            verdict = self.verdicts[min(self.asked, len(self.verdicts) - 1)]
            self.asked += 1
            await peer.respond(status=200 if verdict else 503)
        else:
            await peer.respond(peer.server.name.encode())


async def test_fall_failed_checks_take_a_server_down_and_not_one_less(stage: Stage) -> None:
    script = Checked(True, True, True, False)
    proxy = await stage.proxy(await stage.server(script), pool={"health": CHECKS})
    server = proxy.pools["main"].servers[0]
    await states(proxy, "up")
    while server.state_name == "up":
        assert script.asked <= 6
        await asyncio.sleep(0.005)
    assert script.asked == 6


async def test_rise_good_checks_bring_it_back_and_not_one_less(stage: Stage) -> None:
    script = Checked(*[False] * 4, True)
    proxy = await stage.proxy(await stage.server(script), pool={"health": {**CHECKS, "rise": 3}})
    server = proxy.pools["main"].servers[0]
    await states(proxy, "down")
    while server.state_name == "down":
        assert script.asked <= 7
        await asyncio.sleep(0.005)
    assert script.asked == 7


async def test_flapping_checks_change_nothing(stage: Stage) -> None:
    """Good, bad, good, bad: neither fall nor rise is ever reached."""
    script = Checked(True, True, *[False, True] * 6)
    proxy = await stage.proxy(await stage.server(script), pool={"health": {**CHECKS, "inter": "30ms"}})
    await states(proxy, "up")
    since = proxy.pools["main"].servers[0].state_since
    await eventually(lambda: script.asked >= 14)
    assert proxy.pools["main"].servers[0].state_since == since


async def test_flapping_checks_of_a_server_that_is_down_do_not_bring_it_back(stage: Stage) -> None:
    script = Checked(*[False] * 3, *[True, False] * 6)
    proxy = await stage.proxy(await stage.server(script), pool={"health": {**CHECKS, "inter": "30ms"}})
    await states(proxy, "down")
    since = proxy.pools["main"].servers[0].state_since
    await eventually(lambda: script.asked >= 15)
    assert proxy.pools["main"].servers[0].state_since == since


@pytest.mark.parametrize("kind", ["refused", "blackhole", "mute", "garbage", "drip"])
async def test_a_check_that_gets_no_proper_answer_fails(stage: Stage, kind: str) -> None:
    async def garbage(peer: Conversation, request: Request) -> None:
        await peer.send(b"I am fine, thank you\r\n\r\n")

    async def drip(peer: Conversation, request: Request) -> None:
        await peer.drip(b"HTTP/1.1 200 OK\r\n\r\n", 0.1)

    if kind == "refused":
        bad: str | Server = stage.refused()
    elif kind == "blackhole":
        bad = stage.blackhole()
    else:
        bad = await stage.server({"mute": mute, "garbage": garbage, "drip": drip}[kind])
    good = await stage.server(health=True, name="good")
    proxy = await stage.proxy(bad, good, pool={"health": CHECKS})
    await states(proxy, "down", "up")
    began = time.monotonic()
    assert [(await stage.get()).body for _ in range(6)] == [b"good"] * 6
    assert time.monotonic() - began < 2


async def test_a_server_that_is_mute_under_checks_holds_nobody(stage: Stage) -> None:
    """Those whom it holds already when the checks find it bad move on, too."""
    bad = await stage.server(mute)
    good = await stage.server(health=True)
    slow = {"timeouts": {"read": "30s"}}
    await stage.proxy(bad, good, pool={"health": {**CHECKS, "fall": 2}, **slow})
    began = time.monotonic()
    answers = await asyncio.gather(*(stage.get() for _ in range(20)))
    assert {answer.status for answer in answers} == {200}
    assert time.monotonic() - began < 8


async def test_the_text_in_a_check_counts(stage: Stage) -> None:
    async def says(peer: Conversation, request: Request) -> None:
        await peer.respond(b'{"status": "%s"}' % (b"UP" if peer.server.healthy else b"SINKING"))

    server = await stage.server(says)
    proxy = await stage.proxy(server, pool={"health": {**CHECKS, "body": '"status": "UP"'}})
    await states(proxy, "up")
    server.healthy = False
    await states(proxy, "down")


async def test_all_down_is_503_with_retry_after_and_back(stage: Stage) -> None:
    servers = [await stage.server(health=True) for _ in range(2)]
    proxy = await stage.proxy(*servers, pool={"health": CHECKS})
    await states(proxy, "up", "up")
    for _ in range(2):
        for server in servers:
            server.healthy = False
        await states(proxy, "down", "down")
        response = await stage.get()
        assert response.status == 503
        assert response.fields.get("Retry-After")
        for server in servers:
            server.healthy = True
        await states(proxy, "up", "up")
        assert (await stage.get()).status == 200


async def test_half_down_costs_no_client_an_error(stage: Stage) -> None:
    """Under load one of two servers fails its checks, is avoided, and comes back."""
    servers = [await stage.server(health=True) for _ in range(2)]
    proxy = await stage.proxy(*servers, pool={"health": CHECKS})
    await states(proxy, "up", "up")
    done = asyncio.Event()
    load = Load(stage.address, clients=8, requests=10**9, stop=done.is_set)
    running = asyncio.create_task(load.run())
    for _ in range(2):
        servers[0].healthy = False
        await states(proxy, "down", "up")
        seen = len(servers[0].requests)
        answers = load.tally.statuses[200]
        await eventually(lambda: load.tally.statuses[200] > answers + 100)  # noqa: B023
        assert len(servers[0].requests) - seen <= 8
        servers[0].healthy = True
        await states(proxy, "up", "up")
    done.set()
    assert (await running).faultless


async def test_servers_that_die_and_come_back_under_load_cost_gets_nothing(stage: Stage) -> None:
    servers = [await stage.server(health=True) for _ in range(3)]
    proxy = await stage.proxy(*servers, pool={"health": CHECKS})
    await states(proxy, "up", "up", "up")
    done = asyncio.Event()
    running = asyncio.create_task(Load(stage.address, clients=8, requests=10**9, stop=done.is_set).run())
    for number in (0, 1, 0):
        await servers[number].stop()
        await eventually(lambda: proxy.pools["main"].servers[number].state_name == "down")  # noqa: B023
        await servers[number].start()
        await states(proxy, "up", "up", "up")
    done.set()
    tally = await running
    assert tally.faultless, (tally.statuses, tally.errors[:3])


async def test_a_flapping_server_costs_gets_nothing(stage: Stage) -> None:
    """No checks: it goes and comes every few hundredths of a second, under load."""
    flapping, steady = await stage.server(), await stage.server()
    await stage.proxy(flapping, steady)
    done = asyncio.Event()
    running = asyncio.create_task(Load(stage.address, clients=16, requests=10**9, stop=done.is_set).run())
    for _ in range(15):
        await flapping.stop()
        await asyncio.sleep(0.03)
        await flapping.start()
        await asyncio.sleep(0.03)
    done.set()
    tally = await running
    assert tally.faultless, (tally.statuses, tally.errors[:3])


async def test_a_new_server_gets_nothing_before_its_checks(stage: Stage) -> None:
    """CHECKING gets traffic only while no server is up."""
    slow_to_start = await stage.server(Checked(False, False, True))
    good = await stage.server(health=True)
    proxy = await stage.proxy(slow_to_start, good, pool={"health": {**CHECKS, "fall": 9}})
    await eventually(lambda: proxy.pools["main"].servers[1].state_name == "up")
    while proxy.pools["main"].servers[0].state_name != "up":
        assert (await stage.get()).body == b"server2"
    assert {(await stage.get()).body for _ in range(2)} == {b"server1", b"server2"}


async def test_a_server_ejected_by_traffic_comes_back(stage: Stage) -> None:
    """Without checks: after fail_window it is tried again."""
    flaky = await stage.server()
    steady = await stage.server()
    proxy = await stage.proxy(flaky, steady, pool={"max_fails": 2, "fail_window": "400ms"})
    await flaky.stop()
    live = proxy.pools["main"].servers[0]
    async with asyncio.timeout(5):
        while live.state_name != "down":  # both failures have to fall into one window
            assert (await stage.get()).status == 200
    await flaky.start()
    await eventually(lambda: live.state_name != "down", 5)
    assert {(await stage.get()).body for _ in range(4)} == {b"server1", b"server2"}


async def test_a_stale_idle_connection_is_no_failure(stage: Stage) -> None:
    async def closes(peer: Conversation, request: Request) -> None:
        await peer.respond(b"ok")
        peer.reset()

    proxy = await stage.proxy(await stage.server(closes), await stage.server(closes), pool={"max_fails": 1})
    for _ in range(20):
        assert (await stage.get()).status == 200
    await states(proxy, "up", "up")


async def test_backup_takes_over_while_no_primary_is_available_and_gives_back(stage: Stage) -> None:
    primaries = [await stage.server(health=True) for _ in range(2)]
    backup = await stage.server(health=True, name="backup")
    proxy = await stage.proxy(*primaries, entry(backup, backup=True), pool={"health": CHECKS})
    await states(proxy, "up", "up", "up")
    assert b"backup" not in {(await stage.get()).body for _ in range(6)}
    primaries[0].healthy = False
    await states(proxy, "down", "up", "up")
    assert {(await stage.get()).body for _ in range(4)} == {b"server2"}
    primaries[1].healthy = False
    await states(proxy, "down", "down", "up")
    assert {(await stage.get()).body for _ in range(4)} == {b"backup"}
    primaries[0].healthy = True
    await states(proxy, "up", "down", "up")
    assert {(await stage.get()).body for _ in range(4)} == {b"server1"}


async def test_a_server_that_fails_its_checks_finishes_what_it_has(stage: Stage) -> None:
    """An answer that has begun is not cut because a check failed."""
    go = asyncio.Event()

    async def half(peer: Conversation, request: Request) -> None:
        if request.target == "/health":
            await peer.respond(status=200 if peer.server.healthy else 500)
            return
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")
        await go.wait()
        await peer.send(b"-last")

    server = await stage.server(half)
    proxy = await stage.proxy(server, pool={"health": CHECKS})
    await states(proxy, "up")
    asked = asyncio.create_task(stage.get())
    await eventually(lambda: "/" in server.targets())
    server.healthy = False
    await states(proxy, "down")
    go.set()
    response = await asked
    assert (response.body, response.complete) == (b"first-last", True)


async def test_a_post_at_a_server_that_fails_its_checks_is_not_sent_again(stage: Stage) -> None:
    held = Held()

    async def script(peer: Conversation, request: Request) -> None:
        if request.target == "/health":
            await peer.respond(status=200 if peer.server.healthy else 500)
        else:
            await held(peer, request)

    servers = [await stage.server(script) for _ in range(2)]
    proxy = await stage.proxy(*servers, pool={"health": CHECKS})
    await states(proxy, "up", "up")
    asked = asyncio.create_task(stage.post("/once"))
    await eventually(lambda: held.waiting == 1)
    for server in servers:
        server.healthy = "/once" not in server.targets()
    await eventually(lambda: "down" in {server.state_name for server in proxy.pools["main"].servers})
    held.release()
    assert (await asked).status == 200
    assert sum(server.targets().count("/once") for server in servers) == 1
