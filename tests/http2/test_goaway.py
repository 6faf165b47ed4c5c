"""GOAWAY: how a connection is ended so that no request is lost (RFC 9113 section 6.8)."""

from __future__ import annotations

import asyncio
import signal

import pytest

from support.client import until_refused
from support.h2_client import H2Client
from support.h2_front import Front
from support.h2_stream import H2Stream
from support.http import Request
from support.proxies import ProxyProcess, Settings, eventually
from support.scripts import HeldBelow
from support.server import Conversation, Server

NO_ERROR, LAST_OF_ALL = 0, 2**31 - 1
GRACE = {"shutdown_timeout": "20s"}


class Late:
    """Opens a stream when the first GOAWAY arrives, before the server hears of anything that came after it.

    The first GOAWAY only announces; what was on its way by then has to be served.
    """

    def __init__(self, client: H2Client) -> None:
        self.client = client
        self.stream: H2Stream | None = None
        client.on_goaway = self

    def __call__(self) -> None:
        if self.stream is None:
            # What h2 has to say by now (the answer to a PING, from which a server sees that its word has arrived)
            # leaves after the request.
            said = self.client.h2.data_to_send()
            self.stream = self.client.open("GET", "/late")
            asked = self.client.h2.data_to_send()
            self.client.queue(asked + said)


async def check_two_steps(client: H2Client, streams: list[H2Stream], late: Late) -> None:
    """Announced, then final; everything up to the final one is answered, and the connection ends clean."""
    assert await client.goaway(1) == (LAST_OF_ALL, NO_ERROR)
    last, code = await client.goaway(2)
    assert code == NO_ERROR
    assert late.stream is not None
    assert last >= late.stream.number
    for stream in [*streams, late.stream]:
        response = await stream.finished()
        assert (response.status, response.complete) == (200, True)
    assert await client.wait_closed() == "fin"
    assert len(client.goaways) == 2


async def held_streams(client: H2Client, held: HeldBelow, count: int) -> list[H2Stream]:
    """Requests that are at the server and wait there."""
    streams = [await client.start(path=f"/held/{number}") for number in range(count)]
    await eventually(lambda: held.held.waiting == count, 20, what="all requests at the server")
    return streams


async def test_stop_announces_finishes_and_ends(front: Front) -> None:
    held = HeldBelow()
    process = await front.process(await front.stage.server(held), proxy=GRACE)
    async with front.client() as client:
        late = Late(client)
        streams = await held_streams(client, held, 5)
        process.signal(signal.SIGTERM)
        await client.goaway(1)
        await until_refused(front.stage.address)
        held.held.release()
        await check_two_steps(client, streams, late)
    assert await process.wait(10) == 0


async def test_stop_with_an_upload_and_a_download_under_way(front: Front) -> None:
    async def script(peer: Conversation, request: Request) -> None:
        await peer.respond(bytes(4 << 20) if request.method == "GET" else b"%d" % len(request.body))

    process = await front.process(await front.stage.server(script), proxy=GRACE)
    async with front.client(window=65535) as client:
        download = await client.start(path="/down", credit=False)
        await download.arrived(65535)
        upload = await client.start("POST", "/up", end=False)
        await upload.send(bytes(1000))
        process.signal(signal.SIGTERM)
        await client.goaway(2)
        await download.give_credit(8 << 20)
        await upload.send(bytes(1 << 20), end=True)
        assert (await upload.finished()).body == b"%d" % ((1 << 20) + 1000)
        response = await download.finished()
        assert (response.size, response.complete) == (4 << 20, True)
        assert await client.wait_closed() == "fin"
    assert await process.wait(10) == 0


async def test_stop_ends_an_idle_connection_soon(plain: Front) -> None:
    process = await plain.process(await plain.stage.server(), proxy={"shutdown_timeout": "60s"})
    async with plain.client() as client:
        assert (await client.request()).status == 200
        process.signal(signal.SIGTERM)
        assert await client.goaway(1) == (LAST_OF_ALL, NO_ERROR)
        assert await client.goaway(2) == (1, NO_ERROR)
        assert await client.wait_closed(15) == "fin"
    assert await process.wait(10) == 0


