"""Names to endpoints: all of them, side by side, again as their TTL says, the last good answer kept."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from vsproxy.config.pools import PoolConfig, ServerConfig
from vsproxy.config.units import Bind, parse_address
from vsproxy.upstream import resolve
from vsproxy.upstream.endpoint import Endpoint
from vsproxy.upstream.lookup import Answer, LookupFailed
from vsproxy.upstream.resolve import Resolver, is_name

PATIENCE = 10.0
LONG = 3600.0
GONE = LookupFailed("no A or AAAA record")

Told = tuple[str, list[Endpoint]]


class FakePool:
    """Keeps what it is told and lets a test wait for it."""

    name = "pool"

    def __init__(self, *addresses: str, interval: float = LONG) -> None:
        self.configure(*addresses, interval=interval)
        self.told: asyncio.Queue[Told] = asyncio.Queue()
        self.breaks = False

    def configure(self, *addresses: str, interval: float = LONG) -> None:
        config = PoolConfig.model_validate({"servers": [{"address": address} for address in addresses]})
        # A file cannot say less than a second; a test cannot wait for one.
        self.config = config.model_copy(update={"resolve_interval": interval})

    def replace_addresses(self, name: str, endpoints: Sequence[Endpoint]) -> None:
        if self.breaks:
            self.breaks = False
            raise RuntimeError("the pool broke")
        self.told.put_nowait((name, list(endpoints)))

    async def next(self) -> Told:
        async with asyncio.timeout(PATIENCE):
            return await self.told.get()

    def now(self) -> list[Told]:
        """What it was told since it was last looked at."""
        return [self.told.get_nowait() for _ in range(self.told.qsize())]


def answer(*hosts: str, port: int = 80, ttl: float = math.inf) -> Answer:
    return Answer(tuple(Endpoint(host, port) for host in hosts), ttl)


def endpoints(*hosts: str, port: int = 80) -> list[Endpoint]:
    return list(answer(*hosts, port=port).endpoints)


class Answers:
    """A lookup that gives one answer after the other, the last one for ever."""

    def __init__(self, **script: list[Answer | Exception]) -> None:
        self.script = script
        self.asked: list[str] = []
        self.last: list[Answer | None] = []
        self.again = asyncio.Semaphore(0)

    async def __call__(self, bind: Bind, last: Answer | None) -> Answer:
        self.asked.append(bind.host)
        self.last.append(last)
        self.again.release()
        answers = self.script[bind.host]
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(found, Exception):
            raise found
        return found

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


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failures and TTLs of 0 are followed up at once."""
    monkeypatch.setattr(resolve, "RETRY", 0.001)
    monkeypatch.setattr(resolve, "MIN_PAUSE", 0.001)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("backend:80", True),
        ("srv:_http._tcp.backend", True),
        ("127.0.0.1:80", False),
        ("[::1]:80", False),
        ("unix:/run/app.sock", False),
    ],
)
def test_what_is_a_name(address: str, expected: bool) -> None:
    assert is_name(parse_address(address)) is expected


async def test_a_start_resolves_all_names_and_nothing_else() -> None:
    pool = FakePool("one:80", "srv:_http._tcp.two", "127.0.0.1:82", "unix:/run/app.sock")
    service = Answer((Endpoint("192.0.2.2", 8002, 7, True),))
    answers = Answers(one=[answer("192.0.2.1", "2001:db8::1")], **{"_http._tcp.two": [service]})
    async with resolving(pool, answers):
        assert sorted(pool.now()) == [
            ("one:80", endpoints("192.0.2.1", "2001:db8::1")),
            ("srv:_http._tcp.two", [Endpoint("192.0.2.2", 8002, 7, True)]),
        ]
    assert sorted(answers.asked) == ["_http._tcp.two", "one"]


async def test_a_start_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolve, "FIRST_WAIT", 0.05)
    late = asyncio.Event()

    class Slow(Answers):
        async def __call__(self, bind: Bind, last: Answer | None) -> Answer:
            if bind.host == "slow":
                await late.wait()
            return await super().__call__(bind, last)

    pool = FakePool("slow:80", "quick:80")
    async with resolving(pool, Slow(slow=[answer("192.0.2.1")], quick=[answer("192.0.2.2")])):
        assert pool.now() == [("quick:80", endpoints("192.0.2.2"))]
        late.set()
        assert await pool.next() == ("slow:80", endpoints("192.0.2.1"))


