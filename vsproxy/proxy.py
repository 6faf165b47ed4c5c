"""A whole load balancer in one event loop, built from a `Config`: what an embedder gets."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from typing import Self

from vsproxy.admin.server import AdminServer
from vsproxy.background import Background
from vsproxy.binding import ADMIN_BACKLOG, BoundAddress, ListenerKey, listener_keys, open_address
from vsproxy.certificate_files import ChangeCounts
from vsproxy.certificate_watch import CertificateWatch
from vsproxy.config.model import Config
from vsproxy.control import PoolControl, follow_all
from vsproxy.errors import VsproxyError
from vsproxy.listener import Listener
from vsproxy.metrics import Metrics
from vsproxy.metrics.sources import ProcessSource, ReloadSource
from vsproxy.tls_clients import read_all
from vsproxy.tls_pair import Pairs
from vsproxy.traffic import Change, LogCounts, Traffic
from vsproxy.upstream.names import Names
from vsproxy.upstream.pool import Pool


class Proxy:
    """A load balancer inside the running event loop, uvloop's or the standard one.

    `async with Proxy(config) as proxy` starts it and, at the end, stops accepting, finishes what is in
    flight within `shutdown_timeout` and closes. No signal handler is installed, logging is left as it is;
    `workers`, `log.level` and `log.path` are ignored; the admin port opens only if the configuration has
    `[admin]`.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.pools: dict[str, Pool] = {}
        self.ready = False
        self._controls: dict[str, PoolControl] = {}
        self._traffic: Traffic | None = None
        self._names: Names | None = None
        self._admin: AdminServer | None = None
        # Changes come one after the other.
        self._changing = asyncio.Lock()
        self._closing: asyncio.Task[None] | None = None
        self._background = Background()
        self._watch = CertificateWatch(self._renew)
        self._reloads_ok = 0
        self._reloads_refused = 0
        self._last_reload_ok = True
        self._last_reload = time.time()

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    @property
    def listeners(self) -> Sequence[Listener]:
        """The listeners in the order of the configuration."""
        return self._traffic.listeners if self._traffic is not None else ()

    @property
    def addresses(self) -> list[str]:
        """The bound addresses in the order of the listeners: `host:port`, `[v6]:port` or `unix:/path`."""
        return [listener.address for listener in self.listeners]

    @property
    def admin_address(self) -> str | None:
        """The bound address of the admin port, None without one."""
        return self._admin.address if self._admin is not None else None

    @property
    def certificates(self) -> Mapping[str, ChangeCounts]:
        """What became of new certificates, by the file that they were found in."""
        return self._watch.counts

    @property
    def access_log(self) -> LogCounts:
        """Lines of the access log since the start, written and lost."""
        return self._traffic.log_lines if self._traffic is not None else LogCounts()

    @property
    def processes(self) -> list[ProcessSource]:
        """The one that we are in."""
        return [ProcessSource("proxy", os.getpid())]

    @property
    def reloads(self) -> ReloadSource:
        """How `reload` went."""
        return ReloadSource(self._reloads_ok, self._reloads_refused, self._last_reload_ok, self._last_reload)

    @property
    def draining(self) -> bool:
        """Whether it is stopping."""
        return self._closing is not None

    async def start(self) -> None:
        """Bind, check names, begin to check servers, accept.

        Raises `VsproxyError` or `OSError` if an address, a certificate or a log cannot be opened; call
        `close` then.
        """
        async with self._changing:
            self._traffic = Traffic()
            self._names = Names(self.config.resolver)
            await self._switch(self.config)
            self._watch.start()
            self.ready = True

    async def reload(self, config: Config) -> None:
        """Switch to `config`; connections, and the states and counters of servers that stay, are kept.

        Exchanges in flight end with the route and pool they began with; connections of a listener that has
        changed or gone end after their next answer. Raises `VsproxyError` or `OSError`, and changes nothing,
        if an address, a certificate or a log cannot be opened, and if the proxy is not running. One that is
        cancelled has changed nothing either. Reloads that are asked for at once come one after the other.
        """
        async with self._changing:
            if self._traffic is None or self._closing is not None:
                raise VsproxyError("a proxy that is not running cannot reload")
            done = False
            try:
                await self._switch(config)
                done = True
                # What is no more wanted has ended when we return, unless we are told not to wait for it.
                await asyncio.shield(self._background.ended())
            finally:
                self._last_reload_ok, self._last_reload = done, time.time()
                self._reloads_ok += done
                self._reloads_refused += not done

    async def _switch(self, config: Config) -> None:
        traffic = self._traffic
        assert traffic is not None
        bound: dict[ListenerKey, BoundAddress] = {}
        change: Change | None = None
        admin: AdminServer | None = None
        fresh: dict[str, PoolControl] = {}
        try:
            for key, listener in zip(listener_keys(config), config.listeners, strict=True):
                if traffic.listener(key) is None:
                    bound[key] = open_address(listener.bind, listener.backlog)
            pairs = read_all(config)
            change = traffic.prepare(config, bound, pairs)
            admin = await self._open_admin(config)
            await self._prepare_pools(change, traffic, fresh)
            if self._closing is not None:
                raise VsproxyError("the proxy was closed meanwhile")
        except BaseException:
            await self._undo(traffic, bound, change, admin, fresh)
            raise
        self._commit(traffic, change, fresh, admin)
        self._watch.follow(pairs)

    def _commit(
        self, traffic: Traffic, change: Change, fresh: dict[str, PoolControl], admin: AdminServer | None
    ) -> None:
        """All of it in one step; what is no more wanted ends in the background."""
        config = change.config
        controls = self._controls | fresh
        self._controls = {name: controls[name] for name in config.pools}
        follow_all(self._controls, self.config, config, change.pool_tls)
        self.pools = {name: control.pool for name, control in self._controls.items()}
        traffic.commit(change, self.pools)
        self.config = config
        for name, control in controls.items():
            if name not in config.pools:
                control.pool.retire()
                self._background.run(control.stop())
        old_admin, self._admin = self._admin, admin
        if old_admin is not None and old_admin is not admin:
            self._background.run(old_admin.stop())

    async def _prepare_pools(self, change: Change, traffic: Traffic, fresh: dict[str, PoolControl]) -> None:
        assert self._names is not None
        config = change.config
        # What is new is asked of the new nameservers.
        self._names.configure(config.resolver)
        waits = []
        for name, pool_config in config.pools.items():
            control = self._controls.get(name)
            if control is None:
                control = fresh[name] = PoolControl(
                    Pool(name, pool_config, traffic.sweep, change.pool_tls.get(name)), self._names.look_up
                )
                waits.append(control.start())
            else:
                waits.append(control.prepare(pool_config))
        await asyncio.gather(*waits)

    async def _open_admin(self, config: Config) -> AdminServer | None:
        if config.admin is None:
            return None
        if self._admin is not None and self.config.admin == config.admin:
            return self._admin
        bound = open_address(config.admin.bind, ADMIN_BACKLOG)
        admin = AdminServer(bound, self, Metrics(self))
        await admin.start()
        return admin

    async def _undo(
        self,
        traffic: Traffic,
        bound: dict[ListenerKey, BoundAddress],
        change: Change | None,
        admin: AdminServer | None,
        fresh: dict[str, PoolControl],
    ) -> None:
        """Close what was made for a configuration that is not to be."""
        if self._names is not None:
            self._names.configure(self.config.resolver)
        if change is not None:
            traffic.cancel(change)
        for address in bound.values():
            address.give_up()
        if admin is not None and admin is not self._admin:
            await admin.stop()
        for control in fresh.values():
            await control.end()

    def _renew(self, pairs: Pairs) -> None:
        """Use new certificates; if something is short, they are found again."""
        if self._traffic is not None:
            self._traffic.renew(pairs)
            self._watch.renewed(pairs)

    def reopen_logs(self) -> None:
        """Open the access log's file again, after it was renamed."""
        if self._traffic is not None:
            self._traffic.reopen_logs()

    async def close(self) -> None:
        """Stop accepting, finish what is in flight within `shutdown_timeout`, close everything.

        Goes on to the end also if whoever waits for it is cancelled; a second call waits for the same end.
        """
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        await self._watch.stop()
        # A change that is being prepared finds that we close, and is not committed.
        if self._traffic is not None:
            await self._traffic.close(self.config.proxy.shutdown_timeout)
        async with self._changing:
            for control in self._controls.values():
                await control.end()
            if self._names is not None:
                await self._names.close()
            if self._admin is not None:
                await self._admin.stop()
            await self._background.ended()
