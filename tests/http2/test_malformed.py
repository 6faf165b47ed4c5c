"""What may not be sent on: refused at the stream that has it, seen by no server, of no concern to the others.

RFC 9113 section 8.1.1: malformed. The client is answered with 400 or with RST_STREAM(PROTOCOL_ERROR); or its whole
connection is ended where the offence is one against the connection. Reaching a server is what none of it may do.
"""

from __future__ import annotations

import pytest

from support.h2_client import H2Client
from support.h2_front import Front, whole
from support.h2_stream import H2Response
from support.server import Server

PROTOCOL_ERROR = 1
GET = [(":method", "GET"), (":scheme", "http"), (":authority", "test.example"), (":path", "/smuggled")]
POST = [(":method", "POST"), *GET[1:]]


def with_path(path: str) -> list[tuple[str, str]]:
    """A GET of `path`."""
    return [*GET[:3], (":path", path)]


def without(name: str) -> list[tuple[str, str]]:
    """A GET that lacks a field."""
    return [(key, value) for key, value in GET if key != name]


BAD_FIELDS = {
    "cr-lf-in-value": ("x-a", "b\r\nX-Evil: 1"),
    "lf-in-value": ("x-a", "b\nX-Evil: 1"),
    "cr-in-value": ("x-a", "b\rX-Evil: 1"),
    "nul-in-value": ("x-a", "b\0c"),
    "value-is-lf": ("x-a", "\n"),
    "space-before-value": ("x-a", " b"),
    "space-after-value": ("x-a", "b "),
    "tab-after-value": ("x-a", "b\t"),
    "del-in-value": ("x-a", "b\x7f"),
    "control-in-value": ("x-a", "b\x01c"),
    "cr-lf-in-name": ("x-a\r\nx-evil", "1"),
    "lf-in-name": ("x-a\n", "1"),
    "nul-in-name": ("x-\0a", "1"),
    "space-in-name": ("x a", "1"),
    "space-after-name": ("x-a ", "1"),
    "colon-in-name": ("x-a:b", "1"),
    "colon-after-name": ("transfer-encoding:", "chunked"),
    "empty-name": ("", "1"),
    "upper-case-name": ("X-A", "1"),
    "non-ascii-name": ("x-\xe4", "1"),
    "connection": ("connection", "x-a"),
    "connection-close": ("connection", "close"),
    "keep-alive": ("keep-alive", "timeout=5"),
    "proxy-connection": ("proxy-connection", "keep-alive"),
    "transfer-encoding": ("transfer-encoding", "chunked"),
    "upgrade": ("upgrade", "websocket"),
    "te-gzip": ("te", "gzip"),
    "te-trailers-and-more": ("te", "trailers, gzip"),
    "unknown-pseudo": (":evil", "1"),
    "response-pseudo": (":status", "200"),
    "protocol-without-connect": (":protocol", "websocket"),
    "second-path": (":path", "/other"),
    "second-method": (":method", "POST"),
    "second-scheme": (":scheme", "http"),
    "second-authority": (":authority", "test.example"),
    "negative-length": ("content-length", "-1"),
    "signed-length": ("content-length", "+0"),
    "hex-length": ("content-length", "0x0"),
    "listed-length": ("content-length", "0, 0"),
    "empty-length": ("content-length", ""),
    "endless-length": ("content-length", "9" * 30),
    "length-and-no-body": ("content-length", "5"),
}

BAD_HEADS = {
    "no-method": without(":method"),
    "no-scheme": without(":scheme"),
    "no-path": without(":path"),
    "empty-path": with_path(""),
    "relative-path": with_path("smuggled"),
    "star-path": with_path("*"),
    "space-in-path": with_path("/a b"),
    "request-in-path": with_path("/a HTTP/1.1\r\nHost: evil\r\n\r\nGET /smuggled"),
    "lf-in-path": with_path("/a\nb"),
    "tab-in-path": with_path("/a\tb"),
    "nul-in-path": with_path("/a\0b"),
    "fragment-in-path": with_path("/a#b"),
    "absolute-path": with_path("http://test.example/smuggled"),
    "space-in-method": [(":method", "GET /smuggled"), *GET[1:]],
    "lf-in-method": [(":method", "GET\n"), *GET[1:]],
    "empty-method": [(":method", ""), *GET[1:]],
    "cr-lf-in-authority": [*GET[:2], (":authority", "a\r\nX-Evil: 1"), GET[3]],
    "space-in-authority": [*GET[:2], (":authority", "a b"), GET[3]],
    "pseudo-after-field": [*GET[:3], ("x-a", "1"), GET[3]],
    "connect-to-a-host": [(":method", "CONNECT"), (":authority", "test.example:443")],
    "connect-with-path": [(":method", "CONNECT"), *GET[1:]],
    "two-lengths": [*POST, ("content-length", "0"), ("content-length", "5")],
}


async def refused(client: H2Client, head: list[tuple[str, str]]) -> H2Response | None:
    """What came of it; None: the connection was ended."""
    try:
        return await (await client.start_raw(head)).finished()
    except AssertionError:
        assert client.ended or client.goaways, "neither an answer nor an end"
        return None


