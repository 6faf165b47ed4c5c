"""The way back for servers that traffic has ejected from a pool without active checks.

No client is ever sent to find out: a connection is tried in the background.
"""

from __future__ import annotations

import asyncio
import logging
import time

from vsproxy.keyed_tasks import KeyedTasks
from vsproxy.upstream.health import CheckedPool
from vsproxy.upstream.probe import describe, try_connect
from vsproxy.upstream.server import CHECKING, DOWN, UP, Server

#: A server that accepts no connection within this many seconds is not back yet.
MAX_CONNECT = 2.0
#: Seconds to which the hold grows, if `fail_window` is not longer anyway.
MAX_HOLD = 60.0
#: Seconds between two tries while no server of the pool is up: there is nothing to protect then.
EAGER = 0.1

logger = logging.getLogger("vsproxy.health")


class PassiveRecovery:
    """Tries each ejected server of one pool until it accepts connections, then puts it up.

    The first try is made after `fail_window` seconds, and each failed one doubles the hold. A server that
    is ejected again within `fail_window` seconds of its return is held twice as long as before. `introduces` as of
    `Probe`.
    """

    def __init__(
        self, pool: CheckedPool, fail_window: float, connect_timeout: float, introduces: str = ""
    ) -> None:
        self._pool = pool
        self._fail_window = fail_window
        self._timeout = min(connect_timeout, MAX_CONNECT)
        self._introduces = introduces
        self._tasks = KeyedTasks[Server]()
        self._running = False
        # Of those that came back: when, and after what hold.
        self._returned: dict[Server, tuple[float, float]] = {}

    def start(self) -> None:
        """Take up the servers that are down already. Needs a running loop."""
        self._running = True
        self.sync()

    async def stop(self) -> None:
        """End all tries."""
        self._running = False
        await self._tasks.stop()

    def sync(self) -> None:
        """Follow `pool.servers`: forget those that are gone, take up those that nobody has decided on."""
        if not self._running:
            return
        present = set(self._pool.servers)
        for server in self._returned.keys() - present:
            del self._returned[server]
        for server in self._tasks.keys() - present:
            self._tasks.end(server)
        for server in present:
            if server.state in (DOWN, CHECKING):
                self.ejected(server)

    def ejected(self, server: Server) -> None:
        """Traffic has taken `server` down: try it from now on. Without effect for one being tried."""
        if not self._running or server in self._tasks or not server.host:
            return
        # One of which nothing is known is looked at without delay.
        hold = 0.0 if server.state == CHECKING else self._fail_window
        returned, last_hold = self._returned.pop(server, (0.0, 0.0))
        if last_hold and time.monotonic() - returned < self._fail_window:
            hold = self._longer(last_hold)
        self._tasks.start(server, self._recover(server, hold), f"recover {server!r}")

    def _longer(self, hold: float) -> float:
        return max(self._fail_window, min(2 * hold, MAX_HOLD))

    async def _recover(self, server: Server, hold: float) -> None:
        try:
            held = await self._until_it_accepts(server, hold)
        finally:
            self._tasks.finished(server)
        if held is None:
            return
        self._returned[server] = (time.monotonic(), held)
        try:
            self._pool.set_state(server, UP, "passive: accepts connections again")
        except Exception:
            # Nobody awaits this task: what goes wrong in it has to be said here.
            logger.exception("pool %s: bringing %s up broke", self._pool.name, server.address)

    async def _until_it_accepts(self, server: Server, hold: float) -> float | None:
        """The hold that was in force when `server` accepted; None if somebody else decided meanwhile."""
        due = time.monotonic() + hold
        while True:
            await asyncio.sleep(max(0.0, min(EAGER, due - time.monotonic())))
            if server.state not in (DOWN, CHECKING):
                return None
            is_due = time.monotonic() >= due
            if not is_due and any(other.state == UP for other in self._pool.servers):
                continue
            if await self._accepts(server):
                return hold
            if is_due:
                hold = self._longer(hold)
                due = time.monotonic() + hold

    async def _accepts(self, server: Server) -> bool:
        try:
            async with asyncio.timeout(self._timeout):
                await try_connect(server, server.port, self._pool.tls, self._introduces)
        except OSError as error:
            server.last_check = describe(error)
            return False
        server.last_check = "accepts connections"
        return True
