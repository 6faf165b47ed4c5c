"""Servers that cannot be reached, do not answer, or answer with something that is not HTTP."""

from __future__ import annotations

import asyncio
import time

import pytest

from support.http import Request, request_bytes
from support.peer import Ended
from support.scripts import mute, reset_at_once, sends
from support.server import Conversation, ok
from support.stage import Stage

SHORT = {"connect": "300ms", "send": "400ms", "read": "400ms"}
ONE_TRY = {"retry": {"tries": 1}}


# Connecting


async def test_refused_get_moves_on(stage: Stage) -> None:
    good = await stage.server()
    await stage.proxy(stage.refused(), good)
    for _ in range(4):
        assert (await stage.get()).status == 200


async def test_refused_post_moves_on(stage: Stage) -> None:
    """A failed connect is always safe to repeat: no byte went out."""
    good = await stage.server()
    await stage.proxy(stage.refused(), good)
    for _ in range(4):
        assert (await stage.post(body=b"once")).status == 200
    assert [request.body for request in good.requests] == [b"once"] * 4


async def test_all_refused_is_a_quick_error(stage: Stage) -> None:
    await stage.proxy(stage.refused(), stage.refused())
    began = time.monotonic()
    assert (await stage.get()).status in (502, 503)
    assert time.monotonic() - began < 2


async def test_blackholed_server_costs_the_connect_timeout_and_no_error(stage: Stage) -> None:
    good = await stage.server()
    await stage.proxy(stage.blackhole(), good, pool={"timeouts": {"connect": "1s"}})
    assert [(await stage.post()).status for _ in range(2)] == [200, 200]


async def test_blackholed_server_is_left_alone_after_max_fails(stage: Stage) -> None:
    good = await stage.server()
    proxy = await stage.proxy(stage.blackhole(), good, pool={"timeouts": {"connect": "1s"}, "max_fails": 2})
    bad = proxy.pools["main"].servers[0]
    while bad.state_name != "down":
        assert (await stage.get()).status == 200
    began = time.monotonic()
    for _ in range(10):
        assert (await stage.get()).status == 200
    # Turn and turn about, five of them would have waited for the connect timeout.
    assert time.monotonic() - began < 4


async def test_those_who_wait_for_a_blackhole_move_on_when_it_is_found_down(stage: Stage) -> None:
    """Once its checks have failed nobody waits for it, not even those who wait already."""
    traffic = asyncio.Event()

    async def script(peer: Conversation, request: Request) -> None:
        if request.target == "/health":
            # Nothing is known of either server until traffic has gone to both.
            await traffic.wait()
        traffic.set()
        await peer.respond(b"ok")

    good = await stage.server(script)
    health = {"path": "/health", "inter": "100ms", "fall": 2, "timeout": "1s"}
    await stage.proxy(stage.blackhole(), good, pool={"timeouts": {"connect": "30s"}, "health": health})
    began = time.monotonic()
    answers = await asyncio.gather(*(stage.get() for _ in range(10)))
    assert {answer.status for answer in answers} == {200}
    assert time.monotonic() - began < 10


# Not answering


async def test_mute_server_is_504_after_the_read_timeout(stage: Stage) -> None:
    server = await stage.server(mute)
    await stage.proxy(server, pool={"timeouts": SHORT})
    began = time.monotonic()
    assert (await stage.get()).status == 504
    assert 0.3 < time.monotonic() - began < 5


async def test_mute_server_is_left_alone_after_max_fails(stage: Stage) -> None:
    bad = await stage.server(mute)
    good = await stage.server()
    proxy = await stage.proxy(bad, good, pool={"timeouts": {"read": "1500ms"}, "max_fails": 2})
    answers = await asyncio.gather(*(stage.get() for _ in range(8)))
    assert {answer.status for answer in answers} <= {200, 504}
    assert proxy.pools["main"].servers[0].state_name == "down"
    asked = len(bad.requests)
    assert {(await stage.get()).status for _ in range(10)} == {200}
    assert len(bad.requests) == asked


async def test_mute_server_with_retry_on_timeout_moves_a_get_on(stage: Stage) -> None:
    bad = await stage.server(mute)
    good = await stage.server()
    await stage.proxy(bad, good, pool={"timeouts": {"read": "1s"}, "retry": {"on": ["connect", "timeout"]}})
    assert [(await stage.get()).status for _ in range(2)] == [200, 200]


async def test_stalled_head_is_504(stage: Stage) -> None:
    server = await stage.server(sends(b"HTTP/1.1 200 OK\r\nContent-Le"))
    await stage.proxy(server, pool={"timeouts": SHORT})
    assert (await stage.get()).status in (502, 504)


async def test_server_that_does_not_read_an_upload_is_given_up(stage: Stage) -> None:
    async def hold(peer: Conversation) -> None:
        await peer.read_until(b"\r\n\r\n")
        await asyncio.sleep(3600)

    server = await stage.server(on_connect=hold)
    await stage.proxy(server, pool={"timeouts": {"send": "400ms", "read": "5s"}})
    client = await stage.connect()
    await client.send(request_bytes("POST", fields={"Content-Length": "100000000"}))

    async def upload() -> None:
        while True:
            await client.send(bytes(65536))

    sending = asyncio.create_task(upload())
    try:
        response = await client.response()
        assert response.status in (502, 504)
    except Ended:
        pass  # a reset: as visible
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


