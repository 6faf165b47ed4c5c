"""The proxy as clients of HTTP/2 meet it: by prior knowledge, or by ALPN on a TLS listener."""

from __future__ import annotations

import contextlib
from typing import Any

from support.certificates import Certificates
from support.h2_client import H2Client, h2_client
from support.http import Request
from support.proxies import ProxyProcess, Settings
from support.server import Server
from support.stage import Stage
from vsproxy import Proxy

H2C, TLS = "h2c", "tls"


class Front:
    """Starts proxies whose listener speaks HTTP/2 in the way that `kind` says, and clients of them."""

    def __init__(self, stage: Stage, kind: str, certificates: Certificates) -> None:
        self.stage = stage
        self.kind = kind
        self.certificates = certificates

    @property
    def scheme(self) -> str:
        """`http` or `https`."""
        return "http" if self.kind == H2C else "https"

    @property
    def port(self) -> int:
        """The port of the proxy started last."""
        return int(self.stage.address.rpartition(":")[2])

    def listener(self, **options: Any) -> Settings:
        """The keys of the listener, with `options`."""
        if self.kind == H2C:
            return {"h2c": True, **options}
        tls = {"cert": str(self.certificates.cert), "key": str(self.certificates.key)}
        return {**options, "tls": {**tls, **options.get("tls", {})}}

    async def proxy(self, *servers: Server | str | Settings, listener: Settings | None = None, **options: Any) -> Proxy:
        """A proxy in this loop; `options` as for `settings`."""
        return await self.stage.proxy(*servers, listener=self.listener(**(listener or {})), **options)

    async def process(
        self, *servers: Server | str | Settings, listener: Settings | None = None, **options: Any
    ) -> ProxyProcess:
        """The command in processes of its own."""
        return await self.stage.process(*servers, listener=self.listener(**(listener or {})), **options)

    def client(self, **options: Any) -> contextlib.AbstractAsyncContextManager[H2Client]:
        """A client of the proxy started last; `options` as for `h2_client`."""
        tls = self.certificates.client_context() if self.kind == TLS else None
        return h2_client(self.stage.address, tls=tls, **options)


def whole(server: Server) -> list[str]:
    """The targets of the requests that a server has seen to their end; a cut one is no request to it."""
    return [request.target for request in server.requests if request.complete and not request.malformed]


def only(server: Server) -> Request:
    """The one request that a server has seen."""
    (request,) = server.requests
    return request
