"""The embedded demo: three small servers, one of them a backup, the proxy in front, and some load."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import aiohttp
import uvloop
from rich.console import Console

from vsproxy.config.model import Config
from vsproxy.demo_control import Control, Keys
from vsproxy.demo_server import HOST, ServerProcess
from vsproxy.demo_view import LiveView, Meter, PlainView, View
from vsproxy.proxy import Proxy

POOL = "demo"
_PORTS_TRIED = 100
_REFRESH = 0.25
# Enough clients, and answers slow enough, that each server always has something active.
_CLIENTS = 12
_SLOWEST_ANSWER = 0.3
_LONGEST_PAUSE = 0.2


def run_demo(port: int = 8080, duration: float | None = None, plain: bool = False) -> int:
    """Run the demo until Ctrl-C, or for `duration` seconds; returns the exit status, 0.

    Takes the next free port if `port` is taken (0: any). `plain` prints lines instead of a live table, as is
    done anyway when stdout is not a terminal. Raises OSError when no port is free.
    """
    console = Console()
    view: View = LiveView(console) if console.is_terminal and not plain else PlainView(console)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_Demo(console, view).run(port, duration))
    return 0


def free_port(port: int) -> int:
    """`port`, or the first one after it on which nobody listens. Raises OSError after 100 tries."""
    for candidate in range(port, min(port + _PORTS_TRIED, 65536)):
        with socket.socket() as probe:
            # As the listener will: a connection in TIME_WAIT is nobody who listens.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, candidate))
                probe.listen()
            except OSError:
                continue
            return candidate
    raise OSError(f"no free port from {port} on")


def make_config(servers: list[ServerProcess], port: int, access_path: str) -> Config:
    """The demo's configuration, in the shape of an `lb.toml`."""
    return Config.model_validate(
        {
            "log": {"access": "json", "access_path": access_path},
            "admin": {"bind": f"{HOST}:0"},
            "listeners": [{"bind": f"{HOST}:{port}"}],
            "routes": [
                {"path": "/api/ws", "pool": POOL, "tunnel_timeout": "1h"},
                {"path": "/", "pool": POOL},
            ],
            "pools": {
                POOL: {
                    "balance": "least_conn",
                    "servers": [{"address": server.address, "backup": server.backup} for server in servers],
                    "health": {"path": "/api/health", "inter": "1s", "fall": 3, "rise": 2},
                }
            },
        }
    )


def what_to_try(proxy: str, admin: str | None, control: str) -> str:
    """The commands to print, for the bound addresses."""
    commands = (
        (f"curl http://{proxy}/", "who answers, and what it saw"),
        (f"curl 'http://{proxy}/slow?seconds=5'", "an exchange that stays active"),
        (f"head -c 1G /dev/zero | curl -T - http://{proxy}/upload", "an upload, streamed"),
        (f"{_python()} -m websockets ws://{proxy}/api/ws", "a WebSocket that echoes"),
        (f"curl -X POST http://{control}/demo/kill/server-1", "SIGKILL; no client sees an error"),
        (f"curl -X POST http://{control}/demo/revive/server-1", "back after two good checks"),
        (f"curl http://{admin}/api/pools", "states and counters; also /metrics"),
    )
    width = max(len(command) for command, _ in commands)
    listed = "\n".join(f"  {command:{width}}  {what}" for command, what in commands)
    return (
        f"vsproxy serves http://{proxy} from three servers; server-3 is the backup. Try, in another terminal:\n\n"
        f"{listed}\n\n"
        "Kill server-1 and server-2, and the backup takes over. Ctrl-C ends the demo.\n"
    )


def _python() -> str:
    """This interpreter, as it is written from the current folder."""
    path, here = Path(sys.executable), Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