async def test_stop_does_not_wait_for_ever(plain: Front) -> None:
    """Who does not finish in the time given is cut off, visibly."""
    held = HeldBelow()
    process = await plain.process(await plain.stage.server(held), proxy={"shutdown_timeout": "300ms"})
    async with plain.client() as client:
        (stream,) = await held_streams(client, held, 1)
        process.signal(signal.SIGTERM)
        await client.wait_closed(15)
        assert not stream.so_far.complete
    assert await process.wait(10) == 0
    held.held.release()


def elsewhere(plain: Front, server: Server, bound: str) -> Settings:
    """The configuration with `server`, and with its listener at `bound`."""
    return {
        "proxy": GRACE,
        "log": {"access": "off"},
        "listeners": [plain.listener(bind=bound)],
        "routes": [{"path": "/", "pool": "main"}],
        "pools": {"main": {"servers": [{"address": server.address}]}},
    }


@pytest.fixture
def held() -> HeldBelow:
    return HeldBelow()


async def reload_in_flight(
    front: Front, process: ProxyProcess, client: H2Client, held: HeldBelow, new: Settings
) -> None:
    """A reload while requests are under way: they are finished, and the connection then ends."""
    late = Late(client)
    streams = await held_streams(client, held, 3)
    await process.put_into_force(new)
    await client.goaway(1)
    held.held.release()
    await check_two_steps(client, streams, late)


async def test_a_listener_that_goes_by_a_reload_takes_leave(front: Front, held: HeldBelow) -> None:
    server = await front.stage.server(held)
    process = await front.process(server, proxy=GRACE, listener={"bind": front.stage.free_address()})
    async with front.client() as client:
        new = elsewhere(front, server, front.stage.free_address())
        await reload_in_flight(front, process, client, held, new)
    await until_refused(front.stage.address)


async def test_a_listener_that_changes_takes_leave_of_its_old_connections(plain: Front, held: HeldBelow) -> None:
    server = await plain.stage.server(held)
    bound = plain.stage.free_address()
    process = await plain.process(server, proxy=GRACE, listener={"bind": bound})
    async with plain.client() as client:
        new = elsewhere(plain, server, bound)
        new["listeners"][0]["via"] = True
        await reload_in_flight(plain, process, client, held, new)
    async with plain.client() as client:
        assert (await client.request()).fields.get("via")


async def test_a_reload_that_changes_nothing_of_the_listener_keeps_its_connections(
    plain: Front, held: HeldBelow
) -> None:
    server = await plain.stage.server(held)
    bound = plain.stage.free_address()
    process = await plain.process(server, proxy=GRACE, listener={"bind": bound})
    async with plain.client() as client:
        (stream,) = await held_streams(client, held, 1)
        other = await plain.stage.server()
        await process.put_into_force(elsewhere(plain, other, bound))
        await eventually_answered_by(client, b"server2")
        held.held.release()
        assert (await stream.finished()).body == b"server1"
        assert client.goaways == []


async def eventually_answered_by(client: H2Client, name: bytes) -> None:
    """Requests go to the server of the new configuration, over the connection from before."""
    async with asyncio.timeout(20):
        while (await client.request()).body != name:
            await asyncio.sleep(0.01)


async def test_goaway_of_the_client_lets_its_streams_finish(front: Front, held: HeldBelow) -> None:
    await front.proxy(await front.stage.server(held))
    async with front.client() as client:
        streams = await held_streams(client, held, 2)
        await client.send_bytes(b"\0\0\x08\7\0\0\0\0\0" + bytes(8))
        await client.ping()
        held.held.release()
        assert {(await stream.finished()).complete for stream in streams} == {True}
        assert await client.wait_closed() == "fin"
