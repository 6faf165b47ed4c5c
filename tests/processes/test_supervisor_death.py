"""The supervisor is killed: nobody is left to steer the others, so they finish what they have and end."""

from __future__ import annotations

import time

from storm.sockets import is_alive
from support.client import until_refused
from support.family import kill
from support.http import Request, request_bytes
from support.proxies import ProxyProcess, eventually
from support.scripts import Held, mute
from support.server import Conversation
from support.stage import Stage

# What a child may take beyond `shutdown_timeout`: its last words to tunnels, and a loaded machine.
MARGIN = 4.0


async def kill_the_parent(process: ProxyProcess) -> list[int]:
    """SIGKILL to the supervisor; its children."""
    children = [*process.workers, process.control]
    kill(process.pid)
    await process.wait()
    return children


async def test_what_is_in_flight_is_finished_and_then_all_end(stage: Stage) -> None:
    held = Held()
    listener = {"bind": stage.free_address()}
    proxy = {"workers": 2, "shutdown_timeout": "20s"}
    process = await stage.process(await stage.server(held), listener=listener, proxy=proxy)
    clients = [await stage.connect() for _ in range(6)]
    for client in clients:
        await client.send(request_bytes())
    await eventually(lambda: held.waiting == 6)
    children = await kill_the_parent(process)
    await until_refused(stage.address)
    assert held.waiting == 6
    held.release()
    for client in clients:
        response = await client.response()
        assert (response.status, response.fields.has_token("Connection", "close")) == (200, True)
    await eventually(lambda: not any(map(is_alive, children)), MARGIN)


async def test_what_takes_longer_than_the_shutdown_timeout_is_cut(stage: Stage) -> None:
    async def switch(peer: Conversation, request: Request) -> None:
        if request.target == "/tunnel":
            await peer.send(b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
            await peer.wait_closed()
        else:
            await mute(peer, request)

    timeout = 0.5
    server = await stage.server(switch)
    process = await stage.process(server, proxy={"workers": 2, "shutdown_timeout": f"{timeout}s"})
    tunnel, stuck = await stage.connect(), await stage.connect()
    fields = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    assert (
        await tunnel.request(target="/tunnel", fields={**fields, "Sec-WebSocket-Key": "eA=="})
    ).status == 101
    await stuck.send(request_bytes(target="/stuck"))
    await eventually(lambda: len(server.requests) == 2)
    began = time.monotonic()
    children = await kill_the_parent(process)
    assert await tunnel.wait_closed()
    assert await stuck.wait_closed() == "reset"
    await eventually(lambda: not any(map(is_alive, children)), MARGIN)
    assert time.monotonic() - began > timeout / 2


async def test_the_address_is_free_for_the_next(stage: Stage) -> None:
    server = await stage.server()
    address = stage.free_address()
    process = await stage.process(server, listener={"bind": address}, proxy={"workers": 2})
    children = await kill_the_parent(process)
    await eventually(lambda: not any(map(is_alive, children)), MARGIN)
    await stage.process(server, listener={"bind": address}, proxy={"workers": 2})
    assert stage.address == address
    assert (await stage.get()).status == 200
