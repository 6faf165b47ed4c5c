"""What one test is played on: its servers, its proxy and its clients, cleared away at the end."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from support.client import Client, connect
from support.http import Response
from support.ports import Ports
from support.proxies import ProxyProcess, Settings, in_process, in_subprocess, settings
from support.server import Script, Server, blackhole, ok, refused
from vsproxy import Proxy


class Stage:
    """Starts things and remembers them. `get`, `post` and `connect` go to the proxy started last."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.address = ""
        self.servers: list[Server] = []
        self._ports = Ports()
        self._stack = contextlib.AsyncExitStack()
        self._stack.enter_context(self._ports)

    async def server(self, script: Script = ok, **options: Any) -> Server:
        """A scripted server, listening; its port is its own while it is stopped too."""
        options.setdefault("name", f"server{len(self.servers) + 1}")
        server = Server(script, port=self._ports.take(), **options)
        await server.start()
        self._stack.push_async_callback(server.stop)
        self.servers.append(server)
        return server

    def blackhole(self) -> str:
        """An address that never answers a SYN."""
        return self._stack.enter_context(blackhole())

    def refused(self) -> str:
        """An address that refuses connections."""
        return self._stack.enter_context(refused())

    def free_address(self) -> str:
        """An address that a listener may have at any time of this test, and that nobody else gets by chance."""
        return f"127.0.0.1:{self._ports.take()}"

    async def proxy(self, *servers: Server | str | Settings, **options: Any) -> Proxy:
        """A proxy in this loop, in front of `servers`; `options` as for `settings`."""
        proxy = await self._stack.enter_async_context(in_process(settings(*servers, **options)))
        self.address = proxy.addresses[0]
        return proxy

    async def process(
        self, *servers: Server | str | Settings, descriptors: int | None = None, **options: Any
    ) -> ProxyProcess:
        """The command in processes of its own, in front of `servers`."""
        return await self.run(settings(*servers, **options), descriptors)

    async def run(self, config: Settings, descriptors: int | None = None) -> ProxyProcess:
        """The command in processes of its own, with this configuration."""
        running = await self._stack.enter_async_context(
            in_subprocess(config, self.directory, descriptors=descriptors)
        )
        self.address = running.address
        return running

    async def connect(self, *, receive_buffer: int | None = None) -> Client:
        """A client connected to the proxy."""
        client = await connect(self.address, receive_buffer=receive_buffer)
        self._stack.callback(client.close)
        return client

    async def get(self, target: str = "/", **options: Any) -> Response:
        """One GET on a connection of its own, closed after."""
        return await self.ask("GET", target, **options)

    async def post(self, target: str = "/", body: bytes = b"payload", **options: Any) -> Response:
        """One POST on a connection of its own, closed after."""
        return await self.ask("POST", target, body=body, **options)

    async def ask(self, method: str, target: str = "/", **options: Any) -> Response:
        """One request on a connection of its own, closed after."""
        async with await connect(self.address) as client:
            return await client.request(method, target, **options)

    async def clear(self) -> None:
        """Stop everything, and fail if a server saw something that is not HTTP."""
        await self._stack.aclose()
        failures: Iterable[BaseException] = [f for server in self.servers for f in server.failures]
        for failure in failures:
            raise AssertionError("a server's script failed") from failure
