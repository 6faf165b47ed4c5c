"""SIGTERM while a real transfer and a real WebSocket are under way."""

from __future__ import annotations

import asyncio
import hashlib
import signal
import time

import pytest
import websockets
from websockets.asyncio.client import connect as connect_websocket
from websockets.asyncio.server import ServerConnection, serve

from support.client import Client, connect, until_refused
from support.http import Request, read_body, read_response_head, request_bytes
from support.peer import Ended
from support.server import Conversation
from support.stage import Stage

BODY = hashlib.sha256(b"stop").digest() * (1 << 20)  # 32 MiB: more than all buffers on the way hold


async def large(peer: Conversation, request: Request) -> None:
    await peer.respond(BODY)


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


async def digest_of_the_rest(client: Client) -> str:
    """Of everything until the end of the connection."""
    sha = hashlib.sha256()
    while data := await client.recv():
        sha.update(data)
    return sha.hexdigest()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_download_under_way_is_finished_and_nobody_new_is_let_in(stage: Stage, number: signal.Signals) -> None:
    server = await stage.server(large)
    process = await stage.process(server, proxy={"shutdown_timeout": "20s"})
    client = await stage.connect()
    await client.send(request_bytes())
    response = await read_response_head(client)
    process.signal(number)
    await process.wait_for_line("stopping")
    await until_refused(stage.address)
    assert process.process.returncode is None
    assert response.fields.get("Content-Length") == str(len(BODY))
    assert await digest_of_the_rest(client) == hashlib.sha256(BODY).hexdigest()
    assert client.ended == "fin"
    assert await process.wait(5) == 0


async def test_a_second_sigterm_does_not_wait_for_a_download(stage: Stage) -> None:
    process = await stage.process(await stage.server(large), proxy={"shutdown_timeout": "60s"})
    client = await stage.connect(receive_buffer=65536)
    await client.send(request_bytes())
    response = await read_response_head(client)
    process.signal(signal.SIGTERM)
    await process.wait_for_line("stopping")
    began = time.monotonic()
    process.signal(signal.SIGTERM)
    assert await process.wait(5) == 128 + signal.SIGTERM
    assert time.monotonic() - began < 5  # not 60
    await read_body(client, response, until_close=True)
    assert not response.complete


async def test_a_websocket_works_until_the_end_of_shutdown_timeout(stage: Stage) -> None:
    async with serve(echo, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        process = await stage.process(f"127.0.0.1:{port}", proxy={"shutdown_timeout": "3s"})
        async with connect_websocket(f"ws://{stage.address}/", proxy=None) as client:
            await client.send("before")
            assert await client.recv() == "before"
            began = time.monotonic()
            process.signal(signal.SIGTERM)
            await process.wait_for_line("stopping")
            await client.send("meanwhile")
            assert await client.recv() == "meanwhile"
            with pytest.raises(websockets.ConnectionClosed):
                await asyncio.wait_for(client.recv(), 10)
            lasted = time.monotonic() - began
            assert await process.wait(5) == 0
        assert 2.9 < lasted < 15


async def test_a_websocket_that_ends_by_itself_ends_the_wait(stage: Stage) -> None:
    async with serve(echo, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        process = await stage.process(f"127.0.0.1:{port}", proxy={"shutdown_timeout": "30s"})
        async with connect_websocket(f"ws://{stage.address}/", proxy=None) as client:
            process.signal(signal.SIGTERM)
            await process.wait_for_line("stopping")
            await client.close()
        assert await process.wait(5) == 0


async def test_an_answer_given_while_stopping_says_that_it_is_the_last(stage: Stage) -> None:
    go = asyncio.Event()

    async def think(peer: Conversation, request: Request) -> None:
        thinking.set()
        await go.wait()
        await peer.respond(b"done")

    thinking = asyncio.Event()
    process = await stage.process(await stage.server(think), proxy={"shutdown_timeout": "20s"})
    client = await stage.connect()
    await client.send(request_bytes())
    await thinking.wait()
    process.signal(signal.SIGTERM)
    await process.wait_for_line("stopping")
    await until_refused(stage.address)
    go.set()
    response = await client.response()
    assert (response.status, response.body) == (200, b"done")
    assert response.fields.has_token("Connection", "close")
    assert await process.wait(5) == 0


async def test_an_idle_client_that_asks_once_more_is_answered_for_the_last_time(stage: Stage) -> None:
    """Its request may have been on the way when we were told to stop; a sudden close would look like a failure."""
    server = await stage.server()
    for _ in range(5):
        process = await stage.process(server, proxy={"shutdown_timeout": "20s"})
        asks, silent = await stage.connect(), await stage.connect()
        for client in (asks, silent):
            assert (await client.request()).status == 200
        began = time.monotonic()
        process.signal(signal.SIGTERM)
        await until_refused(stage.address)
        try:
            response = await asks.request()
        except (Ended, ConnectionError):
            # This machine had no time for us: the half second for a last request was over. It may not end sooner.
            assert time.monotonic() - began > 0.4
            assert await process.wait(5) == 0
            continue
        assert (response.status, response.fields.has_token("Connection", "close")) == (200, True)
        assert await asks.wait_closed() == await silent.wait_closed() == "fin"
        assert await process.wait(5) == 0
        return
    raise AssertionError("five times too late to ask")


async def test_readyz_says_no_while_stopping(stage: Stage) -> None:
    """So that whatever is in front sends nobody else; `healthz` still says that the process lives."""
    server = await stage.server(large)
    process = await stage.process(server, proxy={"shutdown_timeout": "20s"}, admin={"bind": "127.0.0.1:0"})
    client = await stage.connect(receive_buffer=65536)
    await client.send(request_bytes())
    await read_response_head(client)

    async def status(target: str) -> int:
        async with await connect(process.admin_address) as admin:
            return (await admin.request(target=target, host=process.admin_address)).status

    assert [await status("/readyz"), await status("/healthz")] == [200, 200]
    process.signal(signal.SIGTERM)
    # Control hears of it a moment after the log does.
    async with asyncio.timeout(5):
        while (said := await status("/readyz")) != 503:
            assert said == 200
    assert await status("/healthz") == 200
