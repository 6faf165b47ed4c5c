"""What keeps a pool's states true: name resolution, active checks, recovery after passive ejection.

In a later release one control process does this for all workers; an embedded `Proxy` does it in its loop.
"""

from __future__ import annotations

from vsproxy.upstream.health import HealthChecker
from vsproxy.upstream.pool import Pool
from vsproxy.upstream.recovery import PassiveRecovery
from vsproxy.upstream.resolve import Resolver


class PoolControl:
    """The keepers of one pool."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self._resolver = Resolver(pool)
        self._keeper = self._make_keeper()

    def _make_keeper(self) -> HealthChecker | PassiveRecovery:
        pool = self.pool
        config = pool.config
        if config.health is not None:
            pool.on_ejected = None
            return HealthChecker(pool, config.health)
        recovery = PassiveRecovery(pool, config.fail_window, config.timeouts.connect)
        pool.on_ejected = recovery.ejected
        return recovery

    async def start(self) -> None:
        """Resolve the pool's names (a few seconds at most), then keep it."""
        self.pool.on_servers_changed = self._sync
        await self._resolver.start()
        self._keeper.start()

    def _sync(self) -> None:
        self._keeper.sync()

    async def follow(self) -> None:
        """The pool has got a new configuration: states are kept, checks begin anew."""
        await self._keeper.stop()
        self._keeper = self._make_keeper()
        self._resolver.sync()
        self._keeper.start()

    async def stop(self) -> None:
        """End every task."""
        self.pool.on_servers_changed = None
        self.pool.on_ejected = None
        await self._keeper.stop()
        await self._resolver.stop()
