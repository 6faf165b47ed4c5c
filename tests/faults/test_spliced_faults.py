"""What breaks or stalls in the middle of a body that the kernel moves."""

from __future__ import annotations

import asyncio
import time

import pytest

from support.http import Request, read_body, read_request, read_response_head, request_bytes
from support.peer import Peer
from support.proxies import eventually
from support.scripts import end
from support.server import Conversation
from support.splices import Watched
from support.stage import Stage

SIZE = 64 << 20
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE


@pytest.fixture
def splices(monkeypatch: pytest.MonkeyPatch) -> Watched:
    return Watched(monkeypatch)


async def pour(peer: Peer, size: int) -> None:
    block = bytes(1 << 18)
    while size > 0:
        await peer.send(block[:size])
        size -= len(block)


async def endless(peer: Conversation, request: Request) -> None:
    await peer.send(HEAD)
    peer.patience = 60
    await pour(peer, SIZE)


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_server_that_ends_early_is_no_complete_answer(stage: Stage, splices: Watched, how: str) -> None:
    now = asyncio.Event()

    async def script(peer: Conversation, request: Request) -> None:
        await peer.send(HEAD)
        await pour(peer, SIZE // 4)
        await now.wait()
        end(peer, how)

    proxy = await stage.proxy(await stage.server(script), pool={"retry": {"tries": 1}})
    client = await stage.connect()
    await client.send(request_bytes())
    response = await read_response_head(client)
    while len(client.buffer) < SIZE // 4:
        await client.fill()
    now.set()
    await read_body(client, response, until_close=True)
    assert len(response.body) == SIZE // 4
    assert not response.complete
    assert splices.kinds() == ["Download"]
    assert splices.all_over()
    assert proxy.pools["main"].servers[0].bytes_received == SIZE // 4


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_client_that_goes_takes_the_server_connection_along(stage: Stage, splices: Watched, how: str) -> None:
    server = await stage.server(endless)
    await stage.proxy(server)
    client = await stage.connect()
    await client.send(request_bytes())
    await client.read_exactly(SIZE // 8)
    client.close() if how == "close" else client.reset()
    await eventually(lambda: not server.open, what="the server is left")
    await eventually(splices.all_over)


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_client_that_goes_in_the_middle_of_its_upload(stage: Stage, splices: Watched, how: str) -> None:
    got: list[str] = []

    async def script(peer: Conversation, request: Request) -> None:
        got.append(await peer.wait_closed())

    server = await stage.server(script, read_body=False)
    await stage.proxy(server)
    client = await stage.connect()
    await client.send(request_bytes("POST", fields={"Content-Length": str(SIZE)}))
    await pour(client, SIZE // 4)
    client.close() if how == "close" else client.reset()
    await eventually(lambda: got, what="the server hears of it")
    assert got == ["reset"], "a truncated request must not look complete"
    assert splices.kinds() == ["Upload"]
    await eventually(splices.all_over)


async def test_a_half_closed_upload_is_400(stage: Stage, splices: Watched) -> None:
    async def script(peer: Conversation, request: Request) -> None:
        await peer.wait_closed()

    await stage.proxy(await stage.server(script, read_body=False))
    client = await stage.connect()
    await client.send(request_bytes("POST", fields={"Content-Length": str(SIZE)}))
    await pour(client, SIZE // 4)
    client.half_close()
    assert (await client.response()).status == 400
    assert splices.kinds() == ["Upload"]
    await eventually(splices.all_over)


@pytest.mark.parametrize("how", ["close", "reset", "stay"])
async def test_an_early_413_reaches_a_client_that_uploads_on(stage: Stage, splices: Watched, how: str) -> None:
    async def script(peer: Conversation) -> None:
        await read_request(peer, with_body=False)
        await peer.read_exactly(SIZE // 4)
        await peer.send(b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 7\r\n\r\ntoo big")
        end(peer, how)
        if how == "stay":
            await peer.wait_closed()

    await stage.proxy(await stage.server(on_connect=script), pool={"max_fails": 0})
    for number in range(1, 6):
        client = await stage.connect()
        await client.send(request_bytes("POST", fields={"Content-Length": str(SIZE)}))
        sending = asyncio.create_task(pour(client, SIZE))
        response = await client.response()
        assert (response.status, response.body) == (413, b"too big")
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        assert splices.kinds() == ["Upload"] * number
    await eventually(splices.all_over)


async def test_an_early_answer_whose_rest_is_small_keeps_the_connection(stage: Stage, splices: Watched) -> None:
    """The bytes that were in the pipe are lost with the server's connection, and none of the client's own."""
    now = asyncio.Event()

    async def script(peer: Conversation, request: Request) -> None:
        if request.method == "GET":
            await peer.respond(b"next")
            return
        await peer.read_exactly(SIZE - 20_000)
        await peer.respond(b"enough")
        await peer.wait_closed()

    server = await stage.server(script, read_body=False)
    await stage.proxy(server)
    client = await stage.connect()
    client.patience = 60
    await client.send(request_bytes("POST", fields={"Content-Length": str(SIZE)}))
    await pour(client, SIZE - 20_000)
    assert (await client.response()).body == b"enough"
    now.set()
    await client.send(bytes(20_000) + request_bytes(target="/next"))
    assert (await client.response()).body == b"next"
    assert splices.kinds() == ["Upload"]


async def test_a_client_that_reads_nothing_is_cut_at_its_send_timeout(stage: Stage, splices: Watched) -> None:
    server = await stage.server(endless)
    await stage.proxy(server, listener={"send_timeout": "600ms"})
    client = await stage.connect(receive_buffer=65536)
    began = time.monotonic()
    await client.send(request_bytes())
    await eventually(lambda: splices.begun)
    await eventually(lambda: not server.open, 5, what="the server is left")
    assert 0.6 <= time.monotonic() - began < 3
    assert splices.all_over()
    assert await client.wait_closed() == "reset"


async def test_a_server_that_reads_nothing_is_given_up_at_the_send_timeout(stage: Stage, splices: Watched) -> None:
    async def script(peer: Conversation, request: Request) -> None:
        await asyncio.sleep(3600)

    await stage.proxy(
        await stage.server(script, read_body=False), pool={"timeouts": {"send": "600ms"}, "retry": {"tries": 1}}
    )
    client = await stage.connect()
    await client.send(request_bytes("POST", fields={"Content-Length": str(SIZE)}))
    sending = asyncio.create_task(pour(client, SIZE))
    assert (await client.response()).status == 504
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    assert splices.kinds() == ["Upload"]
    await eventually(splices.all_over)


async def test_a_server_that_stalls_is_given_up_at_the_read_timeout(stage: Stage, splices: Watched) -> None:
    async def script(peer: Conversation, request: Request) -> None:
        await peer.send(HEAD)
        await pour(peer, SIZE // 4)
        await peer.wait_closed()

    await stage.proxy(await stage.server(script), pool={"timeouts": {"read": "600ms"}})
    client = await stage.connect()
    response_began = time.monotonic()
    response = await client.request()
    assert not response.complete
    assert len(response.body) == SIZE // 4
    assert time.monotonic() - response_began < 5
    assert splices.kinds() == ["Download"]


async def test_a_client_that_stalls_gets_408_at_the_body_timeout(stage: Stage, splices: Watched) -> None:
    async def script(peer: Conversation, request: Request) -> None:
        await peer.wait_closed()

    await stage.proxy(await stage.server(script, read_body=False), listener={"body_timeout": "600ms"})
    client = await stage.connect()
    await client.send(request_bytes("POST", fields={"Content-Length": str(SIZE)}))
    await pour(client, SIZE // 4)
    assert (await client.response()).status == 408
    assert splices.kinds() == ["Upload"]
    await eventually(splices.all_over)


async def sip(peer: Peer, seconds: float, size: int) -> None:
    """Read up to `size` bytes ten times a second."""
    loop = asyncio.get_running_loop()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        assert await loop.sock_recv(peer.sock, size), "cut off"
        await asyncio.sleep(0.1)


async def test_a_slow_but_steady_reader_is_not_cut(stage: Stage, splices: Watched) -> None:
    await stage.proxy(await stage.server(endless), listener={"send_timeout": "1s"})
    client = await stage.connect(receive_buffer=65536)
    await client.send(request_bytes())
    await read_response_head(client)
    await sip(client, 3.5, 20_000)
    assert splices.kinds() == ["Download"]
    assert not splices.all_over()


async def test_a_trickling_source_is_passed_on_at_once_and_not_cut(stage: Stage, splices: Watched) -> None:
    """Slow at the source: nothing is held back until there is more."""
    turn = asyncio.Event()

    async def script(peer: Conversation, request: Request) -> None:
        await peer.send(HEAD + bytes(300_000))
        for _ in range(12):
            await turn.wait()
            turn.clear()
            await peer.send(b"x" * 100)

    await stage.proxy(await stage.server(script), pool={"timeouts": {"read": "600ms"}})
    client = await stage.connect()
    await client.send(request_bytes())
    await read_response_head(client)
    await client.read_exactly(300_000)
    for _ in range(12):
        turn.set()
        began = time.monotonic()
        assert await client.read_exactly(100) == b"x" * 100
        assert time.monotonic() - began < 0.5
        await asyncio.sleep(0.1)
    assert splices.kinds() == ["Download"]


async def test_at_the_deadline_of_a_stop_it_is_broken_off(stage: Stage, splices: Watched) -> None:
    server = await stage.server(endless)
    proxy = await stage.proxy(server)
    client = await stage.connect(receive_buffer=65536)
    await client.send(request_bytes())
    response = await read_response_head(client)
    await eventually(lambda: splices.begun)
    began = time.monotonic()
    await proxy.close()
    assert time.monotonic() - began < 3
    await read_body(client, response, until_close=True)
    assert not response.complete
    await eventually(lambda: not server.open)
    assert splices.all_over()


async def test_bytes_behind_the_body_never_become_the_next_answer(stage: Stage, splices: Watched) -> None:
    size = 8 << 20
    poison = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"

    async def script(peer: Conversation, request: Request) -> None:
        if request.target == "/next":
            await peer.respond(b"good")
        else:
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size) + poison)

    await stage.proxy(await stage.server(script))
    client = await stage.connect()
    for number in range(1, 6):
        await client.send(request_bytes() + request_bytes(target="/next"))
        assert (await client.response()).complete
        assert (await client.response()).body == b"good"
        assert splices.kinds() == ["Download"] * number
