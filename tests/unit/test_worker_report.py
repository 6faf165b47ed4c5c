"""What a worker writes for the others: of few servers everything at each beat, of many the rest in turns."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from vsproxy.config.model import Config
from vsproxy.config.pools import PoolConfig
from vsproxy.rows import server_statuses_of
from vsproxy.shared_state import SharedState
from vsproxy.timers import Sweep
from vsproxy.turns import FEW, TURNS
from vsproxy.upstream.pool import Pool
from vsproxy.upstream.server import Server
from vsproxy.worker_report import Reporter

MANY = 2 * FEW + 5


class Worker:
    """A worker of row 0 with one pool, and what is seen of it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, count: int) -> None:
        listed = [{"address": f"10.0.{number // 250}.{number % 250}:80"} for number in range(count)]
        config = PoolConfig.model_validate({"servers": listed})
        whole = {
            "listeners": [{"bind": "127.0.0.1:0"}],
            "routes": [{"path": "/", "pool": "main"}],
            "pools": {"main": {"servers": listed}},
        }
        self.state = SharedState(2, Config.model_validate(whole))
        self.pool = Pool("main", config, Sweep(loop))
        self.pool.slot, self.pool.serial = 3, 7
        for number in range(count):
            server = Server("main", f"s{number}:80", "10.0.0.1", 80, 1, False, 0)
            server.slot, server.serial = number, 1000 + number
            self.pool.servers.append(server)
        self.reporter = Reporter(self.state, 0, cast(Any, SimpleNamespace(listeners=[], log_lines=[0, 0])))

    def serve(self) -> None:
        """One more request at each server."""
        for server in self.pool.servers:
            server.requests += 1
            server.statuses[2] += 1
            self.pool.statuses[2] += 1

    def beat(self, at_once: bool = False) -> None:
        self.reporter.report([self.pool], at_once)

    def written(self) -> list[int]:
        """Answers of each server, as others see them."""
        records = [self.state.servers.read(0, server.slot) for server in self.pool.servers]
        return [server_statuses_of(record)[2] for record in records]

    def answers(self) -> int:
        """Answers of the pool, as others see them."""
        return int(self.state.pools.read(0, self.pool.slot)[5])

    def active(self) -> list[int]:
        """Exchanges in progress, as others see them."""
        return self.state.active.whole_row(0)[: len(self.pool.servers)]


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def test_of_few_everything_is_written_at_each_beat(loop: asyncio.AbstractEventLoop) -> None:
    worker = Worker(loop, FEW)
    for number in range(1, 4):
        worker.serve()
        worker.beat()
        assert worker.written() == [number] * FEW
        assert worker.answers() == number * FEW


def test_of_many_each_is_written_once_in_so_many_beats(loop: asyncio.AbstractEventLoop) -> None:
    worker = Worker(loop, MANY)
    worker.serve()
    for beat in range(1, TURNS + 1):
        worker.beat()
        assert MANY * beat // TURNS - 1 <= sum(worker.written()) <= MANY * beat // TURNS + TURNS
        assert worker.answers() == (MANY if beat == TURNS else 0)
    assert worker.written() == [1] * MANY


def test_servers_never_have_less_than_their_pool(loop: asyncio.AbstractEventLoop) -> None:
    """As a scrape sees them, which reads pools first."""
    worker = Worker(loop, MANY)
    for number in range(1, 5 * TURNS):
        worker.serve()
        worker.beat(at_once=number % 17 == 0)
        assert worker.answers() <= sum(worker.written())
    assert worker.answers() > 0


def test_all_of_many_is_written_at_once_when_that_is_wanted(loop: asyncio.AbstractEventLoop) -> None:
    worker = Worker(loop, MANY)
    worker.serve()
    worker.beat()
    worker.serve()
    worker.beat(at_once=True)
    assert worker.written() == [2] * MANY
    assert worker.answers() == 2 * MANY


def test_exchanges_in_progress_are_written_at_each_beat(loop: asyncio.AbstractEventLoop) -> None:
    worker = Worker(loop, MANY)
    for number in range(3):
        for server in worker.pool.servers:
            server.active = number
        worker.beat()
        assert worker.active() == [number] * MANY


def test_who_has_left_has_nothing_in_progress(loop: asyncio.AbstractEventLoop) -> None:
    worker = Worker(loop, MANY)
    for server in worker.pool.servers:
        server.active = 1
        worker.state.claims.write(0, server.slot, (1,))
    worker.beat()
    gone = worker.pool.servers.pop()
    worker.beat()
    assert worker.state.active.read(0, gone.slot) == worker.state.claims.read(0, gone.slot) == (0,)
    assert worker.active() == [1] * (MANY - 1)


def test_who_gets_the_slot_of_one_that_has_left_keeps_it(loop: asyncio.AbstractEventLoop) -> None:
    worker = Worker(loop, 3)
    worker.pool.servers[2].active = 1
    worker.beat()
    worker.pool.servers[2] = Server("main", "new:80", "10.0.0.2", 80, 1, False, 0)
    worker.pool.servers[2].slot, worker.pool.servers[2].serial, worker.pool.servers[2].active = 2, 2000, 5
    worker.beat()
    assert worker.active() == [0, 0, 5]


def test_a_pool_that_control_has_not_named_is_not_written(loop: asyncio.AbstractEventLoop) -> None:
    worker = Worker(loop, 3)
    worker.pool.slot = -1
    worker.serve()
    worker.beat()
    assert worker.written() == [0, 0, 0]
