"""The demo, as a person runs it: as a command, watched by its lines and steered by its own control port."""

from __future__ import annotations

import asyncio
import io
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from rich.console import Console
from websockets.asyncio.client import connect

import vsproxy
from support.ports import Ports
from vsproxy.demo import free_port, make_config, what_to_try
from vsproxy.demo_server import ServerProcess
from vsproxy.demo_view import LiveView, Meter, Row, short_access_line
from vsproxy.upstream.server import Server


class Demo:
    """`vsproxy demo --plain` in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []

    async def until(self, pattern: str) -> re.Match[str]:
        """Read on to the next line that holds `pattern`."""
        assert self.process.stdout is not None
        async with asyncio.timeout(30):
            async for line in self.process.stdout:
                self.lines.append(line.decode())
                found = re.search(pattern, self.lines[-1])
                if found:
                    return found
        raise AssertionError(f"no {pattern!r} in {''.join(self.lines)}")


async def start(*arguments: str) -> Demo:
    return Demo(
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "vsproxy", "demo", "--plain", *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": str(Path(vsproxy.__file__).parent.parent)},
        )
    )


@pytest.fixture
async def demo() -> AsyncIterator[Demo]:
    demo = await start("--port", "0")
    yield demo
    if demo.process.returncode is None:
        demo.process.kill()
        await demo.process.wait()


async def test_it_balances_loses_a_server_and_gets_it_back(demo: Demo) -> None:
    base = (await demo.until(r"curl (http://\S+/) ")).group(1)
    control = (await demo.until(r"(http://\S+/demo/)kill/server-1")).group(1)
    await demo.until(r"server-1 up [1-9]\d*/s .*server-2 up [1-9]\d*/s .*server-3 up 0/s")
    async with aiohttp.ClientSession() as session:
        for name in ("server-1", "server-2"):
            async with session.post(f"{control}kill/{name}") as response:
                assert f"{name} " in await response.text()
            await demo.until(rf"server {name} is down")
        await demo.until(r"server-3 up [1-9]\d*/s")
        async with session.get(base) as response:
            assert response.headers["X-Served-By"] == "server-3"
        async with session.post(f"{control}revive/server-1") as response:
            assert response.status == 200
        await demo.until(r"server server-1 is up")
        await demo.until(r"server-1 up [1-9]\d*/s .*server-3 up 0/s")
        async with session.post(f"{control}kill/server-9") as response:
            assert response.status == 404
    demo.process.send_signal(signal.SIGINT)
    answered, failed = (await demo.until(r"(\d+) requests answered, (\d+) failed")).groups()
    assert await demo.process.wait() == 0
    assert int(answered) > 0
    assert failed == "0"


async def test_what_it_says_to_try_works(demo: Demo) -> None:
    base = (await demo.until(r"curl (http://\S+/) ")).group(1)
    socket_address = (await demo.until(r"-m websockets (ws://\S+)")).group(1)
    admin = (await demo.until(r"curl (http://\S+/api/pools)")).group(1)
    await demo.until(r"server-1 up")
    async with aiohttp.ClientSession() as session:
        async with session.get(base) as response:
            text = await response.text()
            assert re.match(r"server-[12] \(process \d+\) answers GET /\n\n", text)
            assert "X-Forwarded-For: 127.0.0.1" in text
        async with session.get(f"{base}slow?seconds=0.1") as response:
            assert response.status == 200
        async with session.put(f"{base}upload", data=b"x" * 100_000) as response:
            assert "received 100000 bytes" in await response.text()
        async with session.get(admin) as response:
            assert response.status == 200
    async with connect(socket_address) as websocket:
        await websocket.send("hello")
        assert re.fullmatch(r"server-[12]: hello", str(await websocket.recv()))
    # A SIGTERM ends it as Ctrl-C does, and its servers end with it.
    demo.process.send_signal(signal.SIGTERM)
    await demo.until("answered, 0 failed")
    assert await demo.process.wait() == 0
    with pytest.raises(aiohttp.ClientConnectionError):
        async with aiohttp.ClientSession() as session, session.get(base):
            pass


async def test_it_takes_the_next_port_and_says_so_and_ends_by_itself() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        demo = await start("--port", str(port), "--duration", "0.5")
        used = int((await demo.until(rf"Port {port} is taken: using (\d+)")).group(1))
        assert port < used < port + 100
        await demo.until(rf"serves http://127\.0\.0\.1:{used} ")
        await demo.until("answered, 0 failed")
        assert await demo.process.wait() == 0


async def test_a_server_does_not_outlive_whoever_started_it() -> None:
    server = ServerProcess("orphan")
    await server.start()
    process = server._process
    assert process is not None
    assert process.stdin is not None
    process.stdin.close()
    assert await asyncio.wait_for(process.wait(), 10) == 0
    assert not server.is_running


async def test_a_revived_server_has_its_old_port() -> None:
    server = ServerProcess("phoenix")
    with Ports() as ports:
        server.port = port = ports.take()
        await server.start()
        pid = server.pid
        assert server.port == port
        await server.kill()
        assert server.pid == 0
        await server.start()
        assert server.port == port
        assert server.pid not in (0, pid)
        await server.kill()


def test_free_port_passes_over_a_taken_one() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert free_port(taken.getsockname()[1]) > taken.getsockname()[1]


def test_the_configuration_is_the_one_of_the_guide_with_faster_checks() -> None:
    servers = [ServerProcess("a"), ServerProcess("b", True)]
    servers[0].port, servers[1].port = 1001, 1002
    pool = make_config(servers, 0, "-").pools["demo"]
    assert pool.balance == "least_conn"
    assert [server.backup for server in pool.servers] == [False, True]
    assert pool.health is not None
    assert (pool.health.inter, pool.health.fall, pool.health.rise) == (1.0, 3, 2)


def test_what_to_try_is_aligned() -> None:
    commands = [line for line in what_to_try("h:1", "h:2", "h:3").splitlines() if line.startswith("  ")]
    assert len({re.search(r"\S(  +)\S", line[2:]).end() for line in commands}) == 1  # type: ignore[union-attr]


def test_the_meter_counts_requests_per_second() -> None:
    server = Server("demo", "h:1", "h", 1)
    meter = Meter({"h:1": "one"})
    assert meter.rows([server], 10.0)[0].rate == 0.0
    server.requests = 6
    (row,) = meter.rows([server], 12.0)
    assert (row.name, row.state, row.requests, row.rate) == ("one", "up", 6, 3.0)


def test_the_live_view_shows_states_events_and_requests() -> None:
    screen = io.StringIO()
    view = LiveView(Console(file=screen, force_terminal=True, width=120, color_system=None))
    line = (
        '{"time":"2026-01-02T03:04:05.678Z","method":"GET","path":"/","status":200,"server":"server-1",'
        '"total_ms":1.25,"tries":1,"outcome":"ok"}'
    )
    view.start()
    view.log("server-1 is up")
    view.access(line)
    view.update([Row("server-1", "h:1", True, "up", "because", 2, 30, 4.0)], "30 answered")
    view.close()
    shown = screen.getvalue()
    for part in ("server-1 (backup)", "because", "30 answered", "server-1 is up", short_access_line(line)):
        assert part in shown
    assert short_access_line(line) == "03:04:05.678 GET / 200 from server-1 in 1.2 ms, tries 1, ok"
