"""What keeps a pool's states true: name resolution, active checks, passive ejection and the way back from it.

One control process does this for all workers; an embedded `Proxy` does it in its own loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence

from vsproxy.background import Background
from vsproxy.config.model import Config, PoolConfig
from vsproxy.upstream.endpoint import Endpoint
from vsproxy.upstream.health import HealthChecker
from vsproxy.upstream.lookup import Lookup
from vsproxy.upstream.passive import PassiveJudge
from vsproxy.upstream.pool import Pool
from vsproxy.upstream.recovery import PassiveRecovery
from vsproxy.upstream.resolve import Resolver
from vsproxy.upstream.server import Server
from vsproxy.upstream.tls import ClientTls

logger = logging.getLogger("vsproxy.pool")


class PoolControl:
    """The keepers of one pool. `lookup` is shared by all pools and belongs to whoever made it."""

    def __init__(self, pool: Pool, lookup: Lookup) -> None:
        self.pool = pool
        self.resolver = Resolver(pool, lookup)
        self._keeper = self._make_keeper()
        # Keepers that were told to end.
        self._ending = Background()
        self._judge = PassiveJudge(pool, self._ejected)
        pool.judge = self._judge.note
        pool.on_servers_changed = self._sync

    def _make_keeper(self) -> HealthChecker | PassiveRecovery:
        pool = self.pool
        config = pool.config
        introduces = config.proxy_protocol or ""
        if config.health is not None:
            return HealthChecker(pool, config.health, introduces)
        return PassiveRecovery(pool, config.fail_window, config.timeouts.connect, introduces)

    def _ejected(self, server: Server) -> None:
        if isinstance(self._keeper, PassiveRecovery):
            self._keeper.ejected(server)

    def _sync(self) -> None:
        self._judge.sync()
        self._keeper.sync()

    async def start(self, remembered: Mapping[str, Sequence[Endpoint]] | None = None) -> None:
        """Resolve the pool's names (a few seconds at most), then keep it.

        `remembered` is what names stood for when somebody looked last: they stay in use until there is news.
        """
        self._warn()
        self.pool.populate()
        for name, endpoints in (remembered or {}).items():
            self.resolver.remember(name, endpoints)
        await self.resolver.start()
        self._keeper.start()

    async def prepare(self, config: PoolConfig) -> None:
        """Resolve what is new in `config`, so that `follow` finds it done; changes nothing."""
        await self.resolver.prefetch(config.servers)

    def follow(self, config: PoolConfig, tls: ClientTls | None) -> None:
        """Give the pool its new configuration: states are kept, and checks go on where theirs is the same."""
        old = self.pool.config
        self.pool.use_tls(tls)
        if config == old:
            return
        with self.pool.at_once():
            self.pool.update(config)
            self.resolver.sync()
        if config.tls != old.tls:
            self._warn()
        if _checks_of(config) != _checks_of(old):
            self._end(self._keeper)
            self._keeper = self._make_keeper()
            self._keeper.start()

    def _warn(self) -> None:
        tls = self.pool.config.tls
        if tls is not None and not tls.verify:
            logger.warning(
                "pool %s: nobody looks whose certificates its servers show (tls.verify = false)", self.pool.name
            )

    def _end(self, keeper: HealthChecker | PassiveRecovery) -> None:
        self._ending.run(keeper.stop(), f"end checks of {self.pool.name}")

    async def stop(self) -> None:
        """End every task."""
        self.pool.on_servers_changed = None
        self.pool.judge = None
        await asyncio.gather(self._keeper.stop(), self.resolver.stop(), self._ending.ended())

    async def end(self) -> None:
        """`stop`, and let go of the pool, which is in no configuration any more."""
        await self.stop()
        self.pool.retire()


def follow_all(
    controls: Mapping[str, PoolControl], old: Config, new: Config, tls: Mapping[str, ClientTls]
) -> None:
    """Give the pools what `new` says of them, with the `tls` that was loaded for it.

    Where it names other nameservers, these are asked at once.
    """
    for name, control in controls.items():
        control.follow(new.pools[name], tls.get(name))
        if new.resolver != old.resolver:
            control.resolver.look_again()


def _checks_of(config: PoolConfig) -> tuple[object, ...]:
    """The part of a pool's configuration that its keeper is made of."""
    return config.health, config.fail_window, config.timeouts.connect, config.proxy_protocol
