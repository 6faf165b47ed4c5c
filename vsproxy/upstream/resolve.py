"""Names of servers to endpoints: all of them, again and again, the last good answer kept."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import random
from collections.abc import Iterable, Sequence
from typing import Protocol

from vsproxy.config.pools import PoolConfig, ServerConfig
from vsproxy.config.units import Bind
from vsproxy.keyed_tasks import KeyedTasks
from vsproxy.upstream.endpoint import Endpoint
from vsproxy.upstream.lookup import Answer, Lookup, LookupFailed, family_of

#: Seconds that a start or a reload waits for names; what takes longer comes in later.
FIRST_WAIT = 5.0
#: Seconds after the first failure until the next try; doubled up to the interval.
RETRY = 1.0
#: No TTL brings a resolution earlier than so many seconds after the last one.
MIN_PAUSE = 1.0
#: Pauses vary by this share, so that names do not keep step.
JITTER = 0.1

logger = logging.getLogger("vsproxy.resolve")


class NamedPool(Protocol):
    """What resolution needs of a pool."""

    name: str
    config: PoolConfig

    def replace_addresses(self, name: str, endpoints: Sequence[Endpoint]) -> None:
        """Take the present endpoints of the server configured as `name`; none: there is no way to it."""


def is_name(bind: Bind) -> bool:
    """Whether the host of `bind` has to be resolved: neither an IP address nor a Unix socket."""
    if bind.kind == "unix":
        return False
    try:
        ipaddress.ip_address(bind.host)
    except ValueError:
        return True
    return False


class Resolver:
    """Resolves the names of one pool, each in a task of its own, as its TTL and `resolve_interval` say."""

    def __init__(self, pool: NamedPool, lookup: Lookup) -> None:
        self._pool = pool
        self._lookup = lookup
        self._tasks = KeyedTasks[str]()
        self._interval = pool.config.resolve_interval
        # By configured name: what the pool was told and the answer that said so. Absent: never resolved.
        self._known: dict[str, tuple[list[Endpoint], Answer]] = {}
        # Answers that wait for `sync` to begin with their names.
        self._seeds: dict[str, Answer] = {}
        self._running = False

    def remember(self, name: str, endpoints: Sequence[Endpoint]) -> None:
        """Before `start`: what `name` stood for when it was last resolved, in use until it is again."""
        if not name.startswith("srv:"):
            # Only SRV records have a say in these; what the servers had was the configuration's.
            endpoints = [Endpoint(endpoint.host, endpoint.port) for endpoint in endpoints]
        if endpoints:
            found: dict[tuple[str, str], tuple[str, ...]] = {}
            for endpoint in endpoints if not name.startswith("srv:") else ():
                key = (self._host_of(name), family_of(endpoint.host))
                found[key] = (*found.get(key, ()), endpoint.host)
            self._seeds[name] = Answer(tuple(endpoints), ttl=0.0, found=found)

    def _host_of(self, name: str) -> str:
        hosts = {str(item.address): item.address.host for item in self._pool.config.servers}
        return hosts.get(name, "")

    async def prefetch(self, servers: Iterable[ServerConfig]) -> None:
        """Look up the names among `servers` that are new, for the `sync` that follows to have them at once.

        Takes at most `FIRST_WAIT` seconds. What fails or takes longer is left to the resolution after `sync`.
        """
        # What an earlier change had looked up, which did not come to be, is old by now.
        self._seeds.clear()
        new = {name: bind for name, bind in _names(servers).items() if name not in self._tasks}
        try:
            async with asyncio.timeout(FIRST_WAIT):
                await asyncio.gather(*(self._fetch(name, bind) for name, bind in new.items()))
        except TimeoutError:
            logger.debug("pool %s: not all new names have resolved yet", self._pool.name)

    async def _fetch(self, name: str, bind: Bind) -> None:
        try:
            self._seeds[name] = await self._lookup(bind, None)
        except LookupFailed as error:
            logger.debug("pool %s: %s does not resolve yet: %s", self._pool.name, name, error)
        except Exception:
            # As below: ours, and no reason against a reload.
            logger.exception("pool %s: resolving %s broke", self._pool.name, name)

    async def start(self) -> None:
        """Resolve all names side by side and wait, at most `FIRST_WAIT` seconds, for those not known yet."""
        self._running = True
        tried = self.sync()
        if tried:
            waits = [asyncio.create_task(event.wait()) for event in tried]
            try:
                await asyncio.wait(waits, timeout=FIRST_WAIT)
            finally:
                for wait in waits:
                    wait.cancel()

    async def stop(self) -> None:
        """End the resolution; the pool keeps the endpoints it has."""
        self._running = False
        await self._tasks.stop()

    def sync(self) -> list[asyncio.Event]:
        """Follow `pool.config`: resolve names that are new, forget those that are gone.

        The pool is told at once about new names that `prefetch` or `remember` has answers for. One event for
        each of the others, set once its first answer or failure is there.
        """
        if not self._running:
            return []
        config = self._pool.config
        wanted = _names(config.servers)
        for name in self._tasks.keys() - wanted.keys():
            self._known.pop(name, None)
            self._tasks.end(name)
        for name, (endpoints, _) in self._known.items():
            # With a new configuration the pool has fallen back on the weights in it.
            if wanted[name].kind == "srv":
                self._pool.replace_addresses(name, list(endpoints))
        if config.resolve_interval != self._interval:
            # Pauses that have begun may be too long now.
            self._interval = config.resolve_interval
            for name in list(self._tasks.keys()):
                self._tasks.end(name)
        tried = []
        for name, bind in wanted.items():
            if name not in self._tasks:
                event = asyncio.Event()
                pause = self._plant(name)
                if name not in self._known:
                    tried.append(event)
                self._tasks.start(name, self._follow(name, bind, event, pause), f"resolve {name}")
        self._seeds.clear()
        return tried

    def look_again(self) -> None:
        """The nameservers are others: ask them now, and not when the old answers have had their time."""
        names = _names(self._pool.config.servers)
        for name in list(self._tasks.keys()):
            self._tasks.end(name)
            self._tasks.start(name, self._follow(name, names[name], asyncio.Event(), 0.0), f"resolve {name}")

    def _plant(self, name: str) -> float:
        """Tell the pool what is known of a name to begin with; the seconds until it is to be looked up."""
        seed = self._seeds.get(name)
        if seed is None:
            return 0.0
        self._take(name, seed)
        return self._pause(seed.ttl) if seed.ttl > 0 else 0.0

    async def _follow(self, name: str, bind: Bind, tried: asyncio.Event, pause: float) -> None:
        failures = 0
        while True:
            await asyncio.sleep(pause)
            try:
                ttl = await self._resolve(name, bind, failures == 0)
            except Exception:
                # Not the name's fault but ours: never in silence, and never the end of its resolution.
                logger.exception("pool %s: resolving %s broke", self._pool.name, bind.host)
                ttl = None
            tried.set()
            failures = 0 if ttl is not None else failures + 1
            pause = self._pause(ttl) if ttl is not None else self._pause_after(failures)

    def _pause(self, ttl: float) -> float:
        """Seconds until the next resolution after an answer: not before its TTL, not after the interval."""
        spread = JITTER * random.random()  # noqa: S311 spreads load
        return min(self._pool.config.resolve_interval * (1 - spread), max(ttl, MIN_PAUSE) * (1 + spread))

    def _pause_after(self, failures: int) -> float:
        """Seconds until the next resolution after so many failures in a row."""
        pause = min(self._pool.config.resolve_interval, RETRY * 2.0 ** min(failures - 1, 16))
        return pause * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 spreads load

    async def _resolve(self, name: str, bind: Bind, first_failure: bool) -> float | None:
        """One resolution: the TTL of the answer, None without one. The first failure in a row is logged."""
        known = self._known.get(name)
        try:
            answer = await self._lookup(bind, known[1] if known else None)
        except LookupFailed as error:
            if first_failure:
                kept = "the last answer stays in use" if known else "the server is down"
                logger.warning(
                    "pool %s: %s does not resolve (%s): %s", self._pool.name, bind.host, error, kept
                )
                if not known:
                    self._pool.replace_addresses(name, [])
            return None
        if not first_failure:
            logger.info("pool %s: %s resolves again", self._pool.name, bind.host)
        self._take(name, answer)
        return answer.ttl

    def _take(self, name: str, answer: Answer) -> None:
        """Tell the pool, if anything has changed."""
        before = self._known[name][0] if name in self._known else []
        # Resolvers rotate their answers; the order of servers is not to follow.
        places = {(endpoint.host, endpoint.port): index for index, endpoint in enumerate(before)}
        endpoints = sorted(answer.endpoints, key=lambda one: places.get((one.host, one.port), len(places)))
        if name not in self._known or endpoints != before:
            if not endpoints:
                logger.warning("pool %s: %s: the service is not offered", self._pool.name, name)
            self._pool.replace_addresses(name, list(endpoints))
        self._known[name] = (endpoints, answer)


def _names(servers: Iterable[ServerConfig]) -> dict[str, Bind]:
    """The addresses that have to be resolved, by how they are configured."""
    return {str(server.address): server.address for server in servers if is_name(server.address)}
