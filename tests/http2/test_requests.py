"""What a server is sent when a client speaks HTTP/2: a request of HTTP/1.1 that says the same."""

from __future__ import annotations

import pytest

from support.h2_front import Front, only
from support.http import Request
from support.server import Conversation


async def mirror(peer: Conversation, request: Request) -> None:
    """The body back."""
    await peer.respond(request.body)


async def test_a_get_becomes_a_request_line_and_fields(front: Front) -> None:
    server = await front.stage.server()
    await front.proxy(server)
    async with front.client() as client:
        response = await client.request("GET", "/a%2Fb//c?q=1&r=%20", fields=[("x-one", "1"), ("user-agent", "h2")])
    assert (response.status, response.body, response.complete, response.reset) == (200, b"server1", True, None)
    request = only(server)
    assert (request.method, request.target, request.version) == ("GET", "/a%2Fb//c?q=1&r=%20", "1.1")
    assert request.fields.get("Host") == "test.example"
    assert request.fields.get("X-One") == "1"
    assert request.fields.get("User-Agent") == "h2"
    assert request.framing == "none"
    assert not [name for name, _ in request.fields if name.startswith(":")]


async def test_the_server_is_told_about_the_client(front: Front) -> None:
    server = await front.stage.server()
    await front.proxy(server)
    async with front.client() as client:
        forged = [("x-forwarded-for", "6.6.6.6"), ("x-forwarded-proto", "gopher"), ("x-real-ip", "6.6.6.6")]
        await client.request(fields=forged)
    fields = only(server).fields
    assert fields.get("X-Forwarded-For") == "127.0.0.1"
    assert fields.get("X-Forwarded-Proto") == front.scheme
    assert fields.get("X-Forwarded-Host") == "test.example"
    assert fields.get("X-Real-IP") == "127.0.0.1"
    assert fields.get("X-Request-ID")


@pytest.mark.parametrize("method", ["HEAD", "DELETE", "OPTIONS", "PATCH", "PROPFIND"])
async def test_other_methods_go_on_as_they_are(plain: Front, method: str) -> None:
    server = await plain.stage.server()
    await plain.proxy(server)
    async with plain.client() as client:
        response = await client.request(method, "/x")
        assert (response.status, response.complete) == (200, True)
        assert (await client.request()).body == b"server1"
    assert server.requests[0].method == method


async def test_options_of_the_whole_server(plain: Front) -> None:
    server = await plain.stage.server()
    await plain.proxy(server)
    async with plain.client() as client:
        response = await client.request("OPTIONS", "*")
    assert response.status in {200, 404}
    assert server.targets() in (["*"], [])


async def test_a_body_without_a_length_is_sent_on_in_chunks(front: Front) -> None:
    server = await front.stage.server(mirror)
    await front.proxy(server)
    async with front.client() as client:
        response = await client.request("POST", body=b"payload" * 1000)
    assert response.body == b"payload" * 1000
    assert only(server).framing == "chunked"


async def test_a_body_with_a_length_keeps_it(front: Front) -> None:
    server = await front.stage.server(mirror)
    await front.proxy(server)
    async with front.client() as client:
        response = await client.request("POST", body=b"payload", fields=[("content-length", "7")])
    assert response.body == b"payload"
    assert only(server).framing == "length"


async def test_an_empty_body_with_a_length_of_nought(plain: Front) -> None:
    server = await plain.stage.server(mirror)
    await plain.proxy(server)
    async with plain.client() as client:
        stream = await client.start("POST", fields=[("content-length", "0")], end=True)
        assert (await stream.finished()).status == 200
        stream = await client.start("POST", fields=[("content-length", "0")], end=False)
        await stream.end()
        assert (await stream.finished()).status == 200
    assert [(request.body, request.complete) for request in server.requests] == [(b"", True)] * 2


async def test_a_body_that_turns_out_empty(plain: Front) -> None:
    """No length was given and END_STREAM comes alone: the server has to see a request that ends."""
    server = await plain.stage.server(mirror)
    await plain.proxy(server)
    async with plain.client() as client:
        stream = await client.start("POST", end=False)
        await stream.end()
        assert (await stream.finished()).status == 200
    assert (only(server).body, only(server).complete) == (b"", True)


async def test_trailers_of_a_request_arrive(front: Front) -> None:
    server = await front.stage.server(mirror)
    await front.proxy(server)
    async with front.client() as client:
        stream = await client.start("POST", fields=[("te", "trailers")], end=False)
        await stream.send(b"body")
        await stream.send_trailers([("x-checksum", "abc")])
        assert (await stream.finished()).body == b"body"
    assert only(server).trailers == [("x-checksum", "abc")]


