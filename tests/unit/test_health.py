"""Active checks against real sockets: what fall and rise make of them, and who is checked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.scripted import PATIENCE, Scripted, mute, refusing, serving
from vsproxy.config.pools import HealthConfig
from vsproxy.upstream.health import HealthChecker, Watch
from vsproxy.upstream.probe import Outcome, Probe
from vsproxy.upstream.server import CHECKING, DOWN, DRAIN, MAINT, UP, Server
from vsproxy.upstream.tls import ClientTls


class FakePool:
    """Applies every change of state and lets a test wait for it."""

    name = "pool"
    tls = None

    def __init__(self, *servers: Server) -> None:
        self.servers = list(servers)
        self.changes: asyncio.Queue[tuple[Server, int, str]] = asyncio.Queue()
        self.breaks = 0

    def set_state(self, server: Server, state: int, reason: str) -> None:
        if self.breaks:
            self.breaks -= 1
            raise RuntimeError("the pool broke")
        server.state = state
        server.state_reason = reason
        self.changes.put_nowait((server, state, reason))

    async def change(self) -> tuple[int, str]:
        async with asyncio.timeout(PATIENCE):
            _, state, reason = await self.changes.get()
        return state, reason


@asynccontextmanager
async def checking(pool: FakePool, **keys: Any) -> AsyncIterator[HealthChecker]:
    checker = HealthChecker(pool, HealthConfig.model_validate({"inter": "10ms", "timeout": "2s", **keys}))
    checker.start()
    try:
        yield checker
    finally:
        await checker.stop()


# What successes and failures in a row make of a server


@given(
    results=st.lists(st.booleans(), max_size=40),
    fall=st.integers(1, 4),
    rise=st.integers(1, 4),
    start=st.sampled_from([UP, DOWN, CHECKING, DRAIN]),
)
def test_fall_and_rise_are_exact(results: list[bool], fall: int, rise: int, start: int) -> None:
    server = Server("pool", "a:80", "127.0.0.1", 80, state=start)
    watch = Watch(server, HealthConfig(fall=fall, rise=rise))
    run: list[bool] = []
    for passed in results:
        watch.begin()
        change = watch.note(passed, "seen")
        run = [*run, passed] if not run or run[-1] == passed else [passed]
        expected = None
        if server.state == CHECKING:
            expected = UP if passed else DOWN
        elif server.state == UP and not passed and len(run) == fall:
            expected = DOWN
        elif server.state == DOWN and passed and len(run) == rise:
            expected = UP
        assert (change and change[0]) == expected
        if change is not None:
            server.state = change[0]
            run = []
    assert server.check_successes + server.check_failures == len(results)


def test_intervals_follow_haproxy() -> None:
    config = HealthConfig(inter=10, fastinter=1, downinter=100, fall=3, rise=3)
    server = Server("pool", "a:80", "127.0.0.1", 80, state=CHECKING)
    watch = Watch(server, config)
    assert watch.interval() == 1
    seen = []
    for passed in [
        True,
        True,
        False,
        False,
        True,
        False,
        False,
        False,
        False,
        True,
        False,
        True,
        True,
        True,
        True,
    ]:
        watch.begin()
        change = watch.note(passed, "seen")
        if change is not None:
            server.state = change[0]
        seen.append(watch.interval())
    assert seen == [10, 10, 1, 1, 10, 1, 1, 100, 100, 1, 100, 1, 1, 10, 10]
    plain = Watch(Server("pool", "a:80", "127.0.0.1", 80, state=DOWN), HealthConfig(inter=7))
    assert plain.interval() == 7


# Checks that run


async def test_one_check_settles_a_new_server() -> None:
    with refusing() as bad:
        async with serving(Scripted(200)) as good:
            good.state = bad.state = CHECKING
            pool = FakePool(good, bad)
            async with checking(pool, inter="1h", timeout="2s"):
                assert {await pool.change(), await pool.change()} == {
                    (UP, "check: status 200"),
                    (DOWN, "check: connection refused"),
                }
    assert (good.check_successes, bad.check_failures) == (1, 1)


async def test_down_after_fall_and_up_after_rise() -> None:
    script = Scripted(200, 503, 503, 200, 503, 503, 503, 200, 503, 200, 200)
    async with serving(script) as server:
        pool = FakePool(server)
        async with checking(pool, fall=3, rise=2):
            assert await pool.change() == (DOWN, "check: status 503")
            assert (server.check_successes, server.check_failures) == (2, 5)
            assert await pool.change() == (UP, "check: passed 2 of 2")
            assert (server.check_successes, server.check_failures) == (5, 6)
            assert sum(server.check_time.counts) >= 1
            assert 0 < server.check_time.total < 5
    assert server.last_check == "status 200"


@pytest.mark.parametrize("rise", [1, 2])
async def test_an_ejected_server_has_to_pass_checks_begun_after_that(rise: int) -> None:
    script = Scripted(200)
    async with serving(script) as server:
        pool = FakePool(server)
        async with checking(pool, rise=rise):
            for _ in range(3):
                await script.next_request()
            script.go.clear()
            await script.next_request()
            before = server.check_successes
            server.state = DOWN
            script.go.set()
            assert await pool.change() == (UP, f"check: passed {rise} of {rise}")
        assert server.check_successes == before + 1 + rise


async def test_drain_is_checked_and_kept_maint_is_left_alone() -> None:
    script, quiet = Scripted(503), Scripted(200)
    async with serving(script) as drain, serving(quiet) as maint:
        drain.state, maint.state = DRAIN, MAINT
        pool = FakePool(drain, maint)
        async with checking(pool, fall=1):
            for _ in range(3):
                await script.next_request()
            assert not quiet.heads
            maint.state = CHECKING
            assert await pool.change() == (UP, "check: status 200")
        assert drain.state == DRAIN
        assert drain.check_failures >= 2
        assert pool.changes.empty()


async def test_servers_come_and_go() -> None:
    old_script, new_script = Scripted(200), Scripted(200)
    async with serving(old_script) as old, serving(new_script) as new:
        new.state = CHECKING
        unresolved = Server("pool", "nowhere:80", "", 80, state=DOWN)
        pool = FakePool(old, unresolved)
        async with checking(pool) as checker:
            await old_script.next_request()
            pool.servers = [new, unresolved]
            checker.sync()
            assert await pool.change() == (UP, "check: status 200")
            before = len(old_script.heads)
            for _ in range(3):
                await new_script.next_request()
            # One that was under way may still have come in.
            assert len(old_script.heads) <= before + 1
            assert sum(old.check_time.counts) <= 2
        assert unresolved.last_check == ""


async def test_a_mute_server_is_down_after_fall_timeouts() -> None:
    async with serving(mute) as server:
        pool = FakePool(server)
        async with checking(pool, timeout="20ms", fall=2):
            assert await pool.change() == (DOWN, "check: timeout")
        assert server.check_failures == 2


async def test_checks_outlive_what_breaks_in_the_pool(caplog: pytest.LogCaptureFixture) -> None:
    with refusing() as server:
        pool = FakePool(server)
        pool.breaks = 2
        async with checking(pool, fall=1):
            assert await pool.change() == (DOWN, "check: connection refused")
    assert [record.exc_info is not None for record in caplog.records] == [True, True]


async def test_our_own_trouble_changes_nothing_and_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    checks = asyncio.Semaphore(0)

    async def starved(self: Probe, server: Server, tls: ClientTls | None) -> Outcome:
        checks.release()
        return Outcome(None, "too many open files", 0.0)

    monkeypatch.setattr(Probe, "check", starved)
    server = Server("pool", "a:80", "127.0.0.1", 80)
    pool = FakePool(server)
    async with checking(pool, fall=1), asyncio.timeout(PATIENCE):
        for _ in range(3):
            await checks.acquire()
    assert server.state == UP
    assert server.last_check == "not possible: too many open files"
    assert caplog.text.count("no check of") == 1


async def test_stop_ends_a_check_under_way_and_start_begins_again() -> None:
    script = Scripted(200)
    script.go.clear()
    async with serving(script) as server:
        pool = FakePool(server)
        checker = HealthChecker(pool, HealthConfig(inter=0.01, timeout=60.0))
        checker.sync()
        checker.start()
        await script.next_request()
        async with asyncio.timeout(PATIENCE):
            await checker.stop()
        checker.sync()
        names = [task.get_name() for task in asyncio.all_tasks()]
        assert not [name for name in names if name.startswith("check ")]
        checker.start()
        await script.next_request()
        await checker.stop()
