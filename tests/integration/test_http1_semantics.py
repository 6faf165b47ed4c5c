"""The finer points of HTTP/1.1 through the proxy: expectations, trailers, versions, Host, hop-by-hop, limits."""

from __future__ import annotations

import asyncio

import pytest

from support.http import Request, chunked, read_body, read_response_head, request_bytes
from support.proxies import eventually
from support.scripts import sends
from support.server import Conversation
from support.stage import Stage

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


# Expectations and interim answers


async def test_100_continue_is_the_servers_to_give(stage: Stage) -> None:
    """The expectation reaches the server, its 100 the client, and only then the body moves."""

    async def script(peer: Conversation, request: Request) -> None:
        assert request.fields.get("Expect") == "100-continue"
        assert await peer.is_silent(0.1)
        await peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await read_body(peer, request, until_close=False)
        await peer.respond(request.body)

    await stage.proxy(await stage.server(script, read_body=False))
    client = await stage.connect()
    fields = {"Expect": "100-continue", "Content-Length": "5"}
    await client.send(request_bytes("POST", fields=fields))
    assert (await read_response_head(client)).status == 100
    await client.send(b"hello")
    assert (await client.response()).body == b"hello"


async def test_several_interim_answers_arrive_at_once_and_in_order(stage: Stage) -> None:
    seen = asyncio.Event()

    async def script(peer: Conversation, request: Request) -> None:
        await peer.send(b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
        await seen.wait()
        await peer.respond(b"done")

    await stage.proxy(await stage.server(script))
    client = await stage.connect()
    await client.send(request_bytes())
    heads = [await read_response_head(client) for _ in range(2)]
    assert [head.status for head in heads] == [102, 103]
    assert heads[1].fields.get("Link") == "</a>"
    seen.set()
    assert (await client.response()).body == b"done"


async def test_an_http10_client_gets_no_interim_answers(stage: Stage) -> None:
    await stage.proxy(await stage.server(sends(b"HTTP/1.1 103 Early Hints\r\n\r\n" + ANSWER)))
    response = await stage.get(version="1.0")
    assert (response.status, response.interim) == (200, [])


# Framing


async def test_trailers_go_both_ways(stage: Stage) -> None:
    async def script(peer: Conversation, request: Request) -> None:
        assert request.trailers == [("X-Checksum", "abc")]
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
        await peer.send(head + chunked(b"body", trailers="X-Sum: def\r\n"))

    await stage.proxy(await stage.server(script))
    client = await stage.connect()
    head = request_bytes("POST", fields={"Transfer-Encoding": "chunked", "TE": "trailers"})
    response = await client.raw(head + chunked(b"x", trailers="X-Checksum: abc\r\n"))
    assert (response.body, response.trailers) == (b"body", [("X-Sum", "def")])


async def test_framing_fields_in_trailers_are_dropped_or_refused(stage: Stage) -> None:
    server = await stage.server()
    await stage.proxy(server)
    client = await stage.connect()
    head = request_bytes("POST", fields={"Transfer-Encoding": "chunked"})
    trailers = "Content-Length: 50\r\nHost: evil\r\nX-Fine: 1\r\n"
    response = await client.raw(head + chunked(b"x", trailers=trailers))
    assert response.status in (200, 400)
    for request in server.requests:
        assert [name for name, _ in request.trailers] in ([], ["X-Fine"])


async def test_odd_but_lawful_chunks_are_framed_again(stage: Stage) -> None:
    """Leading zeros, upper case, an extension: the body goes on, not its framing."""
    server = await stage.server()
    await stage.proxy(server)
    client = await stage.connect()
    head = request_bytes("POST", fields={"Transfer-Encoding": "chunked"})
    body = b"0005\r\nhello\r\nA;name=value\r\n0123456789\r\n0\r\n\r\n"
    assert (await client.raw(head + body)).status == 200
    assert server.requests[0].body == b"hello0123456789"


async def test_a_body_until_close_becomes_chunks_and_the_connection_stays(stage: Stage) -> None:
    answer = b"HTTP/1.1 200 OK\r\n\r\nuntil the end"
    await stage.proxy(await stage.server(sends(answer, "close")))
    client = await stage.connect()
    for _ in range(2):
        response = await client.request()
        assert (response.body, response.complete) == (b"until the end", True)


async def test_http10_server(stage: Stage) -> None:
    await stage.proxy(await stage.server(sends(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", "close")))
    client = await stage.connect()
    for _ in range(2):
        response = await client.request()
        assert (response.version, response.body) == ("1.1", b"ok")


async def test_http10_client_with_and_without_keep_alive(stage: Stage) -> None:
    await stage.proxy(await stage.server())
    client = await stage.connect()
    first = await client.request(version="1.0", fields={"Connection": "keep-alive"})
    assert first.fields.has_token("Connection", "keep-alive")
    assert (await client.request(version="1.0")).body == b"server1"
    assert await client.wait_closed() == "fin"


@pytest.mark.parametrize("status", [200, 204, 304, 404])
async def test_head_keeps_the_fields_and_sends_no_body(stage: Stage, status: int) -> None:
    lines = b"HTTP/1.1 %d X\r\nETag: x\r\n" % status
    if status not in (204,):
        lines += b"Content-Length: 1234\r\n"
    await stage.proxy(await stage.server(sends(lines + b"\r\n")))
    client = await stage.connect()
    for _ in range(2):
        response = await client.request("HEAD")
        assert response.status == status
        assert response.fields.get("Content-Length") == (None if status == 204 else "1234")
    assert await client.is_silent(0.05)


async def test_empty_bodies(stage: Stage) -> None:
    server = await stage.server()
    await stage.proxy(server)
    client = await stage.connect()
    assert (await client.request("POST", body=b"")).status == 200
    assert (await client.request("POST")).status == 200
    head = request_bytes("POST", fields={"Transfer-Encoding": "chunked"})
    assert (await client.raw(head + chunked())).status == 200
    assert [(request.body, request.complete) for request in server.requests] == [(b"", True)] * 3


async def test_reason_phrases_and_repeated_fields_survive(stage: Stage) -> None:
    answer = b"HTTP/1.1 299 Quite Fine\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 0\r\n\r\n"
    server = await stage.server(sends(answer))
    await stage.proxy(server)
    response = await stage.get()
    assert (response.status, response.reason) == (299, "Quite Fine")
    assert response.fields.get_all("Set-Cookie") == ["a=1", "b=2"]


# Host and targets


@pytest.mark.parametrize(
    ("wanted", "seen"), [("preserve", "test.example"), ("app.internal", "app.internal"), ("server", None)]
)
async def test_the_host_that_a_server_sees(stage: Stage, wanted: str, seen: str | None) -> None:
    server = await stage.server()
    await stage.proxy(server, route={"upstream_host": wanted})
    await stage.get()
    assert server.requests[0].fields.get("Host") == (seen or server.address)
    assert server.requests[0].fields.get("X-Forwarded-Host") == "test.example"


async def test_absolute_form_replaces_host(stage: Stage) -> None:
    server = await stage.server()
    await stage.proxy(server)
    await stage.get("http://one.example/x?y=z", host="two.example")
    assert server.requests[0].target == "/x?y=z"
    assert server.requests[0].fields.get("Host") == "one.example"


async def test_absolute_form_without_a_path(stage: Stage) -> None:
    server = await stage.server()
    await stage.proxy(server)
    assert (await stage.get("http://one.example?q")).status == 200
    assert (await stage.ask("OPTIONS", "http://one.example")).status == 200
    assert server.targets() == ["/?q", "*"]


@pytest.mark.parametrize(
    "target", ["/%2e%2e/%2F", "/a//b/./c/../d", "/?a=b&c=%zz", "/" + "x" * 16_000, "/\xe4\xf6", "/%00"]
)
async def test_targets_go_on_byte_for_byte(stage: Stage, target: str) -> None:
    server = await stage.server()
    await stage.proxy(server)
    if (await stage.get(target)).status == 200:
        assert server.targets() == [target]
    else:
        assert not target.isascii()


# Hop-by-hop


async def test_fields_named_by_connection_stay_here_both_ways(stage: Stage) -> None:
    async def script(peer: Conversation, request: Request) -> None:
        names = {name.lower() for name, _ in request.fields}
        assert not names & {"x-hop", "keep-alive", "proxy-connection", "te", "upgrade", "proxy-authorization"}
        assert "x-end" in names
        fields = [("Connection", "X-Back"), ("X-Back", "1"), ("Keep-Alive", "timeout=9"), ("X-End", "2")]
        await peer.respond(b"ok", fields=fields)

    await stage.proxy(await stage.server(script))
    fields = {
        "Connection": "X-Hop, keep-alive",
        "X-Hop": "1",
        "Keep-Alive": "timeout=5",
        "Proxy-Connection": "keep-alive",
        "X-End": "2",
    }
    response = await stage.get(fields=fields)
    names = {name.lower() for name, _ in response.fields}
    assert "x-end" in names
    assert not names & {"x-back", "keep-alive"}


async def test_connection_cannot_remove_what_the_proxy_adds(stage: Stage) -> None:
    """Hop-by-hop abuse: naming X-Forwarded-For must not hide the client."""
    server = await stage.server()
    await stage.proxy(server)
    named = "close, X-Forwarded-For, X-Real-IP, X-Forwarded-Proto, Host, Content-Length, X-Request-ID"
    assert (await stage.post(fields={"Connection": named}, body=b"kept")).status == 200
    (request,) = server.requests
    assert request.body == b"kept"
    assert request.fields.get("Host") == "test.example"
    for name in ("X-Forwarded-For", "X-Real-IP", "X-Forwarded-Proto", "X-Request-ID"):
        assert request.fields.get(name), name


async def test_underscores_are_dropped_unless_kept(stage: Stage) -> None:
    server = await stage.server()
    await stage.proxy(server)
    await stage.get(fields={"X_Token": "1", "X-Token": "2"})
    await stage.proxy(server, listener={"underscore_headers": "keep"})
    await stage.get(fields={"X_Token": "1", "X-Token": "2"})
    assert [request.fields.get_all("X_Token") for request in server.requests] == [[], ["1"]]
    assert [request.fields.get_all("X-Token") for request in server.requests] == [["2"], ["2"]]


async def test_via_is_added_when_asked_for(stage: Stage) -> None:
    server = await stage.server()
    await stage.proxy(server, listener={"via": True})
    response = await stage.get(fields={"Via": "1.0 first"})
    assert response.fields.get_all("Via")
    assert ", ".join(server.requests[0].fields.get_all("Via")).startswith("1.0 first, 1.1 ")


# Limits


async def test_what_is_over_a_limit_is_refused_and_what_is_under_is_not(stage: Stage) -> None:
    listener = {"max_head": "2KiB", "max_fields": 10, "max_target": 100}
    await stage.proxy(await stage.server(), listener=listener)
    assert (await stage.get("/" + "x" * 90)).status == 200
    assert (await stage.get("/" + "x" * 101)).status == 414
    assert (await stage.get(fields={f"X-{number}": "y" for number in range(8)})).status == 200
    assert (await stage.get(fields={f"X-{number}": "y" for number in range(11)})).status == 431
    assert (await stage.get(fields={"X": "y" * 1900})).status == 200
    assert (await stage.get(fields={"X": "y" * 2100})).status == 431


async def test_a_refusal_ends_the_connection(stage: Stage) -> None:
    await stage.proxy(await stage.server())
    client = await stage.connect()
    assert (await client.request()).status == 200
    assert (await client.raw(b"GET / HTTP/1.1\r\nHost : a\r\n\r\nGET /next HTTP/1.1\r\n\r\n")).status == 400
    assert await client.wait_closed() == "fin"


async def test_a_chunked_body_over_max_body_is_413_and_cut_at_the_server(stage: Stage) -> None:
    server = await stage.server(read_body=False)

    async def script(peer: Conversation, request: Request) -> None:
        await read_body(peer, request, until_close=False)
        assert not request.complete

    server.script = script
    await stage.proxy(server, route={"max_body": "1KiB"})
    client = await stage.connect()
    await client.send(request_bytes("POST", fields={"Transfer-Encoding": "chunked"}))
    await client.send(b"200\r\n" + bytes(512) + b"\r\n")
    await eventually(lambda: server.requests)
    await client.send(b"400\r\n" + bytes(1024) + b"\r\n")
    assert (await client.response()).status == 413
    await eventually(lambda: not server.open)
