"""Slow is not stalled: every timeout counts silence, and only of the side whose turn it is."""

from __future__ import annotations

import asyncio
import contextlib
import time

from support.http import Request, read_body, read_response_head, request_bytes
from support.peer import Peer
from support.proxies import eventually
from support.scripts import Held
from support.server import Conversation
from support.stage import Stage

IMPATIENT = {
    "header_timeout": "800ms",
    "idle_timeout": "800ms",
    "body_timeout": "800ms",
    "send_timeout": "800ms",
}


async def sip(peer: Peer, seconds: float) -> None:
    """Read 200 KB a second, in small sips; an end fails the test."""
    loop = asyncio.get_running_loop()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        assert await loop.sock_recv(peer.sock, 20_000), "cut off"
        await asyncio.sleep(0.1)


async def test_a_client_that_reads_slowly_but_steadily_is_not_cut(stage: Stage) -> None:
    """The kernel's buffers hold seconds of this client's reading: progress has to be looked for there."""

    async def script(peer: Conversation, request: Request) -> None:
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 30000000\r\n\r\n")
        peer.patience = 60
        await peer.send(bytes(30_000_000))

    await stage.proxy(await stage.server(script), listener={"send_timeout": "2s"})
    client = await stage.connect(receive_buffer=65536)
    await client.send(request_bytes())
    await read_response_head(client)
    await sip(client, 5)


async def test_a_server_that_reads_slowly_but_steadily_is_not_given_up(stage: Stage) -> None:
    async def script(peer: Conversation, request: Request) -> None:
        await sip(peer, 5)
        await peer.respond(b"fine", fields=[("Connection", "close")])

    server = await stage.server(script, read_body=False)
    await stage.proxy(server, pool={"timeouts": {"send": "2s", "read": "8s"}})
    client = await stage.connect()
    client.patience = 30
    await client.send(request_bytes("POST", fields={"Content-Length": "30000000"}))
    sending = asyncio.create_task(client.send(bytes(30_000_000)))
    assert (await client.response()).body == b"fine"
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)


async def test_a_long_thought_of_the_server_is_not_the_clients_silence(stage: Stage) -> None:
    held = Held()
    await stage.proxy(await stage.server(held), listener=IMPATIENT)
    client = await stage.connect()
    await client.send(request_bytes("POST", body=b"abc"))
    assert await client.is_silent(1.8)
    held.release()
    assert (await client.response()).status == 200


async def test_a_half_sent_next_request_is_not_timed_during_the_answer_before_it(stage: Stage) -> None:
    held = Held()
    await stage.proxy(await stage.server(held), listener=IMPATIENT)
    client = await stage.connect()
    await client.send(request_bytes() + b"GET /second HTTP/1.1\r\nHost: a\r\n")
    assert await client.is_silent(1.8)
    held.release()
    assert (await client.response()).status == 200
    await client.send(b"\r\n")
    assert (await client.response()).status == 200


async def test_a_half_sent_next_request_is_timed_after_the_answer(stage: Stage) -> None:
    await stage.proxy(await stage.server(), listener=IMPATIENT)
    client = await stage.connect()
    assert (await client.request()).status == 200
    await client.send(b"GET / HT")
    assert (await client.response()).status == 408


async def test_an_upload_that_the_server_holds_back_is_not_the_clients_stall(stage: Stage) -> None:
    async def script(peer: Conversation, request: Request) -> None:
        await asyncio.sleep(2.5)
        await read_body(peer, request, until_close=False)
        await peer.respond(b"fine")

    await stage.proxy(await stage.server(script, read_body=False), listener={"body_timeout": "1s"})
    client = await stage.connect()
    client.patience = 30
    await client.send(request_bytes("POST", fields={"Content-Length": "30000000"}))
    sending = asyncio.create_task(client.send(bytes(30_000_000)))
    assert (await client.response()).body == b"fine"
    await sending


async def test_a_download_that_the_client_holds_back_is_not_the_servers_stall(stage: Stage) -> None:
    async def script(peer: Conversation, request: Request) -> None:
        peer.patience = 60
        await peer.respond(bytes(20_000_000))

    await stage.proxy(await stage.server(script), pool={"timeouts": {"read": "1s"}})
    client = await stage.connect(receive_buffer=65536)
    await client.send(request_bytes())
    await asyncio.sleep(2.5)
    response = await client.response()
    assert (len(response.body), response.complete) == (20_000_000, True)


async def test_a_client_that_breaks_while_it_is_held_back_is_noticed(stage: Stage) -> None:
    """Its upload is not being read, so nobody hears its reset: the kernel has to be asked."""

    async def holds(peer: Conversation, request: Request) -> None:
        await asyncio.sleep(3600)

    proxy = await stage.proxy(await stage.server(holds, read_body=False))
    live = proxy.pools["main"].servers[0]
    client = await stage.connect()
    client.patience = 0.5
    await client.send(request_bytes("POST", fields={"Content-Length": "100000000"}))
    with contextlib.suppress(TimeoutError):  # held back
        await client.send(bytes(100_000_000))
    await eventually(lambda: live.active == 1)
    client.reset()
    await eventually(lambda: live.active == 0, 10, what="the exchange ended")
