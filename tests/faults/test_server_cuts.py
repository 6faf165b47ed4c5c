"""Servers that break off inside an answer: the client must never take it for complete."""

from __future__ import annotations

import asyncio
import time

import pytest

from support.http import Response, read_body, read_response_head, request_bytes
from support.peer import Ended
from support.scripts import Interrupted, sends
from support.server import Conversation
from support.stage import Stage

LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
CLOSE = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"


async def cut_answer(
    stage: Stage, data: bytes, how: str, seen: bytes, version: str = "1.1", more: bytes = b""
) -> Response:
    """GET from a server that ends as `how` says once the client has the head and `seen`."""
    server = Interrupted(data, how)
    await stage.proxy(await stage.server(server), pool={"retry": {"tries": 1}})
    client = await stage.connect()
    await client.send(request_bytes(version=version).replace(b"\r\n\r\n", b"\r\n" + more + b"\r\n"))
    response = await read_response_head(client)
    while seen not in client.buffer:
        await client.fill()
    server.cut()
    await read_body(client, response, until_close=True)
    await client.wait_closed()
    response.closed = client.ended
    return response


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_end_right_after_the_head(stage: Stage, how: str) -> None:
    server = await stage.server(sends(LENGTH, how))
    await stage.proxy(server, pool={"retry": {"tries": 1}})
    client = await stage.connect()
    try:
        response = await client.request()
    except Ended:
        return
    assert response.status == 502 or not response.complete


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_end_inside_a_body_of_known_length(stage: Stage, how: str) -> None:
    response = await cut_answer(stage, LENGTH + b"hello", how, b"hello")
    assert (response.body, response.complete) == (b"hello", False)


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize(
    "tail",
    [
        pytest.param(b"", id="between-chunks"),
        pytest.param(b"5\r\nwor", id="inside-a-chunk"),
        pytest.param(b"5\r\nworld", id="before-the-chunks-CRLF"),
        pytest.param(b"5", id="inside-a-size"),
        pytest.param(b"0\r\n", id="before-the-last-CRLF"),
        pytest.param(b"0\r\nX-Trailer: 1\r\n", id="inside-the-trailers"),
    ],
)
async def test_end_inside_a_chunked_body(stage: Stage, how: str, tail: bytes) -> None:
    response = await cut_answer(stage, CHUNKED + b"5\r\nhello\r\n" + tail, how, b"hello")
    assert response.body.startswith(b"hello")
    assert not response.complete


async def test_reset_of_a_body_ended_by_close(stage: Stage) -> None:
    """A FIN would make it look complete: the client must see a reset or a missing last chunk."""
    response = await cut_answer(stage, CLOSE + b"hello", "reset", b"hello")
    assert not response.complete


async def test_reset_of_a_body_ended_by_close_with_an_http10_client(stage: Stage) -> None:
    """There are no chunks for this client: only a reset can tell it."""
    response = await cut_answer(stage, CLOSE + b"hello", "reset", b"hello", version="1.0")
    assert (response.complete, response.closed) == (False, "reset")


async def test_close_of_a_body_ended_by_close_is_its_end(stage: Stage) -> None:
    response = await cut_answer(stage, CLOSE + b"hello", "close", b"hello", more=b"Connection: close\r\n")
    assert (response.body, response.complete) == (b"hello", True)


async def test_cut_chunked_body_with_an_http10_client(stage: Stage) -> None:
    response = await cut_answer(stage, CHUNKED + b"5\r\nhello\r\n", "close", b"hello", version="1.0")
    assert (response.complete, response.closed) == (False, "reset")


async def test_garbage_in_the_first_bytes_of_a_body_is_502(stage: Stage) -> None:
    server = await stage.server(sends(CHUNKED + b"5\r\nhello\r\nzz\r\n"))
    await stage.proxy(server, pool={"retry": {"tries": 1}})
    assert (await stage.get()).status == 502


async def test_garbage_after_a_part_of_the_body_aborts(stage: Stage) -> None:
    server = Interrupted(CHUNKED + b"5\r\nhello\r\n", "stay", then=b"zz\r\n")
    await stage.proxy(await stage.server(server), pool={"retry": {"tries": 1}})
    client = await stage.connect()
    await client.send(request_bytes())
    response = await read_response_head(client)
    while b"hello" not in client.buffer:
        await client.fill()
    server.cut()
    await read_body(client, response, until_close=True)
    assert (response.body, response.complete) == (b"hello", False)


async def test_stall_inside_a_body_aborts_after_the_read_timeout(stage: Stage) -> None:
    server = await stage.server(sends(LENGTH + b"hello"))
    await stage.proxy(server, pool={"timeouts": {"read": "400ms"}})
    began = time.monotonic()
    response = await stage.get()
    assert not response.complete
    assert 0.3 < time.monotonic() - began < 5


async def test_whole_answer_followed_by_a_reset_arrives_whole(stage: Stage) -> None:
    body = bytes(range(256)) * 1024

    async def script(peer: Conversation, request: object) -> None:
        await peer.respond(body)
        await peer.arrive()
        peer.reset()

    await stage.proxy(await stage.server(script))
    response = await stage.get()
    assert (response.body == body, response.complete) == (True, True)


async def test_answer_with_connection_close_does_not_wait_for_the_close(stage: Stage) -> None:
    answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
    await stage.proxy(await stage.server(sends(answer, "stay")))
    client = await stage.connect()
    began = time.monotonic()
    for _ in range(2):
        assert (await client.request()).body == b"ok"
    assert time.monotonic() - began < 5


# Slow, but right


async def test_head_byte_by_byte(stage: Stage) -> None:
    async def drip(peer: Conversation, request: object) -> None:
        await peer.drip(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 0.001)

    await stage.proxy(await stage.server(drip))
    response = await stage.get()
    assert (response.status, response.body) == (200, b"ok")


@pytest.mark.parametrize("head", [CHUNKED, CLOSE], ids=["chunked", "until-close"])
async def test_a_slow_line_is_passed_on_at_once(stage: Stage, head: bytes) -> None:
    """The server writes its next line only when the client has seen the one before: no buffering."""
    seen = asyncio.Semaphore(0)

    async def lines(peer: Conversation, request: object) -> None:
        await peer.send(head)
        for number in range(5):
            line = b"line %d\n" % number
            await peer.send(b"7\r\n" + line[:7] + b"\r\n" if head is CHUNKED else line)
            await seen.acquire()
        if head is CHUNKED:
            await peer.send(b"0\r\n\r\n")
        else:
            peer.close()

    await stage.proxy(await stage.server(lines))
    client = await stage.connect()
    await client.send(request_bytes())
    response = await read_response_head(client)
    for number in range(5):
        while b"line %d" % number not in client.buffer:
            await client.fill()
        seen.release()
    await read_body(client, response, until_close=True)
    assert response.complete


async def test_drips_reset_the_read_timeout(stage: Stage) -> None:
    """The timeout counts silence, not the whole transfer."""

    async def drip(peer: Conversation, request: object) -> None:
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
        await peer.drip(b"0123456789", 0.3)

    await stage.proxy(await stage.server(drip), pool={"timeouts": {"read": "2s"}})
    response = await stage.get()
    assert (response.body, response.complete) == (b"0123456789", True)
