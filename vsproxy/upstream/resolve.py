"""Names of servers to addresses: all of them, again and again, the last good answer kept."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import random
import socket
from collections.abc import Awaitable, Callable
from typing import Protocol

from vsproxy.config.pools import PoolConfig
from vsproxy.config.units import Bind
from vsproxy.keyed_tasks import KeyedTasks

#: Seconds that a start waits for names; what takes longer comes in later.
FIRST_WAIT = 5.0
#: Seconds after the first failure until the next try; doubled up to the interval.
RETRY = 1.0
#: The interval varies by this share either way.
JITTER = 0.1

logger = logging.getLogger("vsproxy.resolve")

Address = tuple[str, int]
Lookup = Callable[[str, int], Awaitable[list[Address]]]


class NamedPool(Protocol):
    """What resolution needs of a pool."""

    name: str
    config: PoolConfig

    def replace_addresses(self, name: str, addresses: list[Address]) -> None:
        """Take the present addresses of the server configured as `name`; none: it does not resolve."""


def is_name(bind: Bind) -> bool:
    """Whether the host of `bind` has to be resolved: neither an IP address nor a Unix socket."""
    if bind.kind == "unix":
        return False
    try:
        ipaddress.ip_address(bind.host)
    except ValueError:
        return True
    return False


async def look_up(host: str, port: int) -> list[Address]:
    """All IPv4 and IPv6 addresses of `host`, each once. Raises OSError, or UnicodeError for a bad name."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys((str(address[0]), port) for _, _, _, _, address in found))


class Resolver:
    """Resolves the names of one pool every `resolve_interval` seconds, each in a task of its own."""

    def __init__(self, pool: NamedPool, lookup: Lookup = look_up) -> None:
        self._pool = pool
        self._lookup = lookup
        self._tasks = KeyedTasks[str]()
        # The last good answer by configured name. A name that has had none is absent.
        self._known: dict[str, list[Address]] = {}
        self._running = False

    async def start(self) -> None:
        """Resolve all names side by side and wait for the answers, at most `FIRST_WAIT` seconds."""
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
        """End the resolution; the pool keeps the addresses it has."""
        self._running = False
        await self._tasks.stop()

    def sync(self) -> list[asyncio.Event]:
        """Follow `pool.config`: resolve names that are new, forget those that are gone.

        One event for each new name, set once its first answer or failure is there.
        """
        if not self._running:
            return []
        wanted = {str(server.address): server.address for server in self._pool.config.servers}
        wanted = {name: bind for name, bind in wanted.items() if is_name(bind)}
        for name in self._tasks.keys() - wanted.keys():
            self._known.pop(name, None)
            self._tasks.end(name)
        tried = []
        for name, bind in wanted.items():
            if name not in self._tasks:
                tried.append(asyncio.Event())
                self._tasks.start(name, self._follow(name, bind, tried[-1]), f"resolve {name}")
        return tried

    async def _follow(self, name: str, bind: Bind, tried: asyncio.Event) -> None:
        failures = 0
        while True:
            try:
                resolved = await self._resolve(name, bind, failures == 0)
            except Exception:
                # Not the name's fault but ours: never in silence, and never the end of its resolution.
                logger.exception("pool %s: resolving %s broke", self._pool.name, bind.host)
                resolved = False
            tried.set()
            failures = 0 if resolved else failures + 1
            pause = self._pool.config.resolve_interval
            if failures:
                pause = min(pause, RETRY * 2.0 ** min(failures - 1, 16))
            await asyncio.sleep(pause * random.uniform(1 - JITTER, 1 + JITTER))  # noqa: S311 spreads load

    async def _resolve(self, name: str, bind: Bind, first_failure: bool) -> bool:
        """One resolution. True if there was an answer; a failure is logged if it is the first in a row."""
        try:
            found = await self._lookup(bind.host, bind.port)
        except (OSError, UnicodeError) as error:
            if first_failure:
                kept = "the last answer stays in use" if name in self._known else "the server is down"
                logger.warning(
                    "pool %s: %s does not resolve (%s): %s", self._pool.name, bind.host, error, kept
                )
                if name not in self._known:
                    self._pool.replace_addresses(name, [])
            return False
        if not first_failure:
            logger.info("pool %s: %s resolves again", self._pool.name, bind.host)
        # Resolvers rotate their answers; the order of servers is not to follow.
        known = self._known.get(name, [])
        addresses = [address for address in known if address in found]
        addresses += [address for address in found if address not in known]
        if addresses != known:
            self._pool.replace_addresses(name, list(addresses))
            self._known[name] = addresses
        return True