async def check(plain: Front, head: list[tuple[str, str]]) -> None:
    """`head` is refused, and another stream of the connection is not."""
    server = await plain.stage.server()
    await plain.proxy(server)
    async with plain.client() as client:
        response = await refused(client, head)
        assert response is not None, f"the connection was ended: {client.goaways}"
        assert 400 <= response.status < 500 or response.status == 501 or response.reset == PROTOCOL_ERROR, response
        assert (await client.request(path="/innocent")).body == b"server1"
    assert whole(server) == ["/innocent"]


@pytest.mark.parametrize("case", BAD_FIELDS)
async def test_a_bad_field_is_refused(plain: Front, case: str) -> None:
    await check(plain, [*GET, BAD_FIELDS[case]])


@pytest.mark.parametrize("case", BAD_HEADS)
async def test_a_bad_head_is_refused(plain: Front, case: str) -> None:
    await check(plain, BAD_HEADS[case])


@pytest.mark.parametrize(
    ("length", "frames"),
    [
        ("5", [b"abc"]),
        ("5", [b"abc", b""]),
        ("3", [b"abcde"]),
        ("0", [b"abc"]),
        ("3", [b"ab", b"cde"]),
    ],
)
async def test_a_length_that_data_contradicts_never_makes_a_whole_request(
    plain: Front, length: str, frames: list[bytes]
) -> None:
    """Neither a short body that looks whole nor bytes past its end, which a server would take for a request."""
    server = await plain.stage.server()
    await plain.proxy(server)
    async with plain.client() as client:
        stream = await client.start_raw([*POST, ("content-length", length)], end=False)
        for frame in frames[:-1]:
            await stream.send(frame)
        await stream.send(frames[-1], end=True)
        response = await stream.finished()
        assert response.status == 400 or response.reset == PROTOCOL_ERROR, response
        assert (await client.request(path="/innocent")).status == 200
    assert whole(server) == ["/innocent"]


@pytest.mark.parametrize(
    "trailer",
    [
        (":path", "/evil"),
        (":status", "200"),
        ("x-a", "b\r\nGET /smuggled HTTP/1.1\r\n\r\n"),
        ("x-a\r\n", "b"),
        ("X-A", "b"),
        ("connection", "close"),
        ("transfer-encoding", "chunked"),
    ],
)
async def test_bad_trailers_never_make_a_whole_request(plain: Front, trailer: tuple[str, str]) -> None:
    server = await plain.stage.server()
    await plain.proxy(server)
    async with plain.client() as client:
        stream = await client.start_raw(POST, end=False)
        await stream.send(b"body")
        await stream.send_trailers([trailer])
        response = await stream.finished()
        assert response.status == 400 or response.reset == PROTOCOL_ERROR, response
        assert (await client.request(path="/innocent")).status == 200
    assert whole(server) == ["/innocent"]


@pytest.mark.parametrize("name", ["content-length", "host", "authorization"])
async def test_trailers_that_mean_something_in_a_head_are_dropped_or_refused(plain: Front, name: str) -> None:
    server = await plain.stage.server()
    await plain.proxy(server)
    async with plain.client() as client:
        stream = await client.start_raw(POST, end=False)
        await stream.send(b"body")
        await stream.send_trailers([(name, "50"), ("x-fine", "1")])
        await stream.finished()
        assert (await client.request(path="/innocent")).status == 200
    check_trailers(server)


def check_trailers(server: Server) -> None:
    """Nothing but the harmless one has arrived."""
    for request in server.requests:
        assert [key.lower() for key, _ in request.trailers] in ([], ["x-fine"])
        assert request.body in (b"body", b"")


async def test_fields_with_underscores_are_dropped_by_default(plain: Front) -> None:
    server = await plain.stage.server()
    await plain.proxy(server)
    async with plain.client() as client:
        assert (await client.request(fields=[("x_forwarded_for", "6.6.6.6"), ("x-fine", "1")])).status == 200
    (request,) = server.requests
    assert request.fields.get("x_forwarded_for") is None
    assert request.fields.get("x-fine") == "1"


async def test_more_fields_than_are_allowed(plain: Front) -> None:
    server = await plain.stage.server()
    await plain.proxy(server)
    async with plain.client() as client:
        response = await refused(client, [*GET, *((f"x-{number}", "1") for number in range(200))])
        if response is not None:
            assert response.status == 431 or response.reset is not None, response
            assert (await client.request(path="/innocent")).status == 200
    assert "/smuggled" not in whole(server)


async def test_a_head_larger_than_is_allowed(plain: Front) -> None:
    server = await plain.stage.server()
    await plain.proxy(server)
    async with plain.client() as client:
        response = await refused(client, [*GET, *((f"x-{number}", "v" * 1000) for number in range(90))])
        if response is not None:
            assert response.status == 431 or response.reset is not None, response
            assert (await client.request(path="/innocent")).status == 200
    assert "/smuggled" not in whole(server)


async def test_a_target_longer_than_is_allowed(plain: Front) -> None:
    server = await plain.stage.server()
    await plain.proxy(server, listener={"max_target": 1000})
    async with plain.client() as client:
        response = await refused(client, with_path("/smuggled" + "x" * 1000))
        assert response is not None
        assert response.status == 414
        assert (await client.request(path="/innocent")).status == 200
    assert whole(server) == ["/innocent"]
