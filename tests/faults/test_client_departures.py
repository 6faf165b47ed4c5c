"""Clients that go away in the middle, at every point, and those that talk nonsense or too much."""

from __future__ import annotations

import asyncio

import pytest

from support.http import Request, chunked, read_response_head, request_bytes
from support.peer import Ended
from support.proxies import entry, eventually
from support.scripts import Held, mute
from support.server import Conversation
from support.stage import Stage


class Receives:
    """A server that notes whether an upload came to its proper end, or how it was cut."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.over = asyncio.Event()
        self.how = ""

    async def __call__(self, peer: Conversation, request: Request) -> None:
        self.began.set()
        data = b""
        while more := await peer.recv():
            data += more
        self.how = "complete" if data.endswith(b"0\r\n\r\n") else peer.ended or ""
        self.over.set()


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("leave", ["half_close", "close", "reset"])
async def test_a_cut_upload_never_looks_complete_to_the_server(stage: Stage, framing: str, leave: str) -> None:
    """Five of fifty bytes, or a chunk without the last one: the server sees the end, not a request."""
    script = Receives()
    await stage.proxy(await stage.server(script, read_body=False))
    client = await stage.connect()
    fields = {"Content-Length": "50"} if framing == "length" else {"Transfer-Encoding": "chunked"}
    await client.send(request_bytes("POST", fields=fields))
    await client.send(b"hello" if framing == "length" else b"5\r\nhello\r\n")
    await script.began.wait()
    getattr(client, leave)()
    await asyncio.wait_for(script.over.wait(), 10)
    assert script.how in ("reset", "fin")


async def test_a_client_that_leaves_a_download_stops_the_server(stage: Stage) -> None:
    stopped = asyncio.Event()

    async def endless(peer: Conversation, request: Request) -> None:
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            while True:
                await peer.send(b"%x\r\n" % 65536 + bytes(65536) + b"\r\n")
        except ConnectionError:
            stopped.set()

    await stage.proxy(await stage.server(endless))
    client = await stage.connect()
    await client.send(request_bytes())
    await read_response_head(client)
    client.close()
    await asyncio.wait_for(stopped.wait(), 10)


async def test_a_client_that_leaves_a_stalled_download_stops_the_server(stage: Stage) -> None:
    """Nothing is being written: only the client's reset tells."""
    ended = asyncio.Event()

    async def stalls(peer: Conversation, request: Request) -> None:
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello")
        await peer.wait_closed()
        ended.set()

    await stage.proxy(await stage.server(stalls))
    client = await stage.connect()
    await client.send(request_bytes())
    await read_response_head(client)
    client.reset()
    await asyncio.wait_for(ended.wait(), 10)


async def test_a_client_that_leaves_the_queue_is_never_sent_to_a_server(stage: Stage) -> None:
    held = Held()
    server = await stage.server(held)
    proxy = await stage.proxy(entry(server, max_connections=1))
    first = asyncio.create_task(stage.get("/first"))
    await eventually(lambda: held.waiting == 1)
    leaving = await stage.connect()
    await leaving.send(request_bytes(target="/left"))
    await eventually(lambda: proxy.pools["main"].queued == 1)
    leaving.reset()
    await eventually(lambda: proxy.pools["main"].queued == 0)
    held.release()
    assert (await first).status == 200
    assert (await stage.get("/after")).status == 200
    assert server.targets() == ["/first", "/after"]


async def test_a_client_that_leaves_during_the_connect_leaves_nothing_behind(stage: Stage) -> None:
    proxy = await stage.proxy(stage.blackhole(), pool={"timeouts": {"connect": "30s"}})
    live = proxy.pools["main"].servers[0]
    client = await stage.connect()
    await client.send(request_bytes())
    await eventually(lambda: live.active == 1)
    client.reset()
    await eventually(lambda: live.active == 0, 10, what="the connect given up")


async def test_many_clients_that_leave_leave_nothing_behind(stage: Stage) -> None:
    server = await stage.server(mute)
    proxy = await stage.proxy(server)
    clients = [await stage.connect() for _ in range(50)]
    for client in clients:
        await client.send(request_bytes())
    await eventually(lambda: len(server.requests) == 50)
    for client in clients:
        client.reset()
    await eventually(lambda: not server.open, 10, what="every connection to the server closed")
    assert proxy.pools["main"].servers[0].active == 0


@pytest.mark.parametrize(
    "noise",
    [
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), id="TLS"),
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n\r\n", id="SSH"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(100), id="HTTP/2"),
        pytest.param(b"\0" * 100_000, id="zeros"),
        pytest.param(b"A" * 200_000, id="endless-method"),
        pytest.param(b"\r\n" * 50_000, id="empty-lines"),
    ],
)
async def test_noise_is_refused_and_reaches_no_server(stage: Stage, noise: bytes) -> None:
    server = await stage.server()
    await stage.proxy(server)
    client = await stage.connect()
    try:
        await client.send(noise)
        answer = await client.read_to_end()
    except ConnectionError:
        answer = b""
    assert answer[:10] in (b"HTTP/1.1 4", b"HTTP/1.1 5", b"")
    assert not server.connections
    assert (await stage.get()).status == 200


