"""Servers that answer before they have read the request: 413 and 401 in the middle of an upload."""

from __future__ import annotations

import asyncio

import pytest

from support.client import Client
from support.http import Response, read_request, request_bytes
from support.scripts import end
from support.server import Conversation
from support.stage import Stage

REFUSAL = b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 7\r\n\r\ntoo big"
UPLOAD = 20_000_000


async def upload(client: Client, size: int = UPLOAD) -> None:
    """Send a POST of `size` bytes; an end by the other side is not this task's concern."""
    await client.send(request_bytes("POST", "/upload", fields={"Content-Length": str(size)}))
    block = bytes(65536)
    while size > 0:
        await client.send(block[:size])
        size -= len(block)


async def answer_to_upload(stage: Stage) -> Response:
    """The answer that a client gets while it uploads."""
    client = await stage.connect()
    sending = asyncio.create_task(upload(client))
    try:
        return await client.response()
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


def refuses_half_way(how: str, read: int) -> object:
    """A server that reads `read` bytes of the body, answers 413 and ends as `how` says."""

    async def script(peer: Conversation) -> None:
        await read_request(peer, with_body=False)
        await peer.read_exactly(read)
        await peer.send(REFUSAL)
        end(peer, how)
        if how == "stay":
            await asyncio.sleep(3600)

    return script


@pytest.mark.parametrize("how", ["close", "reset", "stay"])
@pytest.mark.parametrize("read", [0, 100_000, 5_000_000])
async def test_413_half_way_through_an_upload_reaches_the_client(stage: Stage, how: str, read: int) -> None:
    server = await stage.server(on_connect=refuses_half_way(how, read))
    await stage.proxy(server)
    response = await answer_to_upload(stage)
    assert (response.status, response.body) == (413, b"too big")


async def test_413_reaches_the_client_every_time(stage: Stage) -> None:
    """A write that fails must not discard the answer that was not read yet: no luck involved."""
    server = await stage.server(on_connect=refuses_half_way("reset", 300_000))
    await stage.proxy(server, pool={"max_fails": 0})
    answers = [await answer_to_upload(stage) for _ in range(15)]
    assert [answer.status for answer in answers] == [413] * 15


async def test_401_while_the_server_goes_on_reading(stage: Stage) -> None:
    async def script(peer: Conversation) -> None:
        await read_request(peer, with_body=False)
        await peer.respond(b"who are you", 401)
        await peer.wait_closed()

    await stage.proxy(await stage.server(on_connect=script))
    response = await answer_to_upload(stage)
    assert (response.status, response.body) == (401, b"who are you")


async def test_after_an_early_answer_the_rest_is_never_a_request(stage: Stage) -> None:
    """The unread rest is drained or the connection closes; it is not parsed."""

    async def script(peer: Conversation, request: object) -> None:
        await peer.respond(b"no", 401)
        peer.close()

    server = await stage.server(script, read_body=False)
    await stage.proxy(server)
    client = await stage.connect()
    hidden = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
    await client.send(request_bytes("POST", fields={"Content-Length": str(len(hidden) + 1)}))
    assert (await client.response()).status == 401
    try:
        await client.send(hidden + b"x" + request_bytes(target="/next"))
        await client.wait_closed() if client.ended else await client.is_silent(0.2)
    except ConnectionError:
        pass
    assert "/smuggled" not in server.targets()


async def test_expect_100_refused_without_the_body(stage: Stage) -> None:
    """A server may answer an expectation with 417 and never see the body."""

    async def script(peer: Conversation, request: object) -> None:
        await peer.respond(b"no", 417, [("Connection", "close")])

    server = await stage.server(script, read_body=False)
    await stage.proxy(server)
    client = await stage.connect()
    fields = {"Expect": "100-continue", "Content-Length": "1000"}
    assert (await client.raw(request_bytes("POST", fields=fields))).status == 417


async def test_413_of_the_proxy_itself_reaches_a_client_that_uploads_on(stage: Stage) -> None:
    server = await stage.server()
    await stage.proxy(server, route={"max_body": "1MiB"})
    response = await answer_to_upload(stage)
    assert response.status == 413
    assert not server.requests
