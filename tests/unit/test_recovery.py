"""The way back of servers that traffic has ejected, where there are no active checks."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from vsproxy.upstream import recovery
from vsproxy.upstream.recovery import PassiveRecovery
from vsproxy.upstream.server import DOWN, MAINT, UP, Server
from vsproxy.upstream.tls import ClientTls

PATIENCE = 10.0
BACK = (UP, "passive: accepts connections again")


class FakePool:
    """Applies every change of state and lets a test wait for it."""

    name = "pool"
    tls = None

    def __init__(self, *servers: Server) -> None:
        self.servers = list(servers)
        self.changes: asyncio.Queue[tuple[int, str]] = asyncio.Queue()
        self.breaks = False

    def set_state(self, server: Server, state: int, reason: str) -> None:
        if self.breaks:
            raise RuntimeError("the pool broke")
        server.state = state
        self.changes.put_nowait((state, reason))

    async def change(self) -> tuple[int, str]:
        async with asyncio.timeout(PATIENCE):
            return await self.changes.get()


class Port:
    """A loopback port that refuses, or accepts, as a test says; it counts what it accepted."""

    def __init__(self) -> None:
        self.socket = socket.socket()
        self.socket.bind(("127.0.0.1", 0))
        self.socket.setblocking(False)
        self.server = Server("pool", "a:80", "127.0.0.1", self.socket.getsockname()[1], state=DOWN)
        self.accepted = 0
        self.seen = asyncio.Event()

    def listen(self) -> None:
        self.socket.listen()
        asyncio.get_running_loop().add_reader(self.socket, self.accept)

    def accept(self) -> None:
        self.socket.accept()[0].close()
        self.accepted += 1
        self.seen.set()

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self.socket)
        self.socket.close()


@pytest.fixture
async def port() -> AsyncIterator[Port]:
    port = Port()
    yield port
    port.close()


@asynccontextmanager
async def recovering(pool: FakePool, fail_window: float) -> AsyncIterator[PassiveRecovery]:
    passive = PassiveRecovery(pool, fail_window, 10.0)
    passive.start()
    try:
        yield passive
    finally:
        await passive.stop()


def up_server() -> Server:
    return Server("pool", "b:80", "192.0.2.1", 80)


@pytest.fixture
def failures(monkeypatch: pytest.MonkeyPatch) -> asyncio.Semaphore:
    """Released by every try that fails: a server that refuses cannot tell."""
    semaphore = asyncio.Semaphore(0)
    real = recovery.try_connect

    async def try_connect(server: Server, port: int, tls: ClientTls | None, introduces: str) -> None:
        try:
            await real(server, port, tls, introduces)
        except OSError:
            semaphore.release()
            raise

    monkeypatch.setattr(recovery, "try_connect", try_connect)
    return semaphore


async def test_a_server_is_up_once_it_accepts_and_not_before_the_window(port: Port) -> None:
    port.listen()
    pool = FakePool(port.server, up_server())
    async with recovering(pool, 0.2) as passive:
        began = time.monotonic()
        passive.ejected(port.server)
        passive.ejected(port.server)
        assert await pool.change() == BACK
        assert time.monotonic() - began >= 0.2
        await asyncio.wait_for(port.seen.wait(), PATIENCE)
    assert port.accepted == 1
    assert pool.changes.empty()


async def test_it_is_tried_until_it_accepts(port: Port, failures: asyncio.Semaphore) -> None:
    pool = FakePool(port.server, up_server())
    async with recovering(pool, 0.01):
        await asyncio.wait_for(failures.acquire(), PATIENCE)
        assert pool.changes.empty()
        port.listen()
        assert await pool.change() == BACK
    assert port.server.last_check == "accepts connections"


async def test_nobody_up_means_nothing_to_protect(port: Port, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "EAGER", 0.01)
    port.listen()
    pool = FakePool(port.server, Server("pool", "c:80", "192.0.2.1", 80, state=MAINT))
    async with recovering(pool, 3600.0):
        assert await pool.change() == BACK


async def test_holds_double_and_start_over_after_a_good_window(
    port: Port, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "MAX_HOLD", 0.5)
    port.listen()
    pool = FakePool(port.server, up_server())
    waits, holds = [], []
    async with recovering(pool, 0.1) as passive:
        for rest in (0.0, 0.0, 0.0, 0.0, 0.15):
            # A fifth ejection comes when the server has been up for longer than the window.
            await asyncio.sleep(rest)
            began = time.monotonic()
            port.server.state = DOWN
            passive.ejected(port.server)
            assert await pool.change() == BACK
            waits.append(time.monotonic() - began)
            holds.append(passive._returned[port.server][1])
    assert holds == [0.1, 0.2, 0.4, 0.5, 0.1]
    for wait, hold in zip(waits, holds, strict=True):
        assert wait >= hold - 0.001


async def test_what_somebody_else_decides_stands(port: Port) -> None:
    port.listen()
    pool = FakePool(port.server, up_server())
    async with recovering(pool, 0.02):
        port.server.state = MAINT
        names = [task for task in asyncio.all_tasks() if task.get_name().startswith("recover ")]
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*names)
    assert port.server.state == MAINT
    assert port.accepted == 0


async def test_a_server_that_is_gone_is_forgotten(port: Port, failures: asyncio.Semaphore) -> None:
    pool = FakePool(port.server, up_server())
    async with recovering(pool, 0.01) as passive:
        await asyncio.wait_for(failures.acquire(), PATIENCE)
        pool.servers.remove(port.server)
        passive.sync()
        await asyncio.sleep(0)
        assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("recover ")]
        pool.servers.append(Server("pool", "nowhere:80", "", 80, state=DOWN))
        passive.sync()
        assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("recover ")]


async def test_unix_sockets(tmp_path: Path, failures: asyncio.Semaphore) -> None:
    path = tmp_path / "app.sock"
    server = Server("pool", f"unix:{path}", str(path), 0, state=DOWN)
    pool = FakePool(server, up_server())
    async with recovering(pool, 0.01):
        await asyncio.wait_for(failures.acquire(), PATIENCE)
        listener = await asyncio.start_unix_server(lambda _, writer: writer.close(), path)
        assert await pool.change() == BACK
        listener.close()


async def test_what_breaks_in_the_pool_is_said(port: Port, caplog: pytest.LogCaptureFixture) -> None:
    port.listen()
    pool = FakePool(port.server, up_server())
    pool.breaks = True
    async with recovering(pool, 0.01), asyncio.timeout(PATIENCE):
        await asyncio.gather(
            *(task for task in asyncio.all_tasks() if task.get_name().startswith("recover "))
        )
    assert "the pool broke" in caplog.text
