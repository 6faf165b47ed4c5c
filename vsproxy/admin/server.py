"""The admin port: /healthz, /readyz, /metrics and /api/ over HTTP/1.1, read only."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from aiohttp import hdrs, web

from vsproxy.admin.host_guard import is_host_allowed
from vsproxy.admin.readiness import ReadinessSource, not_ready_reasons
from vsproxy.admin.views import PoolView, pool_view, pools_view
from vsproxy.binding import BoundAddress
from vsproxy.metrics import Metrics

SHUTDOWN_TIMEOUT = 1.0
_RESOURCES = {
    "/healthz": "200 while the process lives",
    "/readyz": "200 when traffic should be sent here, else 503 and the reasons",
    "/metrics": "Prometheus text or OpenMetrics",
    "/api/pools": "every pool with its servers",
    "/api/pools/{name}": "one pool",
}

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class AdminSource(ReadinessSource, Protocol):
    """What is administered: a proxy."""

    @property
    def pools(self) -> Mapping[str, PoolView]:
        """By name."""


class AdminServer:
    """Serves the admin resources of `source` on `bound`, in the loop that `start` runs in."""

    def __init__(self, bound: BoundAddress, source: AdminSource, metrics: Metrics) -> None:
        self._bound = bound
        self._source = source
        self._metrics = metrics
        self._runner: web.AppRunner | None = None

    @property
    def address(self) -> str:
        """The bound address, `host:port` or `unix:/path`."""
        return str(self._bound.bind)

    async def start(self) -> None:
        """Serve. Raises OSError if that is not possible; nothing is left open then."""
        runner = web.AppRunner(
            self._application(), handle_signals=False, access_log=None, shutdown_timeout=SHUTDOWN_TIMEOUT
        )
        await runner.setup()
        try:
            for sock in self._bound.sockets:
                await web.SockSite(runner, sock).start()
        except BaseException:
            await runner.cleanup()
            self._bound.give_up()
            raise
        self._runner = runner

    async def stop(self) -> None:
        """Stop serving; requests in progress get `SHUTDOWN_TIMEOUT`. No effect when not started."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()
            self._bound.give_up()

    def _application(self) -> web.Application:
        app = web.Application(middlewares=[self._guard])
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics_text)
        app.router.add_get("/api/", self._resources)
        app.router.add_get("/api/pools", self._pools)
        app.router.add_get("/api/pools/{name}", self._pool)
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Refuse foreign Host fields, and give the refusals of the router a body in JSON."""
        # Not request.host: without the field that asks DNS for our name, and blocks.
        if not is_host_allowed(request.headers.get(hdrs.HOST), self._bound.bind):
            return web.json_response({"error": "this Host is not served on a loopback address"}, status=403)
        try:
            return await handler(request)
        except web.HTTPException as refusal:
            response = web.json_response({"error": refusal.reason}, status=refusal.status)
            if hdrs.ALLOW in refusal.headers:
                response.headers[hdrs.ALLOW] = refusal.headers[hdrs.ALLOW]
            return response

    async def _healthz(self, request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, request: web.Request) -> web.Response:
        reasons = not_ready_reasons(self._source)
        return web.json_response({"ready": not reasons, "reasons": reasons}, status=503 if reasons else 200)

    async def _metrics_text(self, request: web.Request) -> web.Response:
        # In a thread: with a thousand servers the text takes longer than traffic should wait.
        accept = ",".join(request.headers.getall(hdrs.ACCEPT, ()))
        body, content_type = await asyncio.to_thread(self._metrics.render, accept)
        return web.Response(body=body, headers={hdrs.CONTENT_TYPE: content_type})

    async def _resources(self, request: web.Request) -> web.Response:
        return web.json_response({"resources": _RESOURCES})

    async def _pools(self, request: web.Request) -> web.Response:
        return web.json_response(pools_view(self._source.pools))

    async def _pool(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        pool = self._source.pools.get(name)
        if pool is None:
            return web.json_response({"error": f"no pool is named {name}"}, status=404)
        return web.json_response(pool_view(pool))
