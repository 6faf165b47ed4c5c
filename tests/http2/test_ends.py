"""How streams end before their time, from either side, and that their neighbours do not notice."""

from __future__ import annotations

import asyncio

import pytest
from h2.settings import SettingCodes

from support.h2_client import H2Client
from support.h2_front import Front, whole
from support.http import Request, chunked, read_body
from support.proxies import eventually
from support.scripts import Held, HeldBelow
from support.server import Conversation

NO_ERROR, INTERNAL_ERROR, REFUSED_STREAM, CANCEL = 0, 2, 7, 8
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"


class Watched:
    """A script that begins an answer of 1 MB, or none at all for /silent, and notes that its connection ended.

    `/` is answered at once. Bodies are read as far as they come.
    """

    def __init__(self, begin: bytes = HEAD + bytes(1000)) -> None:
        self.begin = begin
        self.begun = asyncio.Event()
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def __call__(self, peer: Conversation, request: Request) -> None:
        if request.target == "/":
            await read_body(peer, request, until_close=False)
            await peer.respond(b"fine")
            return
        if request.target != "/silent":
            await peer.send(self.begin)
        self.begun.set()
        self.ended.set_result(await peer.wait_closed())

    async def end(self) -> str:
        """How the proxy has ended the connection to the server, awaited."""
        async with asyncio.timeout(20):
            return await self.ended


async def is_fine(client: H2Client) -> None:
    """The connection still carries requests."""
    response = await client.request("POST", body=b"x")
    assert (response.status, response.body, response.complete) == (200, b"fine", True)


# The client ends it


@pytest.mark.parametrize("code", [CANCEL, NO_ERROR, INTERNAL_ERROR])
@pytest.mark.parametrize("target", ["/silent", "/begun"])
async def test_a_cancelled_stream_cancels_its_request(front: Front, target: str, code: int) -> None:
    watched = Watched()
    await front.proxy(await front.stage.server(watched, read_body=False))
    async with front.client() as client:
        stream = await client.start(path=target)
        await watched.begun.wait()
        if target == "/begun":
            await stream.arrived(1000)
        await stream.cancel(code)
        await watched.end()
        await is_fine(client)


@pytest.mark.parametrize("length", [True, False], ids=["length", "no-length"])
async def test_a_cancelled_upload_never_looks_whole(front: Front, length: bool) -> None:
    got: asyncio.Queue[bytes] = asyncio.Queue()

    async def script(peer: Conversation, request: Request) -> None:
        if request.target == "/":
            await peer.respond(b"fine")
            return
        while (data := await peer.recv()) or not peer.ended:
            got.put_nowait(data)
        got.put_nowait(b"")

    await front.proxy(await front.stage.server(script, read_body=False))
    async with front.client() as client:
        fields = [("content-length", "100")] if length else []
        stream = await client.start("POST", "/cut", fields=fields, end=False)
        await stream.send(b"half")
        body = b""
        async with asyncio.timeout(20):
            while b"half" not in body:
                body += await got.get()
            await stream.cancel()
            while data := await got.get():
                body += data
        assert (await client.request()).body == b"fine"
    assert body == (b"half" if length else b"4\r\nhalf\r\n")


async def test_what_is_cancelled_in_the_queue_reaches_no_server(plain: Front) -> None:
    held = HeldBelow()
    server = await plain.stage.server(held)
    one = {"address": server.address, "max_connections": 1}
    await plain.proxy(one, pool={"queue_timeout": "20s"})
    async with plain.client() as client:
        first = await client.start(path="/held")
        await eventually(lambda: held.held.waiting == 1, what="the first at the server")
        waiting = [await client.start(path=f"/held/{number}") for number in range(3)]
        await client.ping()
        await waiting[1].cancel()
        await client.ping()
        held.held.release()
        assert (await first.finished()).status == 200
        assert [(await waiting[n].finished()).status for n in (0, 2)] == [200, 200]
    assert sorted(whole(server)) == ["/held", "/held/0", "/held/2"]