async def test_trailers_after_a_body_with_a_length_change_nothing(plain: Front) -> None:
    """HTTP/1.1 has no place for them then; what counts is that the request ends where it does."""
    server = await plain.stage.server(mirror)
    await plain.proxy(server)
    async with plain.client() as client:
        stream = await client.start("POST", fields=[("content-length", "4")], end=False)
        await stream.send(b"body")
        await stream.send_trailers([("x-checksum", "abc")])
        assert (await stream.finished()).body == b"body"
        assert (await client.request("POST", body=b"next")).body == b"next"
    assert [request.body for request in server.requests] == [b"body", b"next"]


async def test_cookies_are_joined(plain: Front) -> None:
    """RFC 9113 section 8.2.3: split for the sake of compression, one field for HTTP/1.1."""
    server = await plain.stage.server()
    await plain.proxy(server)
    async with plain.client() as client:
        await client.request(fields=[("cookie", "a=1"), ("x-between", "y"), ("cookie", "b=2; c=3"), ("cookie", "d=4")])
    assert only(server).fields.get_all("Cookie") == ["a=1; b=2; c=3; d=4"]


async def test_other_repeated_fields_stay_apart_and_in_order(plain: Front) -> None:
    server = await plain.stage.server()
    await plain.proxy(server)
    async with plain.client() as client:
        await client.request(fields=[("accept", "a"), ("x-y", "1"), ("accept", "b"), ("x-y", ""), ("x-y", "3")])
    assert ", ".join(only(server).fields.get_all("Accept")) == "a, b"
    assert only(server).fields.get_all("X-Y") == ["1", "", "3"]


async def test_te_trailers_is_lawful(plain: Front) -> None:
    await plain.proxy(await plain.stage.server())
    async with plain.client() as client:
        assert (await client.request(fields=[("te", "trailers")])).status == 200


# :authority and Host


async def test_authority_becomes_host(plain: Front) -> None:
    server = await plain.stage.server()
    await plain.proxy(server)
    async with plain.client() as client:
        assert (await client.request(authority="one.example:8443")).status == 200
        assert (await client.request(authority="two.example", fields=[("host", "two.example")])).status == 200
        assert (await client.request(authority=None, fields=[("host", "three.example")])).status == 200
    hosts = [request.fields.get_all("Host") for request in server.requests]
    assert hosts == [["one.example:8443"], ["two.example"], ["three.example"]]


@pytest.mark.parametrize(
    ("authority", "fields"),
    [
        ("one.example", [("host", "two.example")]),
        ("one.example", [("host", "one.example"), ("host", "one.example")]),
        ("one.example", [("host", "one.example"), ("host", "two.example")]),
        (None, [("host", "one.example"), ("host", "two.example")]),
        (None, []),
        ("", []),
        ("user@one.example", []),
        ("one.example/path", []),
        ("one.example two.example", []),
        ("one.example", [("host", "")]),
    ],
)
async def test_who_is_meant_has_to_be_clear(
    plain: Front, authority: str | None, fields: list[tuple[str, str]]
) -> None:
    server = await plain.stage.server()
    await plain.proxy(server)
    async with plain.client() as client:
        response = await client.request(authority=authority, fields=fields)
        assert response.status == 400 or response.reset == 1, response
        assert (await client.request()).status == 200
    assert len(server.requests) == 1


async def test_routes_go_by_authority_and_path(plain: Front) -> None:
    one, two, three = [await plain.stage.server() for _ in range(3)]
    pools = {server.name: {"servers": [{"address": server.address}]} for server in (one, two, three)}
    routes = [
        {"path": "/", "pool": one.name},
        {"path": "/api", "pool": two.name},
        {"host": "other.example", "path": "/", "pool": three.name},
    ]
    await plain.proxy(routes=routes, pools=pools)
    async with plain.client() as client:
        assert (await client.request()).body == b"server1"
        assert (await client.request(path="/api/x")).body == b"server2"
        assert (await client.request(path="/api", authority="other.example")).body == b"server3"
        assert (await client.request(authority="OTHER.example:99")).body == b"server3"


async def test_no_route_is_404(plain: Front) -> None:
    server = await plain.stage.server()
    await plain.proxy(server, route={"path": "/only"})
    async with plain.client() as client:
        assert (await client.request(path="/other")).status == 404
        assert (await client.request(path="/only")).status == 200
