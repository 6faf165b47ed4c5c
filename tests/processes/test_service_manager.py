"""What a service manager hears of a running vsproxy: sd_notify(3) over a real socket, and the watchdog."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.proxies import ProxyProcess
from support.stage import Stage

WATCHDOG = 3.0


class Manager:
    """The receiving end."""

    def __init__(self, path: Path) -> None:
        self.heard: list[dict[str, str]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)

    async def hears(self, key: str, seconds: float = 10.0) -> dict[str, str]:
        """The next message that has `key`."""
        async with asyncio.timeout(seconds):
            while True:
                text = (await asyncio.get_running_loop().sock_recv(self._socket, 65536)).decode()
                message = dict(line.split("=", 1) for line in text.splitlines())
                self.heard.append(message)
                if key in message:
                    return message

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
async def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Manager]:
    path = tmp_path / "notify"
    manager = Manager(path)
    monkeypatch.setenv("NOTIFY_SOCKET", str(path))
    monkeypatch.setenv("WATCHDOG_USEC", str(int(WATCHDOG * 1_000_000)))
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    yield manager
    manager.close()


async def start(stage: Stage) -> ProxyProcess:
    return await stage.process(await stage.server(), proxy={"workers": 2, "shutdown_timeout": "500ms"})


async def test_ready_is_said_once_requests_are_answered(stage: Stage, manager: Manager) -> None:
    process = await start(stage)
    message = await manager.hears("READY")
    assert message["MAINPID"] == str(process.pid)
    assert (await stage.get()).status == 200


async def test_a_reload_is_announced_and_its_end_too_also_when_it_is_refused(
    stage: Stage, manager: Manager, tmp_path: Path
) -> None:
    process = await start(stage)
    await manager.hears("READY")
    good = (tmp_path / "lb.toml").read_text()
    for text in (good, good + 'nonsense = "x"\n', good):
        (tmp_path / "lb.toml").write_text(text)
        process.signal(signal.SIGHUP)
        reloading = await manager.hears("RELOADING")
        assert int(reloading["MONOTONIC_USEC"]) > 0
        await manager.hears("READY")


async def test_the_stop_is_announced_before_what_is_in_flight_has_ended(stage: Stage, manager: Manager) -> None:
    process = await start(stage)
    await manager.hears("READY")
    process.signal(signal.SIGTERM)
    await manager.hears("STOPPING")
    assert await process.wait() == 0


async def test_the_watchdog_hears_of_us(stage: Stage, manager: Manager) -> None:
    await start(stage)
    await manager.hears("READY")
    for _ in range(3):
        await manager.hears("WATCHDOG", WATCHDOG)