async def test_an_endless_chunk_extension_is_refused(stage: Stage) -> None:
    script = Receives()
    await stage.proxy(await stage.server(script, read_body=False))
    client = await stage.connect()
    head = request_bytes("POST", fields={"Transfer-Encoding": "chunked"})
    try:
        await client.send(head + b"5;" + b"a" * 100_000)
        response = await client.response()
    except (Ended, ConnectionError):
        return
    assert response.status == 400


async def test_a_slow_upload_that_moves_is_not_timed_out(stage: Stage) -> None:
    server = await stage.server()
    await stage.proxy(server, listener={"body_timeout": "2s"}, pool={"timeouts": {"read": "2s"}})
    client = await stage.connect()
    await client.send(request_bytes("POST", fields={"Content-Length": "10"}))
    await client.drip(b"0123456789", 0.3)
    assert (await client.response()).status == 200
    assert server.requests[0].body == b"0123456789"


async def test_an_expectation_whose_body_never_comes_is_timed_out(stage: Stage) -> None:
    async def waits(peer: Conversation, request: Request) -> None:
        await peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await peer.wait_closed()

    server = await stage.server(waits, read_body=False)
    await stage.proxy(server, listener={"body_timeout": "1500ms"})
    client = await stage.connect()
    await client.send(request_bytes("POST", fields={"Expect": "100-continue", "Content-Length": "5"}))
    response = await client.response()
    assert [interim.status for interim in response.interim] == [100]
    assert response.status == 408
    await eventually(lambda: not server.open, 10)


async def test_pipelining_without_reading_is_held_back(stage: Stage) -> None:
    """A client that sends requests and reads no answers stops being read."""

    async def big(peer: Conversation, request: Request) -> None:
        await peer.respond(bytes(100_000))

    server = await stage.server(big)
    await stage.proxy(server)
    client = await stage.connect(receive_buffer=16384)
    client.patience = 30
    pouring = asyncio.create_task(client.send(request_bytes() * 20_000))
    await eventually(lambda: server.requests, what="the first request")
    before = -1
    while len(server.requests) != before:
        before = len(server.requests)
        await asyncio.sleep(0.5)
    assert 0 < before < 400
    pouring.cancel()
    await asyncio.gather(pouring, return_exceptions=True)


async def test_a_thousand_pipelined_requests_are_answered_in_order(stage: Stage) -> None:
    async def says_target(peer: Conversation, request: Request) -> None:
        await peer.respond(request.target.encode())

    await stage.proxy(await stage.server(says_target))
    client = await stage.connect()
    sending = asyncio.create_task(client.send(b"".join(request_bytes(target=f"/{number}") for number in range(1000))))
    for number in range(1000):
        assert (await client.response()).body == b"/%d" % number
    await sending


async def test_a_pipelined_request_behind_a_chunked_one(stage: Stage) -> None:
    server = await stage.server()
    await stage.proxy(server)
    client = await stage.connect()
    upload = request_bytes("POST", "/one", fields={"Transfer-Encoding": "chunked"}) + chunked(b"a", b"b")
    await client.send(upload + request_bytes(target="/two"))
    assert [(await client.response()).status for _ in range(2)] == [200, 200]
    assert server.targets() == ["/one", "/two"]


async def test_noise_behind_a_good_request_costs_only_the_noise(stage: Stage) -> None:
    server = await stage.server()
    await stage.proxy(server)
    client = await stage.connect()
    await client.send(request_bytes(target="/good") + b"\0\1 noise\r\n\r\n")
    assert [(await client.response()).status for _ in range(2)] == [200, 400]
    assert await client.wait_closed() == "fin"
    assert server.targets() == ["/good"]


async def test_what_is_pipelined_behind_the_last_request_is_not_served(stage: Stage) -> None:
    """After `Connection: close`, by the client or by max_requests, nothing more is a request."""
    server = await stage.server()
    await stage.proxy(server, listener={"max_requests": 2})
    client = await stage.connect()
    await client.send(b"".join(request_bytes(target=f"/{number}") for number in range(4)))
    assert not (await client.response()).fields.has_token("Connection", "close")
    assert (await client.response()).fields.has_token("Connection", "close")
    assert await client.wait_closed() == "fin"
    other = await stage.connect()
    await other.send(request_bytes(target="/last", fields={"Connection": "close"}) + request_bytes())
    assert (await other.response()).status == 200
    assert await other.wait_closed() == "fin"
    assert server.targets() == ["/0", "/1", "/last"]
