"""Clients that have said all they will ever say (`nc -N`, HTTP/1.0 scripts) and wait for their answers."""

from __future__ import annotations

import asyncio

from support.http import Request, request_bytes
from support.proxies import entry, eventually
from support.scripts import Held
from support.server import Conversation
from support.stage import Stage


async def says_target(peer: Conversation, request: Request) -> None:
    """Answer with the target."""
    await peer.respond(request.target.encode())


async def test_every_pipelined_request_before_the_fin_is_answered(stage: Stage) -> None:
    held = Held()
    await stage.proxy(await stage.server(held))
    client = await stage.connect()
    await client.send(b"".join(request_bytes(target=f"/{number}") for number in range(4)))
    client.half_close()
    await eventually(lambda: held.waiting == 1)
    held.release()
    assert [(await client.response()).status for _ in range(4)] == [200] * 4
    assert await client.wait_closed() == "fin"


async def test_every_pipelined_upload_before_the_fin_is_answered(stage: Stage) -> None:
    server = await stage.server(says_target)
    await stage.proxy(server)
    client = await stage.connect()
    await client.send(b"".join(request_bytes("POST", f"/{number}", body=b"abc") for number in range(3)))
    client.half_close()
    assert [(await client.response()).body for _ in range(3)] == [b"/0", b"/1", b"/2"]
    assert [request.body for request in server.requests] == [b"abc"] * 3


async def test_a_half_closed_client_waits_in_the_queue(stage: Stage) -> None:
    held = Held()
    proxy = await stage.proxy(entry(await stage.server(held), max_connections=1))
    first = asyncio.create_task(stage.get())
    await eventually(lambda: held.waiting == 1)
    client = await stage.connect()
    await client.send(request_bytes())
    client.half_close()
    await eventually(lambda: proxy.pools["main"].queued == 1)
    assert await client.is_silent(0.7)  # longer than the look at the kernel takes
    held.release()
    assert (await client.response()).status == 200
    assert (await first).status == 200


async def test_a_half_closed_client_that_resets_leaves_the_queue(stage: Stage) -> None:
    held = Held()
    proxy = await stage.proxy(entry(await stage.server(held), max_connections=1))
    first = asyncio.create_task(stage.get())
    await eventually(lambda: held.waiting == 1)
    client = await stage.connect()
    await client.send(request_bytes())
    client.half_close()
    await eventually(lambda: proxy.pools["main"].queued == 1)
    client.reset()
    await eventually(lambda: proxy.pools["main"].queued == 0, 10, what="the place in the queue freed")
    held.release()
    assert (await first).status == 200


async def test_a_half_closed_client_outlives_a_connect_that_fails(stage: Stage) -> None:
    good = await stage.server()
    await stage.proxy(stage.blackhole(), good, pool={"timeouts": {"connect": "1s"}})
    for _ in range(2):
        client = await stage.connect()
        await client.send(request_bytes("POST", body=b"x" * 1000))
        client.half_close()
        assert (await client.response()).status == 200
    assert [request.body for request in good.requests] == [b"x" * 1000] * 2


async def test_a_half_closed_client_gets_a_long_answer_whole(stage: Stage) -> None:
    body = bytes(range(256)) * 20_000

    async def script(peer: Conversation, request: Request) -> None:
        await peer.respond(body)

    await stage.proxy(await stage.server(script))
    client = await stage.connect(receive_buffer=16384)
    await client.send(request_bytes())
    client.half_close()
    assert not await client.is_silent(10)
    response = await client.response()
    assert (response.body == body, response.complete) == (True, True)
    assert await client.wait_closed() == "fin"
