"""The servers of a storm: started, killed and started again on the same ports."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from storm.clients import FILES
from storm.content import content
from storm.ledger import ServerKill
from support.nginx import NGINX, Nginx
from support.ports import Ports

TESTS = Path(__file__).parents[1]

NGINX_CONFIG = """
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 512; }}
http {{
    access_log off;
    server {{
        listen 127.0.0.1:{port};
        root {directory};
        add_header X-Server @NAME@;
        limit_rate 2m;
        location /api/health {{ return 200; }}
    }}
}}
"""


class Killable(Protocol):
    """A server that can be killed and started again; `name` is another each time."""

    @property
    def name(self) -> str:
        """What it signs its answers with."""

    async def start(self) -> None:
        """Start it and wait until it accepts."""

    async def kill(self) -> None:
        """SIGKILL, and wait until it is reaped."""


async def kill(server: Killable) -> ServerKill:
    """Kill `server`; when that was."""
    name, began = server.name, time.monotonic()
    await server.kill()
    return ServerKill(name, began, time.monotonic())


@dataclass(frozen=True, slots=True)
class Place:
    """One server's name without its generation, and its two ports."""

    name: str
    port: int
    websocket_port: int


class PythonServers:
    """A process of `storm.server` with one server or several."""

    def __init__(self, places: list[Place], journal: Path) -> None:
        self.places = places
        self.journal = journal
        self.generation = 0
        self._process: asyncio.subprocess.Process | None = None

    @property
    def name(self) -> str:
        """That of its (first) server."""
        return f"{self.places[0].name}.{self.generation}"

    async def start(self) -> None:
        """Start the process and wait until it accepts on all ports."""
        self.generation += 1
        servers = [f"{p.name}.{self.generation}:{p.port}:{p.websocket_port}" for p in self.places]
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "storm.server", str(self.journal), *servers),
            env={**os.environ, "PYTHONPATH": str(TESTS)},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert self._process.stdout
        assert await self._process.stdout.readline() == b"ready\n", f"{self.name} did not start"

    async def kill(self) -> None:
        """SIGKILL, and wait until it is reaped; without effect on one that is gone."""
        if self._process and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


class NginxServer(Nginx):
    """nginx, for files only."""

    def __init__(self, directory: Path, port: int) -> None:
        super().__init__(directory, NGINX_CONFIG, port)
        self.generation = 0
        (directory / "files").mkdir()
        for seed, size in FILES:
            (directory / "files" / f"{seed}-{size}").write_bytes(content(seed, size))

    @property
    def name(self) -> str:
        """What it signs its answers with."""
        return f"nginx.{self.generation}"

    async def start(self) -> None:
        """Start it and wait until it accepts."""
        self.generation += 1
        self.config = NGINX_CONFIG.replace("@NAME@", self.name)
        await super().start()


class Fleet:
    """`killable` servers in processes of their own, and a `crowd` in one process, which is not killed.

    Whoever gives `ports` keeps them: a server that is away for a moment finds its own again.
    """

    def __init__(self, directory: Path, ports: Ports, base: int = 3, crowd: int = 27) -> None:
        self.journal = directory / "journal"
        self.journal.touch()
        names = [f"s{n}" for n in range(1, base + 1)] + [f"x{n}" for n in range(1, crowd + 1)]
        self.places = [Place(name, ports.take(), ports.take()) for name in names]
        self.killable: list[Killable] = [PythonServers([place], self.journal) for place in self.places[:base]]
        self.crowd = PythonServers(self.places[base:], self.journal)
        self.nginx = NginxServer(directory / "nginx", ports.take()) if NGINX else None
        if self.nginx:
            self.killable.append(self.nginx)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """All of them, running; killed at the end."""
        servers = [*self.killable, self.crowd]
        try:
            await asyncio.gather(*(server.start() for server in servers))
            yield
        finally:
            for server in servers:
                await server.kill()

    def received(self) -> list[tuple[str, str]]:
        """(server, exchange) of every request with a body that a server has got."""
        lines = (line.split() for line in self.journal.read_text().splitlines())
        return [(server, exchange) for server, exchange in lines]
