"""The clients of a storm: how many of each kind, and at which listener."""

from __future__ import annotations

import ssl
from typing import Protocol

from storm import clients
from storm.clients import Client, MakeRequest
from storm.curl_clients import CurlClient
from storm.http_client import Listener
from storm.plan import Layout
from storm.scene import Scene
from storm.websockets_clients import WebSocketClient
from support.certificates import Certificates

#: How many WebSockets are kept open all the time, at each listener.
KEPT = 4


class Runs(Protocol):
    """A client; `kind` is what its answers are counted by."""

    kind: str

    async def run(self) -> None:
        """Until the storm stops."""


class Load:
    """The three listeners of `layout` as clients see them, and the clients."""

    def __init__(self, scene: Scene, layout: Layout) -> None:
        self.scene = scene
        self.main = Listener("main", layout.main)
        self.second = Listener("second", layout.second)
        self.tls = Listener("tls", layout.tls, trusting(layout.certificates))
        self.listeners = [self.main, self.second, self.tls]
        for listener in self.listeners:
            listener.serving.set()

    def clients(self) -> list[Runs]:
        """About 50 of them, with some 250 requests a second in all."""
        return [*self.requests(), *self.transfers(), *self.websockets()]

    def requests(self) -> list[Runs]:
        """Small ones, most on keepalive connections."""
        return [
            *self._some(8, "GET", self.main, clients.small, 0.08),
            *self._some(4, "GET", self.tls, clients.small, 0.15),
            *self._some(4, "GET", self.second, clients.small, 0.15),
            *self._some(6, "GET once", self.main, clients.single, 0.15),
            *self._some(6, "POST", self.main, clients.echo, 0.15),
            *self._some(2, "POST", self.tls, clients.echo, 0.3),
            *self._some(2, "POST", self.second, clients.echo, 0.3),
            CurlClient("curl", self.scene, self.main, 0.5),
        ]

    def transfers(self) -> list[Runs]:
        """Uploads and downloads that take a second or two."""
        return [
            *self._some(2, "upload", self.main, clients.upload, 0.2),
            *self._some(1, "upload", self.tls, clients.upload, 0.2),
            *self._some(3, "download", self.main, clients.download, 0.2),
            *self._some(1, "download", self.second, clients.download, 0.2),
        ]

    def websockets(self) -> list[Runs]:
        """Some that stay open all the time, and some that are closed and opened again."""
        return [
            *(WebSocketClient("WebSocket short", self.scene, self.main, lasts=8) for _ in range(4)),
            *(
                WebSocketClient(f"WebSocket {listener.name}", self.scene, listener)
                for listener in self.listeners
                for _ in range(KEPT)
            ),
        ]

    def kept_open(self) -> int:
        """How many of the WebSockets that are kept open are open now."""
        return sum(self.scene.ledger.websockets_open[f"WebSocket {one.name}"] for one in self.listeners)

    def _some(
        self, count: int, what: str, listener: Listener, make: MakeRequest, pause: float
    ) -> list[Client]:
        kind = f"{what} {listener.name}"
        return [Client(kind, self.scene, listener, make, pause) for _ in range(count)]


def trusting(certificates: tuple[Certificates, Certificates]) -> ssl.SSLContext:
    """A client's context that trusts the makers of both."""
    context = certificates[0].client_context()
    context.load_verify_locations(cafile=str(certificates[1].ca))
    return context