class Load:
    """A few clients that never stop asking; `answered` and `failed` count."""

    def __init__(self, base: str) -> None:
        self._base = base
        self._tasks: list[asyncio.Task[None]] = []
        self.answered = 0
        self.failed = 0

    def start(self) -> None:
        """Start the clients."""
        self._tasks = [asyncio.ensure_future(self._client()) for _ in range(_CLIENTS)]

    async def close(self) -> None:
        """Stop all clients."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _client(self) -> None:
        chance = random.Random()  # noqa: S311 - no secret
        async with aiohttp.ClientSession(self._base) as session:
            while True:
                await self._ask(session, f"/slow?seconds={chance.uniform(0, _SLOWEST_ANSWER):.3f}")
                await asyncio.sleep(chance.uniform(0, _LONGEST_PAUSE))

    async def _ask(self, session: aiohttp.ClientSession, target: str) -> None:
        try:
            async with session.get(target) as response:
                await response.read()
        except aiohttp.ClientError:
            self.failed += 1
            return
        if response.status == 200:
            self.answered += 1
        else:
            self.failed += 1


class _EventLog(logging.Handler):
    """Messages of the proxy, to `show`."""

    def __init__(self, show: Callable[[str], None]) -> None:
        super().__init__(logging.INFO)
        self._show = show

    def emit(self, record: logging.LogRecord) -> None:
        self._show(record.getMessage())


class _AccessReader(asyncio.Protocol):
    """The access log's lines, to `show`."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show = show
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._show(line.decode())


class _Demo:
    """The parts, started in order and ended in the reverse."""

    def __init__(self, console: Console, view: View) -> None:
        self._console = console
        self._view = view
        self._servers = [
            ServerProcess("server-1"),
            ServerProcess("server-2"),
            ServerProcess("server-3", True),
        ]
        self._stop = asyncio.Event()

    async def run(self, port: int, duration: float | None) -> None:
        """Run it all until told to stop, or for `duration` seconds."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop.set)
        folder = tempfile.mkdtemp(prefix="vsproxy-demo-")
        logger = logging.getLogger("vsproxy")
        events = _EventLog(lambda line: self._view.log(self._with_names(line)))
        logger.addHandler(events)
        logger.setLevel(logging.INFO)
        try:
            await asyncio.gather(*(server.start() for server in self._servers))
            await self._serve(port, duration, os.path.join(folder, "access"))
        finally:
            logger.removeHandler(events)
            await asyncio.gather(*(server.kill() for server in self._servers))
            shutil.rmtree(folder)

    async def _serve(self, wanted: int, duration: float | None, access_path: str) -> None:
        port = free_port(wanted) if wanted else 0
        if port != wanted:
            self._console.out(f"Port {wanted} is taken: using {port}.", highlight=False)
        # A pipe with a name: the proxy logs as to a file, and nothing grows.
        os.mkfifo(access_path)
        source = os.fdopen(os.open(access_path, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(lambda: _AccessReader(self._on_access), source)
        try:
            async with Proxy(make_config(self._servers, port, access_path)) as proxy:
                if duration is not None:
                    loop.call_later(duration, self._stop.set)
                await self._watch(proxy)
        finally:
            transport.close()

    async def _watch(self, proxy: Proxy) -> None:
        control = Control(self._servers, self._view.log)
        load = Load(f"http://{proxy.addresses[0]}")
        address = await control.start()
        self._console.out(what_to_try(proxy.addresses[0], proxy.admin_address, address), highlight=False)
        load.start()
        keys = Keys(lambda key: self._on_key(key, control))
        self._view.start()
        try:
            if isinstance(self._view, LiveView) and sys.stdin.isatty():
                self._view.log("keys: 1, 2, 3 kill and revive that server, q ends the demo")
                keys.start()
            await self._show(proxy, load)
        finally:
            keys.close()
            self._view.close()
            await load.close()
            await control.close()
            self._console.out(f"{load.answered} requests answered, {load.failed} failed.", highlight=False)

    def _on_access(self, line: str) -> None:
        self._view.access(self._with_names(line))

    def _with_names(self, text: str) -> str:
        """`text` with the servers' names in place of their addresses, which mean nothing to a reader."""
        for server in self._servers:
            text = text.replace(f"{server.address} ({server.address})", server.name)
            text = text.replace(server.address, server.name)
        return text

    def _on_key(self, key: str, control: Control) -> None:
        if key in ("1", "2", "3"):
            control.toggle(int(key) - 1)
        elif key in ("q", "Q"):
            self._stop.set()

    async def _show(self, proxy: Proxy, load: Load) -> None:
        meter = Meter({server.address: server.name for server in self._servers})
        while not self._stop.is_set():
            rows = meter.rows(proxy.pools[POOL].servers, time.monotonic())
            self._view.update(rows, f"{load.answered} answered, {load.failed} failed")
            try:
                await asyncio.wait_for(self._stop.wait(), _REFRESH)
            except TimeoutError:
                continue