# When


def test_the_pause_is_the_ttl_within_its_bounds() -> None:
    resolver = Resolver(FakePool("one:80", interval=30.0), Answers())

    def pauses(ttl: float) -> tuple[float, float]:
        found = [resolver._pause(ttl) for _ in range(200)]
        return min(found), max(found)

    for ttl, low, high in (
        (0.0, 1.0, 1.1),
        (10.0, 10.0, 11.0),
        (29.9, 27.0, 30.0),
        (600.0, 27.0, 30.0),
        (math.inf, 27.0, 30.0),
    ):
        least, most = pauses(ttl)
        assert low <= least < most <= high, ttl


def test_failures_are_followed_up_soon_then_less_often() -> None:
    resolver = Resolver(FakePool("one:80", interval=30.0), Answers())
    for failures, expected in ((1, 1.0), (2, 2.0), (5, 16.0), (6, 30.0), (1000, 30.0)):
        assert resolver._pause_after(failures) == pytest.approx(expected, rel=0.11)


@pytest.mark.usefixtures("quick")
async def test_a_short_ttl_comes_before_the_interval() -> None:
    pool = FakePool("one:80")
    async with resolving(pool, Answers(one=[answer("192.0.2.1", ttl=0.02), answer("192.0.2.2")])) as resolver:
        assert pool.now() == [("one:80", endpoints("192.0.2.1"))]
        assert await pool.next() == ("one:80", endpoints("192.0.2.2"))
        assert resolver.sync() == []


async def test_the_interval_comes_before_a_long_ttl() -> None:
    pool = FakePool("one:80", interval=0.01)
    async with resolving(pool, Answers(one=[answer("192.0.2.1", ttl=600), answer("192.0.2.2", ttl=600)])):
        assert pool.now() == [("one:80", endpoints("192.0.2.1"))]
        assert await pool.next() == ("one:80", endpoints("192.0.2.2"))


async def test_a_shorter_interval_counts_from_the_reload_on() -> None:
    pool = FakePool("one:80")
    answers = Answers(one=[answer("192.0.2.1"), answer("192.0.2.2")])
    async with resolving(pool, answers) as resolver:
        assert await pool.next() == ("one:80", endpoints("192.0.2.1"))
        pool.configure("one:80", interval=LONG / 2)
        assert resolver.sync() == []
        assert await pool.next() == ("one:80", endpoints("192.0.2.2"))
        assert resolver.sync() == []
    assert len(answers.asked) == 2


# What


@pytest.mark.usefixtures("quick")
async def test_only_changes_are_told_and_the_order_is_kept() -> None:
    pool = FakePool("one:80", interval=0.01)
    answers = Answers(
        one=[
            answer("192.0.2.1", "192.0.2.2"),
            answer("192.0.2.2", "192.0.2.1"),
            answer("192.0.2.3", "192.0.2.2"),
        ]
    )
    async with resolving(pool, answers):
        assert await pool.next() == ("one:80", endpoints("192.0.2.1", "192.0.2.2"))
        assert await pool.next() == ("one:80", endpoints("192.0.2.2", "192.0.2.3"))
        await answers.lookups(6)
    assert pool.told.empty()
    assert answers.last[0] is None
    assert answers.last[3] == answer("192.0.2.3", "192.0.2.2")


async def test_a_weight_or_a_priority_that_changes_is_told() -> None:
    pool = FakePool("srv:_http._tcp.one", interval=0.01)
    one, two = Endpoint("192.0.2.1", 81, 1, False), Endpoint("192.0.2.2", 82, 2, True)
    script = [
        Answer((one, two)),
        Answer((two._replace(weight=3), one)),
        Answer((two._replace(backup=False), one._replace(backup=True))),
    ]
    async with resolving(pool, Answers(**{"_http._tcp.one": list(script)})):
        told = [(await pool.next())[1] for _ in range(3)]
    assert told == [
        [one, two],
        [one, two._replace(weight=3)],
        [one._replace(backup=True), two._replace(backup=False)],
    ]