# Ending before the head


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_end_before_the_status_line_moves_a_get_on(stage: Stage, how: str) -> None:
    bad = await stage.server(sends(b"", how))
    good = await stage.server()
    await stage.proxy(bad, good, pool={"max_fails": 0})
    assert [(await stage.get()).body for _ in range(4)] == [b"server2"] * 4
    assert bad.requests


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_end_before_the_status_line_is_502_for_a_post(stage: Stage, how: str) -> None:
    """The server may have acted on it: one clean error, never a second try."""
    bad = await stage.server(sends(b"", how), name="bad")
    good = await stage.server()
    await stage.proxy(bad, good, pool={"max_fails": 0})
    statuses = [(await stage.post()).status for _ in range(4)]
    assert sorted(statuses) == [200, 200, 502, 502]
    assert len(bad.requests) + len(good.requests) == 4


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_end_inside_the_head_is_never_passed_on(stage: Stage, how: str) -> None:
    bad = await stage.server(sends(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Pa", how))
    await stage.proxy(bad, pool=ONE_TRY)
    assert (await stage.get()).status == 502


async def test_reset_right_after_accept_moves_on(stage: Stage) -> None:
    bad = await stage.server(on_connect=reset_at_once)
    good = await stage.server()
    await stage.proxy(bad, good)
    assert [(await stage.get()).status for _ in range(6)] == [200] * 6


# Not HTTP


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n\r\n", id="another-protocol"),
        pytest.param(bytes(range(256)) * 40, id="binary"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n", id="nul"),
        pytest.param(b"HTTP/1.1 200 OK\r\nno colon\r\nContent-Length: 0\r\n\r\n", id="no-colon"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 5x\r\n\r\nhello", id="odd-length"),
        pytest.param(b"HTTP/3.7 200 OK\r\nContent-Length: 0\r\n\r\n", id="odd-version"),
    ],
)
async def test_garbage_is_502(stage: Stage, answer: bytes) -> None:
    server = await stage.server(sends(answer))
    await stage.proxy(server, pool=ONE_TRY)
    assert (await stage.get()).status == 502


@pytest.mark.parametrize("lengths", [b"Content-Length: 5\r\nContent-Length: 6", b"Content-Length: 5, 6"])
async def test_two_lengths_are_502(stage: Stage, lengths: bytes) -> None:
    server = await stage.server(sends(b"HTTP/1.1 200 OK\r\n" + lengths + b"\r\n\r\nhello!"))
    await stage.proxy(server, pool=ONE_TRY)
    assert (await stage.get()).status == 502


async def test_endless_head_is_502(stage: Stage) -> None:
    async def endless(peer: Conversation, request: object) -> None:
        await peer.send(b"HTTP/1.1 200 OK\r\n")
        while True:
            await peer.send(b"X-Filler: " + b"x" * 1000 + b"\r\n")

    server = await stage.server(endless)
    await stage.proxy(server, pool=ONE_TRY)
    assert (await stage.get()).status == 502


async def test_unasked_101_is_502_and_no_tunnel(stage: Stage) -> None:
    switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    server = await stage.server(sends(switch + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON"))
    await stage.proxy(server, pool=ONE_TRY)
    client = await stage.connect()
    response = await client.request()
    assert (response.status, b"POISON" in response.body) == (502, False)
    assert b"POISON" not in client.buffer


async def test_finite_flood_of_1xx_ends_in_the_answer_or_502(stage: Stage) -> None:
    flood = b"HTTP/1.1 102 Processing\r\n\r\n" * 1000
    server = await stage.server(sends(flood + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
    await stage.proxy(server, pool=ONE_TRY)
    response = await stage.get()
    assert (response.status, response.body) == (200, b"ok") or response.status == 502


async def test_endless_flood_of_1xx_is_cut(stage: Stage) -> None:
    async def flood(peer: Conversation, request: object) -> None:
        while True:
            await peer.send(b"HTTP/1.1 102 Processing\r\n\r\n" * 100)

    server = await stage.server(flood)
    await stage.proxy(server, pool=ONE_TRY)
    client = await stage.connect()
    assert (await client.request()).status == 502
    assert not server.failures


# Extra bytes


@pytest.mark.parametrize(
    ("method", "head"),
    [
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        ("GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ],
)
async def test_extra_bytes_never_reach_another_client(stage: Stage, method: str, head: bytes) -> None:
    async def generous(peer: Conversation, request: object) -> None:
        if peer.requests == 1 and peer.number == 1:
            await peer.send(head + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON")
        else:
            await peer.respond(b"clean")

    server = await stage.server(generous)
    await stage.proxy(server)
    first = await stage.connect()
    assert (await first.request(method)).status in (200, 204, 304)
    for _ in range(3):
        assert (await stage.get()).body == b"clean"
    assert (await first.request()).body == b"clean"


async def test_extra_bytes_that_come_late_never_reach_another_client(stage: Stage) -> None:
    async def late(peer: Conversation, request: object) -> None:
        await peer.respond(b"clean")
        if peer.number == 1:
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON")
            await peer.wait_closed()

    server = await stage.server(late)
    await stage.proxy(server)
    for _ in range(5):
        assert (await stage.get()).body == b"clean"


async def test_refusing_server_that_comes_back_gets_traffic_again(stage: Stage) -> None:
    flapping = await stage.server(ok, name="flapping")
    steady = await stage.server(ok, name="steady")
    await stage.proxy(flapping, steady, pool={"max_fails": 1, "fail_window": "300ms"})
    for _ in range(3):
        await flapping.stop()
        assert {(await stage.get()).body for _ in range(4)} == {b"steady"}
        await flapping.start()
        async with asyncio.timeout(5):
            while (await stage.get()).body != b"flapping":
                pass
