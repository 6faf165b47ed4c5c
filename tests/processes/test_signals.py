"""Signals to the family: each reaches whom it concerns, and a stop ends all."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

import pytest
from websockets.asyncio.client import connect as connect_websocket
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from storm.sockets import is_alive
from support.client import until_refused
from support.family import connect_to, connect_to_each
from support.http import request_bytes
from support.proxies import eventually
from support.scripts import Held, mute
from support.stage import Stage

TWO = {"workers": 2, "shutdown_timeout": "20s"}


@pytest.mark.parametrize("group", [False, True], ids=["supervisor", "group"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_stop_drains_every_worker_and_leaves_nobody(
    stage: Stage, number: signal.Signals, group: bool
) -> None:
    held = Held()
    process = await stage.process(
        await stage.server(held), listener={"bind": stage.free_address()}, proxy=TWO
    )
    family = process.family
    clients = [await connect_to(stage, process, worker) for worker in process.workers for _ in range(3)]
    for client in clients:
        await client.send(request_bytes())
    await eventually(lambda: held.waiting == 6)
    if group:
        process.signal_group(number)
    else:
        process.signal(number)
    await process.wait_for_line("stopping")
    await until_refused(process.address)
    held.release()
    for client in clients:
        response = await client.response()
        assert (response.status, response.fields.has_token("Connection", "close")) == (200, True)
    assert await process.wait(5) == 0
    assert not any(map(is_alive, family))
    await process.wait_for_line(" stopped$")
    assert process.log[-1].endswith("stopped")
    assert not [line for line in process.log if " ERROR " in line or "Traceback" in line]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_ends_all_at_once(stage: Stage, number: signal.Signals) -> None:
    server = await stage.server(mute)
    process = await stage.process(server, proxy=TWO)
    family = process.family
    clients = await connect_to_each(stage, process)
    for client in clients:
        await client.send(request_bytes())
    await eventually(lambda: len(server.requests) == 2)
    process.signal_group(number)
    await process.wait_for_line("stopping")
    began = time.monotonic()
    process.signal_group(number)
    assert await process.wait(5) == 128 + number
    assert time.monotonic() - began < 3
    await eventually(lambda: not any(map(is_alive, family)))


async def test_tunnels_of_every_worker_are_told_at_the_end_of_a_stop(stage: Stage) -> None:
    async def echo(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    async with serve(echo, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        process = await stage.process(f"127.0.0.1:{port}", proxy={"workers": 2, "shutdown_timeout": "300ms"})
        tunnels = []
        for worker in process.workers:
            client = await connect_to(stage, process, worker)
            client.sock.setblocking(False)
            tunnels.append(await connect_websocket(f"ws://{stage.address}/", sock=client.sock, proxy=None))
        process.signal(signal.SIGTERM)
        for tunnel in tunnels:
            with pytest.raises(ConnectionClosed):
                await tunnel.recv()
        assert await process.wait(5) == 0


async def test_sigusr1_reopens_the_log_in_every_worker(stage: Stage) -> None:
    path = stage.directory / "access.log"
    process = await stage.process(
        await stage.server(), log={"access": "json", "access_path": str(path)}, proxy={"workers": 2}
    )
    clients = await connect_to_each(stage, process)
    for client in clients:
        assert (await client.request(target="/before")).status == 200
    await eventually(lambda: lines_with(path, "/before") == 2)
    moved = path.rename(path.with_suffix(".1"))
    process.signal(signal.SIGUSR1)
    await eventually(path.exists)
    # Each in its own time; until then it writes to the old file.
    await eventually(lambda: all(has_open(worker, path) for worker in process.workers))
    for client in clients:
        assert (await client.request(target="/after")).status == 200
    await eventually(lambda: lines_with(path, "/after") == 2)
    assert (lines_with(moved, "/after"), lines_with(path, "/before")) == (0, 0)


def lines_with(path: Path, target: str) -> int:
    return sum(f'"{target}"' in line for line in path.read_text().splitlines())


def has_open(pid: int, path: Path) -> bool:
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        # It closes some of them meanwhile.
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(link))
    return str(path) in found
