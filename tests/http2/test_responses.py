"""What a client of HTTP/2 gets of an answer in HTTP/1.1. The library `h2` fails the test for what it must not get."""

from __future__ import annotations

import asyncio

import pytest

from support.h2_front import Front, only, whole
from support.http import Request, chunked, read_body
from support.scripts import sends
from support.server import Conversation

NO_ERROR, INTERNAL_ERROR = 0, 2
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def test_fields_are_lower_case_and_those_of_a_connection_stay_here(plain: Front) -> None:
    answer = (
        b"HTTP/1.1 203 Non-Authoritative\r\nX-Upper: Value\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n"
        b"Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\n"
        b"Upgrade: h2c\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    await plain.proxy(await plain.stage.server(sends(answer + chunked(b"body"))))
    async with plain.client() as client:
        response = await client.request()
    assert (response.status, response.body, response.complete) == (203, b"body", True)
    names = {name for name, _ in response.fields}
    assert "x-upper" in names
    assert names == {name.lower() for name in names}
    forbidden = {"connection", "x-hop", "keep-alive", "proxy-connection", "upgrade", "transfer-encoding"}
    assert not names & forbidden
    assert response.fields.get_all("set-cookie") == ["a=1", "b=2"]


@pytest.mark.parametrize("status", [200, 204, 304, 404])
async def test_head_keeps_the_fields_and_gets_no_body(plain: Front, status: int) -> None:
    lines = b"HTTP/1.1 %d X\r\nETag: x\r\n" % status + (b"" if status == 204 else b"Content-Length: 1234\r\n")
    await plain.proxy(await plain.stage.server(sends(lines + b"\r\n")))
    async with plain.client() as client:
        for _ in range(2):
            response = await client.request("HEAD")
            assert (response.status, response.body, response.complete) == (status, b"", True)
            assert response.fields.get("content-length") == (None if status == 204 else "1234")
            assert response.fields.get("etag") == "x"


@pytest.mark.parametrize("status", [204, 304])
async def test_statuses_without_a_body(plain: Front, status: int) -> None:
    await plain.proxy(await plain.stage.server(sends(b"HTTP/1.1 %d X\r\n\r\n" % status)))
    async with plain.client() as client:
        for _ in range(2):
            response = await client.request()
            assert (response.status, response.body, response.complete) == (status, b"", True)


async def test_bodies_in_every_framing_are_one_to_the_client(front: Front) -> None:
    async def script(peer: Conversation, request: Request) -> None:
        head = b"HTTP/1.1 200 OK\r\n"
        if request.target == "/chunked":
            await peer.send(head + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(b"one", b"two"))
        elif request.target == "/length":
            await peer.send(head + b"Content-Length: 6\r\n\r\nonetwo")
        elif request.target == "/close":
            await peer.send(head + b"\r\nonetwo")
            peer.close()
        else:
            await peer.send(b"HTTP/1.0 200 OK\r\n\r\nonetwo")
            peer.close()

    await front.proxy(await front.stage.server(script))
    async with front.client() as client:
        for target in ("/chunked", "/length", "/close", "/1.0"):
            response = await client.request(path=target)
            assert (response.body, response.complete, response.reset) == (b"onetwo", True, None), target


async def test_trailers_of_a_response_arrive(front: Front) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
    await front.proxy(await front.stage.server(sends(head + chunked(b"body", trailers="X-Sum: def\r\n"))))
    async with front.client() as client:
        response = await client.request(fields=[("te", "trailers")])
    assert (response.body, response.trailers, response.complete) == (b"body", [("x-sum", "def")], True)


async def test_trailers_after_an_empty_body(plain: Front) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    await plain.proxy(await plain.stage.server(sends(head + chunked(trailers="X-Sum: def\r\n"))))
    async with plain.client() as client:
        response = await client.request(fields=[("te", "trailers")])
    assert (response.body, response.trailers, response.complete) == (b"", [("x-sum", "def")], True)


# Interim answers


async def test_interim_answers_arrive_at_once_and_in_order(front: Front) -> None:
    seen = asyncio.Event()

    async def script(peer: Conversation, request: Request) -> None:
        await peer.send(b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
        await seen.wait()
        await peer.respond(b"done")

    await front.proxy(await front.stage.server(script))
    async with front.client() as client:
        stream = await client.start()
        await client.until(lambda: len(stream.so_far.interim) == 2, "two interim answers")
        assert [status for status, _ in stream.so_far.interim] == [102, 103]
        assert stream.so_far.interim[1][1] == [("link", "</a>")]
        seen.set()
        assert (await stream.finished()).body == b"done"


async def test_100_continue_is_the_servers_to_give(front: Front) -> None:
    async def script(peer: Conversation, request: Request) -> None:
        assert request.fields.get("Expect") == "100-continue"
        assert await peer.is_silent(0.1)
        await peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await read_body(peer, request, until_close=False)
        await peer.respond(request.body)

    await front.proxy(await front.stage.server(script, read_body=False))
    async with front.client() as client:
        fields = [("expect", "100-continue"), ("content-length", "5")]
        stream = await client.start("POST", fields=fields, end=False)
        await client.until(lambda: stream.so_far.interim, "100")
        assert stream.so_far.interim[0][0] == 100
        await stream.send(b"hello", end=True)
        assert (await stream.finished()).body == b"hello"


async def test_an_expectation_that_is_refused(plain: Front) -> None:
    """The final answer comes instead of the 100, and nothing of the body is wanted."""

    async def script(peer: Conversation, request: Request) -> None:
        await peer.respond(b"no", status=417, fields=[("Connection", "close")])

    await plain.proxy(await plain.stage.server(script, read_body=False))
    async with plain.client() as client:
        stream = await client.start("POST", fields=[("expect", "100-continue")], end=False)
        response = await stream.head_arrived()
        assert response.status == 417
        assert response.interim == []
        await client.until(lambda: stream.so_far.complete, "the whole answer")
        assert stream.response_now().body == b"no"
        assert (await client.request()).status == 417


async def test_a_switch_of_protocols_is_no_answer_to_a_plain_request(plain: Front) -> None:
    """RFC 9113 section 8.6: there is no 101."""
    switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    await plain.proxy(await plain.stage.server(sends(switch)))
    async with plain.client() as client:
        assert (await client.request()).status == 502


# Early answers


@pytest.mark.parametrize("declared", [True, False], ids=["length", "no-length"])
async def test_a_body_too_large_is_refused_and_the_refusal_arrives_whole(front: Front, declared: bool) -> None:
    """After it the rest of the upload is waved off with NO_ERROR (RFC 9113 section 8.1), and others go on."""
    server = await front.stage.server()
    await front.proxy(server, route={"max_body": "1MiB"})
    size = 8 << 20
    async with front.client() as client:
        fields = [("content-length", str(size))] if declared else []
        stream = await client.start("POST", "/large", fields=fields, end=False)
        sending = asyncio.create_task(stream.send(bytes(size)))
        assert await stream.was_reset() == NO_ERROR
        response = await stream.finished()
        assert (response.status, response.complete) == (413, True)
        if length := response.fields.get("content-length"):
            assert response.size == int(length)
        await sending
        assert (await client.request()).status == 200
    assert whole(server) == ["/"]


@pytest.mark.parametrize("then", ["stay", "close"])
async def test_an_answer_of_the_server_before_it_has_read_the_body(front: Front, then: str) -> None:
    async def script(peer: Conversation, request: Request) -> None:
        if request.target == "/":
            await peer.respond()
            return
        await peer.respond(b"too large" * 1000, 413, [("Connection", "close")] if then == "close" else [])
        if then == "stay":
            await peer.wait_closed()

    await front.proxy(await front.stage.server(script, read_body=False))
    size = 16 << 20
    async with front.client() as client:
        stream = await client.start("POST", "/large", fields=[("content-length", str(size))], end=False)
        sending = asyncio.create_task(stream.send(bytes(size)))
        assert await stream.was_reset() == NO_ERROR
        response = await stream.finished()
        assert (response.status, response.body, response.complete) == (413, b"too large" * 1000, True)
        await sending
        assert (await client.request()).status == 200


async def test_an_answer_that_streams_while_the_upload_does(front: Front) -> None:
    """An echo: nothing of either waits for the end of the other."""

    async def script(peer: Conversation, request: Request) -> None:
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(3):
            size = int(await peer.read_until(b"\r\n"), 16)
            block = await peer.read_exactly(size)
            await peer.read_exactly(2)
            await peer.send(b"%x\r\n%s\r\n" % (size, block))
        await peer.read_until(b"0\r\n\r\n")
        await peer.send(b"0\r\n\r\n")

    await front.proxy(await front.stage.server(script, read_body=False))
    async with front.client() as client:
        stream = await client.start("POST", end=False)
        for number in range(1, 4):
            await stream.send(b"block")
            assert (await stream.arrived(5 * number)).body == b"block" * number
        await stream.end()
        assert (await stream.finished()).body == b"block" * 3


# What is no answer


@pytest.mark.parametrize(
    "answer",
    [
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nX: a\x00b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA B: c\r\nContent-Length: 0\r\n\r\n",
        b"",
    ],
)
async def test_a_server_that_answers_nonsense_or_nothing_is_502(plain: Front, answer: bytes) -> None:
    await plain.proxy(await plain.stage.server(sends(answer, "close")), pool={"max_fails": 0})
    async with plain.client() as client:
        for _ in range(2):
            response = await client.request("POST", body=b"x")
            assert (response.status, response.complete) == (502, True)


async def test_all_servers_gone_is_502_or_503(plain: Front) -> None:
    await plain.proxy(plain.stage.refused())
    async with plain.client() as client:
        for _ in range(2):
            assert (await client.request()).status in (502, 503)


async def test_a_request_is_tried_again_at_another_server(plain: Front) -> None:
    server = await plain.stage.server()
    await plain.proxy(plain.stage.refused(), server, pool={"max_fails": 0})
    async with plain.client() as client:
        for _ in range(4):
            assert (await client.request("POST", body=b"x")).body == b"server1"


async def test_a_server_that_is_too_slow_is_504(plain: Front) -> None:
    async def script(peer: Conversation, request: Request) -> None:
        if request.target == "/slow":
            await peer.wait_closed()
        else:
            await peer.respond()

    await plain.proxy(await plain.stage.server(script), pool={"timeouts": {"read": "1s"}, "max_fails": 0})
    async with plain.client() as client:
        slow = await client.start(path="/slow")
        assert (await client.request()).status == 200
        assert (await slow.finished()).status == 504


async def test_a_redirecting_listener(plain: Front) -> None:
    server = await plain.stage.server()
    await plain.proxy(server, listener={"redirect": "https"})
    async with plain.client() as client:
        response = await client.request(path="/x?y", authority="files.example")
    assert (response.status, response.fields.get("location")) == (308, "https://files.example/x?y")
    assert server.targets() == []


async def test_via_names_the_protocol_that_was_spoken(plain: Front) -> None:
    """RFC 9110 section 7.6.3: of the message that was received."""
    server = await plain.stage.server()
    await plain.proxy(server, listener={"via": True})
    async with plain.client() as client:
        response = await client.request()
    via = only(server).fields.get("Via")
    assert via is not None
    assert via.startswith("2")
    assert (response.fields.get("via") or "").startswith("1.1")