async def test_a_client_that_vanishes_takes_all_its_requests_along(front: Front) -> None:
    held = Held()
    server = await front.stage.server(held)
    proxy = await front.proxy(server)
    async with front.client() as client:
        for number in range(10):
            await client.start(path=f"/{number}")
        await eventually(lambda: held.waiting == 10, what="all at the server")
        await client.abort()
    await eventually(lambda: proxy.pools["main"].servers[0].active == 0, 20, what="no request in progress")
    # The server sees it when it looks: the script is still busy with each of them.
    held.release()
    await eventually(lambda: not server.open, what="the end of all connections")


async def test_reset_streams_leave_no_trace(plain: Front) -> None:
    """A client that gives up often, as impatient people do, is no attack and not held against it."""
    watched = Held()
    server = await plain.stage.server(watched)
    proxy = await plain.proxy(server)
    async with plain.client() as client:
        for _ in range(20):
            stream = await client.start(path="/given-up")
            await client.ping()
            await stream.cancel()
            await client.ping()
        watched.release()
        assert (await client.request()).status == 200
        assert client.goaways == []
    await eventually(lambda: proxy.pools["main"].servers[0].active == 0, what="no request in progress")


# The server ends it


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize(
    "begin",
    [
        pytest.param(HEAD + bytes(1000), id="length"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(bytes(1000))[: -len("0\r\n\r\n")],
            id="chunked",
        ),
    ],
)
async def test_a_server_that_dies_in_its_answer_breaks_that_stream_alone(
    front: Front, begin: bytes, how: str
) -> None:
    """The cut is visible: RST_STREAM(INTERNAL_ERROR), never an end that looks whole."""
    now = asyncio.Event()

    async def script(peer: Conversation, request: Request) -> None:
        if request.target == "/":
            await peer.respond(b"fine")
            return
        await peer.send(begin)
        await now.wait()
        peer.reset() if how == "reset" else peer.close()

    held = Held()
    other = await front.stage.server(held)
    server = await front.stage.server(script)
    pools = {s.name: {"servers": [{"address": s.address}]} for s in (server, other)}
    await front.proxy(
        pools=pools, routes=[{"path": "/", "pool": server.name}, {"path": "/other", "pool": other.name}]
    )
    async with front.client() as client:
        neighbour = await client.start(path="/other")
        stream = await client.start(path="/dies")
        await stream.arrived(1000)
        now.set()
        assert await stream.was_reset() == INTERNAL_ERROR
        response = stream.response_now()
        assert (response.status, response.size, response.complete) == (200, 1000, False)
        await is_fine(client)
        held.release()
        assert (await neighbour.finished()).complete


async def test_a_reset_where_only_the_close_would_end_the_body(front: Front) -> None:
    now = asyncio.Event()

    async def script(peer: Conversation, request: Request) -> None:
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\n" + bytes(1000))
        await now.wait()
        peer.reset()

    await front.proxy(await front.stage.server(script))
    async with front.client() as client:
        stream = await client.start()
        await stream.arrived(1000)
        now.set()
        assert await stream.was_reset() == INTERNAL_ERROR
        assert not stream.so_far.complete


async def test_a_server_that_dies_in_an_upload(front: Front) -> None:
    async def script(peer: Conversation, request: Request) -> None:
        if request.target == "/":
            await peer.respond(b"fine")
            return
        await peer.recv()
        peer.reset()

    await front.proxy(await front.stage.server(script, read_body=False), pool={"max_fails": 0})
    async with front.client() as client:
        stream = await client.start("POST", "/dies", end=False)
        sending = asyncio.create_task(stream.send(bytes(8 << 20), end=True))
        response = await stream.finished()
        assert response.status == 502 or response.reset not in (None, NO_ERROR), response
        await sending
        assert (await client.request()).body == b"fine"


# Deadlines


