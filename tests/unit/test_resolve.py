"""Names to addresses: all of them, side by side, again and again, the last good answer kept."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from vsproxy.config.pools import PoolConfig
from vsproxy.config.units import parse_address
from vsproxy.upstream import resolve
from vsproxy.upstream.resolve import Address, Resolver, is_name, look_up

PATIENCE = 10.0
GONE = socket.gaierror(socket.EAI_NONAME, "Name or service not known")


class FakePool:
    """Keeps what it is told and lets a test wait for it."""

    name = "pool"

    def __init__(self, *addresses: str, interval: float = 0.01) -> None:
        self.interval = interval
        self.configure(*addresses)
        self.told: asyncio.Queue[tuple[str, list[Address]]] = asyncio.Queue()
        self.breaks = False

    def configure(self, *addresses: str) -> None:
        self.config = PoolConfig.model_validate(
            {"servers": [{"address": address} for address in addresses], "resolve_interval": self.interval}
        )

    def replace_addresses(self, name: str, addresses: list[Address]) -> None:
        if self.breaks:
            self.breaks = False
            raise RuntimeError("the pool broke")
        self.told.put_nowait((name, addresses))

    async def next(self) -> tuple[str, list[Address]]:
        async with asyncio.timeout(PATIENCE):
            return await self.told.get()


class Answers:
    """A resolver that gives one answer after the other, the last one for ever."""

    def __init__(self, **script: list[list[str] | Exception]) -> None:
        self.script = script
        self.asked: list[tuple[str, int]] = []
        self.again = asyncio.Semaphore(0)

    async def __call__(self, host: str, port: int) -> list[Address]:
        self.asked.append((host, port))
        self.again.release()
        answers = self.script[host]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return [(address, port) for address in answer]

    async def lookups(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE):
            for _ in range(count):
                await self.again.acquire()


@asynccontextmanager
async def resolving(pool: FakePool, answers: Answers) -> AsyncIterator[Resolver]:
    resolver = Resolver(pool, answers)
    async with asyncio.timeout(PATIENCE):
        await resolver.start()
    try:
        yield resolver
    finally:
        await resolver.stop()


@pytest.mark.parametrize(
    ("address", "expected"),
    [("backend:80", True), ("127.0.0.1:80", False), ("[::1]:80", False), ("unix:/run/app.sock", False)],
)
def test_what_is_a_name(address: str, expected: bool) -> None:
    assert is_name(parse_address(address)) is expected


async def test_localhost_is_resolved_for_real() -> None:
    found = await look_up("localhost", 80)
    assert set(found) & {("127.0.0.1", 80), ("::1", 80)}
    assert len(found) == len(set(found))


async def test_a_start_resolves_all_names_and_nothing_else() -> None:
    pool = FakePool("one:80", "two:81", "127.0.0.1:82", "unix:/run/app.sock", interval=3600.0)
    answers = Answers(one=[["192.0.2.1", "2001:db8::1"]], two=[["192.0.2.2"]])
    async with resolving(pool, answers):
        told = [pool.told.get_nowait(), pool.told.get_nowait()]
    assert sorted(told) == [
        ("one:80", [("192.0.2.1", 80), ("2001:db8::1", 80)]),
        ("two:81", [("192.0.2.2", 81)]),
    ]
    assert sorted(answers.asked) == [("one", 80), ("two", 81)]


async def test_a_start_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolve, "FIRST_WAIT", 0.05)
    late = asyncio.Event()

    class Slow(Answers):
        async def __call__(self, host: str, port: int) -> list[Address]:
            if host == "slow":
                await late.wait()
            return await super().__call__(host, port)

    pool = FakePool("slow:80", "quick:80", interval=3600.0)
    async with resolving(pool, Slow(slow=[["192.0.2.1"]], quick=[["192.0.2.2"]])):
        assert await pool.next() == ("quick:80", [("192.0.2.2", 80)])
        assert pool.told.empty()
        late.set()
        assert await pool.next() == ("slow:80", [("192.0.2.1", 80)])


async def test_only_changes_are_told_and_the_order_is_kept() -> None:
    pool = FakePool("one:80")
    answers = Answers(
        one=[
            ["192.0.2.1", "192.0.2.2"],
            ["192.0.2.2", "192.0.2.1"],
            ["192.0.2.3", "192.0.2.2"],
        ]
    )
    async with resolving(pool, answers):
        assert await pool.next() == ("one:80", [("192.0.2.1", 80), ("192.0.2.2", 80)])
        assert await pool.next() == ("one:80", [("192.0.2.2", 80), ("192.0.2.3", 80)])
        await answers.lookups(6)
    assert pool.told.empty()


async def test_a_failure_keeps_the_last_answer_and_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "vsproxy.resolve")
    pool = FakePool("one:80")
    answers = Answers(one=[["192.0.2.1"], GONE, GONE, UnicodeError("label too long"), ["192.0.2.1"]])
    async with resolving(pool, answers):
        await answers.lookups(7)
    assert pool.told.qsize() == 1
    assert [record.message.split(" (")[0] for record in caplog.records] == [
        "pool pool: one does not resolve",
        "pool pool: one resolves again",
    ]
    assert "the last answer stays in use" in caplog.text


async def test_a_name_that_never_resolved_is_down_until_it_does(caplog: pytest.LogCaptureFixture) -> None:
    pool = FakePool("one:80")
    async with resolving(pool, Answers(one=[GONE, GONE, GONE, ["192.0.2.1"]])):
        assert pool.told.get_nowait() == ("one:80", [])
        assert await pool.next() == ("one:80", [("192.0.2.1", 80)])
    assert caplog.text.count("the server is down") == 1


async def test_a_failure_is_tried_again_before_the_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolve, "RETRY", 0.01)
    pool = FakePool("one:80", interval=3600.0)
    async with resolving(pool, Answers(one=[GONE, GONE, ["192.0.2.1"]])):
        assert await pool.next() == ("one:80", [])
        assert await pool.next() == ("one:80", [("192.0.2.1", 80)])


async def test_names_come_and_go() -> None:
    pool = FakePool("one:80", "two:80")
    answers = Answers(one=[["192.0.2.1"]], two=[["192.0.2.2"]], new=[["192.0.2.3"]])
    async with resolving(pool, answers) as resolver:
        await pool.next(), await pool.next()
        pool.configure("one:80", "new:80")
        resolver.sync()
        assert await pool.next() == ("new:80", [("192.0.2.3", 80)])
        asked = answers.asked.count(("two", 80))
        await answers.lookups(len(answers.asked) + 8)
        assert answers.asked.count(("two", 80)) == asked
        pool.configure("one:80", "two:80")
        resolver.sync()
        assert await pool.next() == ("two:80", [("192.0.2.2", 80)])


async def test_what_breaks_in_the_pool_is_said_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    pool = FakePool("one:80")
    pool.breaks = True
    async with resolving(pool, Answers(one=[["192.0.2.1"]])):
        assert await pool.next() == ("one:80", [("192.0.2.1", 80)])
    assert "the pool broke" in caplog.text


async def test_nothing_is_resolved_after_a_stop() -> None:
    pool = FakePool("one:80", interval=3600.0)
    answers = Answers(one=[["192.0.2.1"]])
    async with resolving(pool, answers) as resolver:
        pass
    assert resolver.sync() == []
    assert len(answers.asked) == 1
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("resolve ")]
