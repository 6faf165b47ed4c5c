"""Active checks: which servers are up, decided by `fall` and `rise` in a row, pushed to the pool."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from typing import Protocol

from vsproxy.config.pools import HealthConfig
from vsproxy.keyed_tasks import KeyedTasks
from vsproxy.upstream.probe import Outcome, Probe
from vsproxy.upstream.server import CHECKING, DOWN, MAINT, UP, Server
from vsproxy.upstream.tls import ClientTls

#: Intervals vary by this share either way, so that checks of many pools and balancers do not march in step.
JITTER = 0.1
#: First checks are spread over this many seconds per server of the pool: soon, but not all in one burst.
FIRST_SPREAD = 0.002
#: The least share of the interval that lies between two checks, however long the first one took.
LEAST_PAUSE = 0.1

logger = logging.getLogger("vsproxy.health")


class CheckedPool(Protocol):
    """What checks need of a pool."""

    name: str
    servers: list[Server]
    tls: ClientTls | None

    def set_state(self, server: Server, state: int, reason: str) -> None:
        """The one place where a server's state changes."""


class Watch:
    """The successes and failures in a row of one server, and what they make of it.

    A server that is CHECKING is settled by its first check. After that `fall` failures in a row take it
    down and `rise` successes in a row bring it up, counted from its last change of state, whoever made
    it: a server that traffic has ejected has to pass `rise` checks that began after that.
    """

    __slots__ = ("_config", "_state", "failures", "server", "successes")

    def __init__(self, server: Server, config: HealthConfig) -> None:
        self.server = server
        self.successes = 0
        self.failures = 0
        self._config = config
        self._state = server.state

    def begin(self) -> None:
        """A check begins. If the state has changed since the last one, counting starts anew."""
        if self.server.state != self._state:
            self._state = self.server.state
            self.successes = self.failures = 0

    def note(self, passed: bool, text: str) -> tuple[int, str] | None:
        """Count a finished check; the state that follows and its reason, or None if nothing changes."""
        server = self.server
        server.last_check = text
        if passed:
            server.check_successes += 1
        else:
            server.check_failures += 1
        if server.state != self._state:
            # A check that began before the change says nothing about what has been since.
            return None
        if passed:
            self.successes, self.failures = self.successes + 1, 0
        else:
            self.successes, self.failures = 0, self.failures + 1
        return self._verdict(text)

    def _verdict(self, text: str) -> tuple[int, str] | None:
        state = self.server.state
        if state == CHECKING:
            return (UP, f"check: {text}") if self.successes else (DOWN, f"check: {text}")
        if state == UP and self.failures >= self._config.fall:
            return DOWN, f"check: {text}"
        if state == DOWN and self.successes >= self._config.rise:
            return UP, f"check: passed {self.successes} of {self._config.rise}"
        return None

    def interval(self) -> float:
        """Seconds from this check to the next: shorter while a change is being decided."""
        state = self.server.state
        if state == CHECKING:
            return self._config.effective_fastinter
        if self._state != state:
            # It has just changed, whether by this check or otherwise.
            return self._config.effective_downinter if state == DOWN else self._config.inter
        if (state == UP and self.failures) or (state == DOWN and self.successes):
            return self._config.effective_fastinter
        return self._config.effective_downinter if state == DOWN else self._config.inter


class HealthChecker:
    """Checks the servers of one pool, each in a task of its own.

    Servers in DRAIN are checked and keep their state, those in MAINT are not checked. A server that has
    no address yet (its name does not resolve) is not checked either. `introduces` as of `Probe`.
    """

    def __init__(self, pool: CheckedPool, config: HealthConfig, introduces: str = "") -> None:
        self._pool = pool
        self._config = config
        self._tasks = KeyedTasks[Server]()
        self._probe = Probe(config, introduces)
        self._running = False

    def start(self) -> None:
        """Begin to check, the first time at once. Needs a running loop."""
        self._running = True
        self.sync()

    async def stop(self) -> None:
        """End all checks, also one that is being made."""
        self._running = False
        await self._tasks.stop()

    def sync(self) -> None:
        """Follow `pool.servers`: check those that are new, leave those that are gone."""
        if not self._running:
            return
        present = {server for server in self._pool.servers if server.host}
        for server in self._tasks.keys() - present:
            self._tasks.end(server)
        fresh = present - self._tasks.keys()
        for server in fresh:
            first = random.uniform(0.0, FIRST_SPREAD * len(fresh))  # noqa: S311 spreads load, guards nothing
            watching = self._watch(Watch(server, self._config), first)
            self._tasks.start(server, watching, f"check {server!r}")

    async def _watch(self, watch: Watch, first: float) -> None:
        pause = first
        while True:
            await asyncio.sleep(pause)
            began = time.monotonic()
            if watch.server.state != MAINT:
                try:
                    await self._check(watch)
                except Exception:
                    # Never in silence, and never the end of the checks of this server.
                    logger.exception("pool %s: a check of %s broke", self._pool.name, watch.server.address)
            interval = watch.interval() * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 as above
            pause = max(interval - (time.monotonic() - began), interval * LEAST_PAUSE)

    async def _check(self, watch: Watch) -> None:
        server = watch.server
        watch.begin()
        outcome: Outcome = await self._probe.check(server, self._pool.tls)
        server.check_time.observe(outcome.seconds)
        if outcome.passed is None:
            text = f"not possible: {outcome.text}"
            if server.last_check != text:
                logger.error("pool %s: no check of %s: %s", self._pool.name, server.address, outcome.text)
            server.last_check = text
            return
        change = watch.note(outcome.passed, outcome.text)
        if change is not None:
            self._pool.set_state(server, *change)