async def test_an_upload_that_stalls_is_ended(plain: Front) -> None:
    await plain.proxy(await plain.stage.server(Watched(), read_body=False), listener={"body_timeout": "1s"})
    async with plain.client() as client:
        stream = await client.start("POST", "/silent", end=False)
        await stream.send(b"beginning")
        response = await stream.finished()
        assert response.status == 408 or response.reset is not None, response
        await is_fine(client)


async def test_a_client_that_takes_nothing_is_ended(plain: Front) -> None:
    """It gives no credit on one stream; that stream ends, the others go on."""

    async def script(peer: Conversation, request: Request) -> None:
        await peer.respond(bytes(1 << 20) if request.target == "/large" else b"fine")

    await plain.proxy(await plain.stage.server(script), listener={"send_timeout": "500ms"})
    async with plain.client(window=65535) as client:
        stream = await client.start(path="/large", credit=False)
        assert (await stream.arrived(65535)).size == 65535
        await is_fine(client)
        assert await stream.was_reset() not in (None, NO_ERROR)
        await is_fine(client)


async def test_an_idle_connection_is_ended_with_a_word(front: Front) -> None:
    await front.proxy(await front.stage.server(), listener={"idle_timeout": "1s"})
    async with front.client() as client:
        assert (await client.request()).status == 200
        _, code = await client.goaway()
        assert code == NO_ERROR
        assert await client.wait_closed() == "fin"
        last, code = client.goaways[-1]
        assert (last, code) == (1, NO_ERROR)


async def test_a_client_that_never_begins_is_ended(plain: Front) -> None:
    await plain.proxy(await plain.stage.server(), listener={"header_timeout": "300ms"})
    client = await plain.stage.connect()
    await client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n")
    assert await client.wait_closed() in ("fin", "reset")


async def test_a_head_that_is_never_finished_is_ended(plain: Front) -> None:
    """HEADERS without END_HEADERS and nothing after: nobody else can use the connection either."""
    server = await plain.stage.server()
    await plain.proxy(server, listener={"header_timeout": "1s"})
    async with plain.client() as client:
        await client.ping()
        await client.send_bytes(b"\0\0\1\1\0\0\0\0\1\x82")
        assert await client.wait_closed() in ("fin", "reset")
    assert server.requests == []


# Limits


async def test_as_many_streams_as_are_allowed_and_none_more(plain: Front) -> None:
    """One beyond what SETTINGS say is refused, or costs its client the connection (RFC 9113 section 5.1.2)."""
    held = Held()
    server = await plain.stage.server(held)
    await plain.proxy(server)
    async with plain.client() as client:
        limit = (await client.settings_arrived())[SettingCodes.MAX_CONCURRENT_STREAMS]
        assert 100 <= limit <= 1000
        streams = [await client.start(path=f"/{number}") for number in range(limit)]
        await eventually(lambda: held.waiting == limit, 30, what="as many requests as may be at once")
        held.release()
        assert {(await stream.finished()).status for stream in streams} == {200}
        beyond = Held()
        server.script = beyond
        client.h2.remote_settings[SettingCodes.MAX_CONCURRENT_STREAMS] = limit + 10
        client.h2.remote_settings.acknowledge()
        for number in range(limit + 10):
            await client.start(path=f"/beyond/{number}")
        await client.until(lambda: client.goaways or len(refused(client)) == 10, "the refusal of ten")
    assert beyond.most <= limit


def refused(client: H2Client) -> list[int]:
    """The streams that may be tried again elsewhere."""
    return [number for number, stream in client.streams.items() if stream.so_far.reset == REFUSED_STREAM]


async def test_a_connection_ends_after_the_requests_it_may_have(front: Front) -> None:
    server = await front.stage.server()
    await front.proxy(server, listener={"max_requests": 3})
    async with front.client() as client:
        for _ in range(3):
            assert (await client.request()).complete
        _, code = await client.goaway()
        assert code == NO_ERROR
        assert await client.wait_closed() == "fin"
    assert len(server.requests) == 3
