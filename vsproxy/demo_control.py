"""What a person can do to the demo's servers: kill and revive them, by HTTP or with a key."""

from __future__ import annotations

import asyncio
import os
import sys
import termios
import tty
from collections.abc import Callable, Sequence
from typing import Any

from aiohttp import web

from vsproxy.background import Background
from vsproxy.demo_server import HOST, ServerProcess


class Control:
    """The demo's control port: `POST /demo/kill/NAME` and `/demo/revive/NAME`; anything else lists them.

    `on_event` is told in words what was done.
    """

    def __init__(self, servers: Sequence[ServerProcess], on_event: Callable[[str], None]) -> None:
        self._servers = {server.name: server for server in servers}
        self._on_event = on_event
        self._background = Background()
        app = web.Application()
        app.router.add_post("/demo/{action:kill|revive}/{name}", self._act)
        app.router.add_route("*", "/{rest:.*}", self._list)
        self._runner = web.AppRunner(app, shutdown_timeout=0)

    async def start(self) -> str:
        """Listen on a free port of loopback; returns `host:port`."""
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, 0).start()
        return f"{HOST}:{self._runner.addresses[0][1]}"

    async def close(self) -> None:
        """Stop listening and wait for what was begun."""
        await self._runner.cleanup()
        await self._background.ended()

    async def kill(self, server: ServerProcess) -> None:
        """Kill it as the power cord would."""
        self._on_event(f"killing {server.name} (process {server.pid})")
        await server.kill()

    async def revive(self, server: ServerProcess) -> None:
        """Start it again on its old port."""
        await server.start()
        self._on_event(f"{server.name} runs again (process {server.pid})")

    def toggle(self, index: int) -> None:
        """Kill the server of that index if it runs, revive it otherwise; no effect beyond the last."""
        servers = list(self._servers.values())
        if index < len(servers):
            server = servers[index]
            self._background.run(self.kill(server) if server.is_running else self.revive(server))

    async def _act(self, request: web.Request) -> web.Response:
        server = self._servers.get(request.match_info["name"])
        if server is None:
            return web.Response(status=404, text=f"no such server; there are {', '.join(self._servers)}\n")
        await (self.kill(server) if request.match_info["action"] == "kill" else self.revive(server))
        return web.Response(text=self._listing())

    async def _list(self, request: web.Request) -> web.Response:
        return web.Response(text=self._listing())

    def _listing(self) -> str:
        return "".join(
            f"{server.name} {server.address} {f'process {server.pid}' if server.is_running else 'dead'}\n"
            for server in self._servers.values()
        )


class Keys:
    """Single keys from the terminal while in use: `on_key` gets each, without Enter."""

    def __init__(self, on_key: Callable[[str], None]) -> None:
        self._on_key = on_key
        self._before: list[Any] | None = None

    def start(self) -> None:
        """Read from standard input, which has to be a terminal."""
        descriptor = sys.stdin.fileno()
        self._before = termios.tcgetattr(descriptor)
        tty.setcbreak(descriptor)
        asyncio.get_running_loop().add_reader(descriptor, self._read)

    def close(self) -> None:
        """Give the terminal back as it was."""
        if self._before is not None:
            descriptor = sys.stdin.fileno()
            asyncio.get_running_loop().remove_reader(descriptor)
            termios.tcsetattr(descriptor, termios.TCSADRAIN, self._before)
            self._before = None

    def _read(self) -> None:
        pressed = os.read(sys.stdin.fileno(), 64)
        if not pressed:
            self.close()
        for key in pressed.decode("latin-1"):
            self._on_key(key)