async def test_a_service_not_offered_any_more_has_no_endpoint(caplog: pytest.LogCaptureFixture) -> None:
    pool = FakePool("srv:_http._tcp.one", interval=0.01)
    none = Answer((), ttl=5.0)
    answers = Answers(**{"_http._tcp.one": [answer("192.0.2.1"), none]})
    async with resolving(pool, answers):
        assert (await pool.next())[1] == endpoints("192.0.2.1")
        assert await pool.next() == ("srv:_http._tcp.one", [])
        await answers.lookups(4)
    assert pool.told.empty()
    assert caplog.text.count("the service is not offered") == 1


# Failures


@pytest.mark.usefixtures("quick")
async def test_a_failure_keeps_the_last_answer_and_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "vsproxy.resolve")
    pool = FakePool("one:80", interval=0.01)
    answers = Answers(one=[answer("192.0.2.1"), GONE, GONE, LookupFailed("timeout"), answer("192.0.2.1")])
    async with resolving(pool, answers):
        await answers.lookups(7)
    assert pool.told.qsize() == 1
    assert [record.message.split(" (")[0] for record in caplog.records] == [
        "pool pool: one does not resolve",
        "pool pool: one resolves again",
    ]
    assert "the last answer stays in use" in caplog.text
    # The next lookup still knows what the last good answer was.
    assert answers.last[4] == answer("192.0.2.1")


@pytest.mark.usefixtures("quick")
async def test_a_name_that_never_resolved_is_down_until_it_does(caplog: pytest.LogCaptureFixture) -> None:
    pool = FakePool("one:80")
    async with resolving(pool, Answers(one=[GONE, GONE, GONE, answer("192.0.2.1")])):
        assert pool.now() == [("one:80", [])]
        assert await pool.next() == ("one:80", endpoints("192.0.2.1"))
    assert caplog.text.count("the server is down") == 1


async def test_what_breaks_in_the_pool_is_said_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    pool = FakePool("one:80", interval=0.01)
    pool.breaks = True
    async with resolving(pool, Answers(one=[answer("192.0.2.1")])):
        assert await pool.next() == ("one:80", endpoints("192.0.2.1"))
    assert "the pool broke" in caplog.text


# Reload and restart


async def test_names_come_and_go() -> None:
    pool = FakePool("one:80", "two:80", interval=0.01)
    answers = Answers(one=[answer("192.0.2.1")], two=[answer("192.0.2.2")], new=[answer("192.0.2.3")])
    async with resolving(pool, answers) as resolver:
        await pool.next(), await pool.next()
        pool.configure("one:80", "new:80", interval=0.01)
        resolver.sync()
        assert await pool.next() == ("new:80", endpoints("192.0.2.3"))
        asked = answers.asked.count("two")
        await answers.lookups(len(answers.asked) + 8)
        assert answers.asked.count("two") == asked
        pool.configure("one:80", "two:80", interval=0.01)
        resolver.sync()
        assert await pool.next() == ("two:80", endpoints("192.0.2.2"))


def servers(*addresses: str) -> list[ServerConfig]:
    return [ServerConfig.model_validate({"address": address}) for address in addresses]


async def test_a_reload_tells_again_what_records_say_of_weights() -> None:
    pool = FakePool("one:80", "srv:_http._tcp.two")
    service = Answer((Endpoint("192.0.2.2", 8002, 7, True),))
    answers = Answers(one=[answer("192.0.2.1")], **{"_http._tcp.two": [service]})
    async with resolving(pool, answers) as resolver:
        pool.now()
        resolver.sync()
        assert pool.now() == [("srv:_http._tcp.two", list(service.endpoints))]


async def test_what_was_fetched_is_there_at_the_switch(caplog: pytest.LogCaptureFixture) -> None:
    pool = FakePool("one:80")
    answers = Answers(one=[answer("192.0.2.1")], new=[answer("192.0.2.2")], gone=[RuntimeError("broke"), GONE])
    async with resolving(pool, answers) as resolver:
        pool.now()
        await resolver.prefetch(servers("one:80", "new:80", "gone:80", "127.0.0.1:80"))
        assert "RuntimeError: broke" in caplog.text
        assert pool.now() == []
        assert sorted(answers.asked) == ["gone", "new", "one"]
        pool.configure("one:80", "new:80", "gone:80")
        (tried,) = resolver.sync()
        assert pool.now() == [("new:80", endpoints("192.0.2.2"))]
        async with asyncio.timeout(PATIENCE):
            await tried.wait()
        assert pool.now() == [("gone:80", [])]
    # The answer that was fetched counts: only what failed is asked for again.
    assert sorted(answers.asked) == ["gone", "gone", "new", "one"]


