"""WebSockets, downloads, uploads and requests live over reloads, whatever these take away."""

from __future__ import annotations

import asyncio
import hashlib
import signal

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_websocket
from websockets.asyncio.server import ServerConnection, serve

from support.family import connect_to, connect_to_each
from support.http import Request, read_body, read_response_head, request_bytes
from support.load import Load
from support.proxies import Settings, entry, eventually, settings
from support.scripts import Held
from support.server import Conversation
from support.stage import Stage

TWO = {"workers": 2, "shutdown_timeout": "1s"}
PART = hashlib.sha256(b"part").digest() * 4096  # 128 KiB
PARTS = 5


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


async def echoes(tunnel: ClientConnection, message: str) -> bool:
    await tunnel.send(message)
    return bool(await tunnel.recv() == message)


class InParts:
    """Sends a body of `PARTS` parts, each when the test says so; counts what is received of an upload."""

    def __init__(self) -> None:
        self.parts = asyncio.Semaphore(0)
        self.received = 0

    async def __call__(self, peer: Conversation, request: Request) -> None:
        if request.method == "GET":
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (PARTS * len(PART)))
            for _ in range(PARTS):
                await self.parts.acquire()
                await peer.send(PART)
            return
        for _ in range(PARTS):
            assert await peer.read_exactly(len(PART)) == PART
            self.received += 1
        await peer.respond(b"taken")


def steps(config: Settings) -> list[Settings]:
    """Three reloads: a limit, other routes and pools, and last the listener that all of it came through."""
    elsewhere = {"listeners": [{"bind": "127.0.0.2:0"}]}
    other = {
        "pools": {"other": {"servers": [{"address": "127.0.0.1:1"}]}},
        "routes": [{"path": "/", "pool": "other"}],
    }
    config = config | {"routes": [route | {"max_body": 10} for route in config["routes"]]}
    return [config, config | other, config | other | elsewhere]


async def test_websockets_live_over_reloads_that_take_their_pool_and_listener(stage: Stage) -> None:
    async with serve(echo, "127.0.0.1", 0) as server:
        config = settings(f"127.0.0.1:{server.sockets[0].getsockname()[1]}", proxy=TWO)
        process = await stage.run(config)
        tunnels = []
        for worker in process.workers:
            client = await connect_to(stage, process, worker)
            tunnels.append(await connect_websocket(f"ws://{stage.address}/", sock=client.sock, proxy=None))
        for number, step in enumerate(steps(config)):
            await process.put_into_force(step)
            for tunnel in tunnels:
                assert await echoes(tunnel, f"after reload {number}")
        # They end when somebody wants it, and not before.
        await tunnels[0].close()
        assert tunnels[0].close_code == 1000
        process.signal(signal.SIGTERM)
        await tunnels[1].wait_closed()
        assert await process.wait(5) == 0


async def test_a_download_and_an_upload_live_over_reloads_that_take_their_pool_and_listener(
    stage: Stage,
) -> None:
    script = InParts()
    config = settings(await stage.server(script, read_body=False), proxy=TWO)
    process = await stage.run(config)
    down = await connect_to_each(stage, process)
    up = await connect_to_each(stage, process)
    responses = []
    for client in down:
        await client.send(request_bytes())
        responses.append(await read_response_head(client))
    for client in up:
        await client.send(request_bytes("POST", fields={"Content-Length": str(PARTS * len(PART))}))
    for number, step in enumerate((config, *steps(config)), 1):
        for client in up:
            await client.send(PART)
        await eventually(lambda: script.received == 2 * number)  # noqa: B023
        for _ in down:
            script.parts.release()
        await process.put_into_force(step)
    for _ in down:
        script.parts.release()
    for client, response in zip(down, responses, strict=True):
        await read_body(client, response, until_close=False)
        assert (response.complete, response.body == PARTS * PART) == (True, True)
    for client in up:
        await client.send(PART)
        response = await client.response()
        assert (response.status, response.body) == (200, b"taken")


async def test_a_request_that_waits_for_a_server_ends_with_the_pool_it_began_with(stage: Stage) -> None:
    """One is being answered, the other in the queue; then the pool is gone from the configuration."""
    held = Held()
    first, second = await stage.server(held), await stage.server()
    config = settings(entry(first, max_connections=1), pool={"queue_timeout": "20s"})
    process = await stage.run(config)
    answered, queued = await stage.connect(), await stage.connect()
    for client in (answered, queued):
        await client.send(request_bytes())
    await eventually(lambda: held.waiting == 1)
    other = {"pools": {"other": {"servers": [entry(second)]}}, "routes": [{"path": "/", "pool": "other"}]}
    await process.put_into_force(config | other)
    assert (await stage.get()).body == b"server2"
    held.release()
    for client in (answered, queued):
        assert (await client.response()).body == b"server1"
        assert (await client.request()).body == b"server2"


async def test_no_request_of_a_steady_load_fails_over_reloads(stage: Stage) -> None:
    """Servers come and go, routes and listeners change; keepalive clients are answered, each time."""
    listed = [await stage.server() for _ in range(3)]
    config = settings(*listed[:2], proxy=TWO)
    process = await stage.run(config)
    over = asyncio.Event()
    load = Load(stage.address, clients=8, requests=10**9, stop=over.is_set)
    posts = Load(stage.address, clients=4, requests=10**9, method="POST", stop=over.is_set)
    running = [asyncio.create_task(one.run()) for one in (load, posts)]
    changes = [
        config | {"pools": {"main": {"servers": [entry(listed[2])]}}},
        config
        | {"pools": {"other": {"servers": [entry(listed[0])]}}, "routes": [{"path": "/", "pool": "other"}]},
        config | {"listeners": [{"bind": "127.0.0.1:0", "idle_timeout": "30s"}]},
        config,
    ]
    for change in 3 * changes:
        before = load.tally.statuses[200]
        await process.put_into_force(change)
        await eventually(lambda: load.tally.statuses[200] > before + 50, 20)  # noqa: B023
    over.set()
    for tally in await asyncio.gather(*running):
        assert tally.faultless, (tally.statuses, tally.errors[:3])
