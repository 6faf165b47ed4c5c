"""One serving process, built from a `Config`: the room that knows every part, and what an embedder gets."""

from __future__ import annotations

import asyncio
from typing import Self

from vsproxy.access_log import AccessLog
from vsproxy.admin.server import AdminServer
from vsproxy.config.model import Config, ListenerConfig
from vsproxy.control import PoolControl
from vsproxy.descriptors import Descriptors, current_limit
from vsproxy.downstream.http1 import DownstreamConnection
from vsproxy.downstream.serving import ListenerSettings, Serving
from vsproxy.errors import VsproxyError
from vsproxy.listener import Listener, ListenerStats
from vsproxy.metrics import Metrics
from vsproxy.routing import Route, Router
from vsproxy.timers import Sweep
from vsproxy.upstream.pool import Pool
from vsproxy.upstream.server import Server

#: Seconds between the end of `shutdown_timeout` and the reset of what is still there.
LAST_WORDS = 1.0


class Proxy:
    """A load balancer inside the running event loop, uvloop's or the standard one.

    `async with Proxy(config) as proxy` starts it and, at the end, stops accepting, finishes what is in
    flight within `shutdown_timeout` and closes. No signal handler is installed; `workers` is ignored; the
    admin port opens only if the configuration has `[admin]`.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.pools: dict[str, Pool] = {}
        self.listeners: list[Listener] = []
        self.access_log: AccessLog | None = None
        self.ready = False
        self.draining = False
        self._controls: dict[str, PoolControl] = {}
        self._sweep: Sweep | None = None
        self._serving: Serving | None = None
        self._admin: AdminServer | None = None
        self._closed = False

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
    def addresses(self) -> list[str]:
        """The bound addresses in the order of the listeners: `host:port`, `[v6]:port` or `unix:/path`."""
        return [listener.address for listener in self.listeners]

    @property
    def admin_address(self) -> str | None:
        """The bound address of the admin port, None without one."""
        return self._admin.address if self._admin is not None else None

    async def start(self) -> None:
        """Bind, check names, begin to check servers, accept.

        Raises `VsproxyError` or `OSError` if an address, a certificate or a log cannot be opened; call
        `close` then.
        """
        loop = asyncio.get_running_loop()
        config = self.config
        self._sweep = Sweep(loop)
        self._sweep.start()
        if config.log.access != "off":
            self.access_log = AccessLog(config.log.access, config.log.access_path)
            self.access_log.start()
        for name, pool_config in config.pools.items():
            self._add_pool(Pool(name, pool_config, self._sweep))
        self._serving = Serving(self._sweep, self._make_router(config), self.access_log)
        budget = Descriptors(current_limit())
        for listener_config in config.listeners:
            self._bind(listener_config, loop, budget)
        await asyncio.gather(*(control.start() for control in self._controls.values()))
        if config.admin is not None:
            self._admin = AdminServer(config.admin.bind, self, Metrics(self))
            await self._admin.start()
        for listener in self.listeners:
            listener.start()
        self.ready = True

    def _bind(self, config: ListenerConfig, loop: asyncio.AbstractEventLoop, budget: Descriptors) -> None:
        serving = self._serving
        assert serving is not None

        def make_protocol(stats: ListenerStats) -> asyncio.Protocol:
            # A compiled class has no base class; the loop calls the protocol's methods by name.
            return DownstreamConnection(serving, settings, stats)  # type: ignore[return-value]

        listener = Listener(config, loop, make_protocol, budget)
        listener.bind()
        settings = ListenerSettings(config, listener.address)
        self.listeners.append(listener)

    def _add_pool(self, pool: Pool) -> None:
        pool.on_down = self._move_on
        self.pools[pool.name] = pool
        self._controls[pool.name] = PoolControl(pool)

    def _make_router(self, config: Config) -> Router:
        return Router(Route(route, self.pools[route.pool]) for route in config.routes)

    def _move_on(self, server: Server) -> None:
        """A server is down: whoever waits for it goes to another. Rare, so a walk over all will do."""
        assert self._serving is not None
        for connection in list(self._serving.connections):
            if connection.exchange is not None:
                connection.exchange.on_server_down(server)

    async def reload(self, config: Config) -> None:
        """Swap routes and pools; connections, and the states and counters of servers that stay, are kept.

        Exchanges in flight end with the route and pool they began with. Raises `VsproxyError`, and
        changes nothing, if listeners, admin or log differ: these need a restart.
        """
        old = self.config
        for section in ("listeners", "admin", "log"):
            if getattr(config, section) != getattr(old, section):
                raise VsproxyError(f"[{section}] has changed: that needs a restart")
        assert self._sweep is not None
        assert self._serving is not None
        for name, pool_config in config.pools.items():
            if name in self.pools:
                self.pools[name].update(pool_config)
                await self._controls[name].follow()
            else:
                self._add_pool(Pool(name, pool_config, self._sweep))
                await self._controls[name].start()
        self._serving.router = self._make_router(config)
        self.config = config
        for name in [name for name in self.pools if name not in config.pools]:
            await self._controls.pop(name).stop()
            self.pools.pop(name).retire()

    def reopen_logs(self) -> None:
        """Open the access log's file again, after it was renamed."""
        if self.access_log is not None:
            self.access_log.reopen()

    async def close(self) -> None:
        """Stop accepting, finish what is in flight within `shutdown_timeout`, close everything."""
        if self._closed:
            return
        self._closed = True
        self.draining = True
        for listener in self.listeners:
            listener.stop_accepting()
        await asyncio.gather(*(listener.settle() for listener in self.listeners))
        if self._serving is not None:
            await self._drain(self._serving)
        for control in self._controls.values():
            await control.stop()
        for pool in self.pools.values():
            pool.retire()
        if self._admin is not None:
            await self._admin.stop()
        if self._sweep is not None:
            self._sweep.stop()
        if self.access_log is not None:
            await asyncio.to_thread(self.access_log.close)

    async def _drain(self, serving: Serving) -> None:
        serving.draining = True
        for connection in list(serving.connections):
            connection.drain()
        try:
            async with asyncio.timeout(self.config.proxy.shutdown_timeout):
                await serving.vacant.wait()
            return
        except TimeoutError:
            pass
        # Tunnels are told by a close of their streams; everything else had its time.
        for listener in self.listeners:
            await listener.abort_pending()
        for connection in list(serving.connections):
            connection.give_notice()
        try:
            async with asyncio.timeout(LAST_WORDS):
                await serving.vacant.wait()
        except TimeoutError:
            for connection in list(serving.connections):
                connection.cut()
            await asyncio.sleep(0)