async def test_what_was_fetched_for_a_reload_that_is_off_is_forgotten() -> None:
    pool = FakePool("one:80")
    answers = Answers(one=[answer("192.0.2.1")], new=[answer("192.0.2.2"), answer("192.0.2.3")])
    async with resolving(pool, answers) as resolver:
        pool.now()
        await resolver.prefetch(servers("new:80"))
        resolver.sync()
        pool.configure("one:80", "new:80")
        assert len(resolver.sync()) == 1
        assert await pool.next() == ("new:80", endpoints("192.0.2.3"))


async def test_fetching_does_not_take_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolve, "FIRST_WAIT", 0.02)

    async def look(bind: Bind, last: Answer | None) -> Answer:
        if bind.host == "slow":
            await asyncio.Event().wait()
        return answer("192.0.2.2")

    pool = FakePool("one:80")
    resolver = Resolver(pool, look)
    async with asyncio.timeout(PATIENCE):
        await resolver.prefetch(servers("slow:80", "quick:80"))
    pool.configure("quick:80")
    await resolver.start()
    assert pool.now() == [("quick:80", endpoints("192.0.2.2"))]
    await resolver.stop()


async def test_a_new_pool_starts_with_what_was_fetched() -> None:
    pool = FakePool("one:80")
    answers = Answers(one=[answer("192.0.2.1")])
    resolver = Resolver(pool, answers)
    await resolver.prefetch(pool.config.servers)
    await resolver.start()
    assert pool.now() == [("one:80", endpoints("192.0.2.1"))]
    await resolver.stop()
    assert answers.asked == ["one"]


async def test_what_is_remembered_is_in_use_until_there_is_news() -> None:
    asking = asyncio.Event()
    going = asyncio.Event()

    async def look(bind: Bind, last: Answer | None) -> Answer:
        asking.set()
        await going.wait()
        return answer("192.0.2.2")

    pool = FakePool("one:80", "srv:_http._tcp.two")
    resolver = Resolver(pool, look)
    service = Endpoint("192.0.2.7", 8007, 7, True)
    # What the server had of the configuration is not the name's.
    resolver.remember("one:80", [Endpoint("192.0.2.1", 80, 9, True)])
    resolver.remember("srv:_http._tcp.two", [service])
    resolver.remember("gone:80", endpoints("192.0.2.9"))
    async with asyncio.timeout(PATIENCE):
        # No answer is waited for.
        await resolver.start()
        assert pool.now() == [("one:80", endpoints("192.0.2.1")), ("srv:_http._tcp.two", [service])]
        await asking.wait()
    going.set()
    assert {(await pool.next())[0], (await pool.next())[0]} == {"one:80", "srv:_http._tcp.two"}
    await resolver.stop()


async def test_what_is_remembered_stays_if_the_name_fails(caplog: pytest.LogCaptureFixture) -> None:
    pool = FakePool("one:80")
    answers = Answers(one=[GONE])
    resolver = Resolver(pool, answers)
    resolver.remember("one:80", endpoints("192.0.2.1"))
    await resolver.start()
    await answers.lookups(1)
    await resolver.stop()
    assert pool.now() == [("one:80", endpoints("192.0.2.1"))]
    assert "the last answer stays in use" in caplog.text


async def test_nothing_is_no_memory() -> None:
    pool = FakePool("one:80")
    answers = Answers(one=[GONE])
    resolver = Resolver(pool, answers)
    resolver.remember("one:80", [])
    await resolver.start()
    assert pool.now() == [("one:80", [])]
    await resolver.stop()


async def test_nothing_is_resolved_after_a_stop() -> None:
    pool = FakePool("one:80")
    answers = Answers(one=[answer("192.0.2.1")])
    async with resolving(pool, answers) as resolver:
        pass
    assert resolver.sync() == []
    assert len(answers.asked) == 1
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("resolve ")]
