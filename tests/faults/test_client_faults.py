"""Clients that leave, stall, do not read, or send half of what they announced."""

from __future__ import annotations

import asyncio
import time

from support.http import Request, request_bytes
from support.scripts import Held, mute
from support.server import Conversation
from support.stage import Stage

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Thinking:
    """A server that never answers and notes when its connection ends."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.ended = asyncio.Event()

    async def __call__(self, peer: Conversation, request: Request) -> None:
        self.began.set()
        await peer.wait_closed()
        self.ended.set()


async def test_a_client_that_resets_while_the_server_thinks_stops_the_server_at_once(stage: Stage) -> None:
    script = Thinking()
    await stage.proxy(await stage.server(script))
    client = await stage.connect()
    await client.send(request_bytes())
    await script.began.wait()
    client.reset()
    await asyncio.wait_for(script.ended.wait(), 10)


async def test_a_half_closed_client_gets_its_answer(stage: Stage) -> None:
    held = Held()
    await stage.proxy(await stage.server(held))
    client = await stage.connect()
    await client.send(request_bytes())
    client.half_close()
    while not held.waiting:
        await asyncio.sleep(0.01)
    assert await client.is_silent(0.2)
    held.release()
    assert (await client.response()).status == 200
    assert await client.wait_closed() == "fin"


async def test_a_half_closed_client_that_resets_later_stops_the_server(stage: Stage) -> None:
    script = Thinking()
    await stage.proxy(await stage.server(script))
    client = await stage.connect()
    await client.send(request_bytes())
    await script.began.wait()
    client.half_close()
    await asyncio.sleep(0.1)
    client.reset()
    await asyncio.wait_for(script.ended.wait(), 10)


async def test_half_close_means_abort_where_the_route_says_so(stage: Stage) -> None:
    script = Thinking()
    await stage.proxy(await stage.server(script), route={"half_close": "abort"})
    client = await stage.connect()
    await client.send(request_bytes())
    await script.began.wait()
    client.half_close()
    await asyncio.wait_for(script.ended.wait(), 10)


async def test_slow_head_is_408(stage: Stage) -> None:
    await stage.proxy(await stage.server(), listener={"header_timeout": "300ms"})
    client = await stage.connect()
    await client.send(b"GET / HTTP/1.1\r\nHost:")
    response = await client.response()
    assert response.status == 408
    assert await client.wait_closed() == "fin"


async def test_a_head_that_drips_is_cut_by_the_same_deadline(stage: Stage) -> None:
    # Long enough that the first byte is read in time also on a busy machine: without one there is no answer.
    await stage.proxy(await stage.server(), listener={"header_timeout": "3s"})
    client = await stage.connect()
    began = time.monotonic()
    for byte in b"GET / HTTP/1.1\r\nX: " + b"y" * 400:
        if client.buffer or client.ended:
            break
        await client.send(bytes((byte,)))
        if not await client.is_silent(0.02):
            break
    assert (await client.response()).status == 408
    # The 419 bytes would take eight seconds and more.
    assert time.monotonic() - began < 7


async def test_a_silent_connection_is_closed_without_a_word(stage: Stage) -> None:
    await stage.proxy(await stage.server(), listener={"header_timeout": "300ms"})
    client = await stage.connect()
    assert await client.read_to_end() == b""


async def test_an_idle_keepalive_connection_is_closed_after_its_timeout(stage: Stage) -> None:
    await stage.proxy(await stage.server(), listener={"idle_timeout": "300ms"})
    client = await stage.connect()
    assert (await client.request()).status == 200
    assert await client.read_to_end() == b""


async def test_a_stalled_upload_is_408_and_the_server_sees_no_end(stage: Stage) -> None:
    script = Thinking()
    await stage.proxy(await stage.server(script, read_body=False), listener={"body_timeout": "1500ms"})
    client = await stage.connect()
    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf")
    assert (await client.response("POST")).status == 408
    await asyncio.wait_for(script.ended.wait(), 10)


async def test_a_client_that_does_not_read_is_cut_after_send_timeout(stage: Stage) -> None:
    async def endless(peer: Conversation, request: Request) -> None:
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        while not peer.ended:
            await peer.send(b"x" * 65536)

    proxy = await stage.proxy(await stage.server(endless), listener={"send_timeout": "400ms"})
    client = await stage.connect(receive_buffer=4096)
    await client.send(request_bytes())
    server = proxy.pools["main"].servers[0]
    while server.active == 0:
        await asyncio.sleep(0.01)
    async with asyncio.timeout(4):
        while server.active:
            await asyncio.sleep(0.02)


async def test_mute_server_is_504_and_a_good_one_takes_over_for_a_get(stage: Stage) -> None:
    await stage.proxy(await stage.server(mute), pool={"timeouts": {"read": "300ms"}})
    assert (await stage.get()).status == 504


async def test_nobody_waits_for_a_server_that_checks_have_found_bad(stage: Stage) -> None:
    good = await stage.server()
    proxy = await stage.proxy(
        stage.blackhole(), good, pool={"health": {"type": "tcp", "inter": "100ms", "timeout": "1s", "fall": 2}}
    )
    bad, live = proxy.pools["main"].servers
    async with asyncio.timeout(5):
        while (bad.state_name, live.state_name) != ("down", "up"):
            await asyncio.sleep(0.01)
    began = time.monotonic()
    assert [(await stage.get()).status for _ in range(6)] == [200] * 6
    assert time.monotonic() - began < 2.5


async def test_those_who_connect_to_a_server_that_goes_down_move_on(stage: Stage) -> None:
    proxy = await stage.proxy(stage.blackhole(), await stage.server())
    pool = proxy.pools["main"]
    asked = [asyncio.create_task(stage.post()) for _ in range(4)]
    while pool.servers[0].active < 2:
        await asyncio.sleep(0.01)
    pool.set_state(pool.servers[0], 1, "test")
    async with asyncio.timeout(2):
        assert [response.status for response in await asyncio.gather(*asked)] == [200] * 4


async def test_all_down_is_503_and_back_again(stage: Stage) -> None:
    server = await stage.server()
    proxy = await stage.proxy(server)
    pool = proxy.pools["main"]
    pool.set_state(pool.servers[0], 1, "test")
    response = await stage.get()
    assert (response.status, response.fields.get("retry-after")) == (503, "1")
    pool.set_state(pool.servers[0], 0, "test")
    assert (await stage.get()).status == 200
