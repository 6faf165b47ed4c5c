"""Strict-Transport-Security: in every answer over TLS where it is asked for, never over plain HTTP (RFC 6797)."""

from __future__ import annotations

import asyncio

import pytest

from support.certificates import Certificates, make_certificates
from support.client import connect
from support.http import Request, Response, parse_response_head, request_bytes
from support.server import Conversation
from support.stage import Stage

FIELD = "Strict-Transport-Security"
YEAR = 365 * 86400


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certs"))


async def ask(address: str, own: Certificates, request: bytes) -> Response:
    """The head of the answer to one request over TLS."""
    host, port = address.split(":")
    async with asyncio.timeout(20):
        reader, writer = await asyncio.open_connection(
            host, int(port), ssl=own.client_context(), server_hostname="localhost"
        )
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()
    return parse_response_head(head)


async def start(stage: Stage, own: Certificates, hsts: object, script: object = None) -> list[str]:
    """The addresses of a TLS listener with `hsts`, one without, and a plain one."""
    files = {"cert": str(own.cert), "key": str(own.key)}
    server = await stage.server(script) if script is not None else await stage.server()  # type: ignore[arg-type]
    proxy = await stage.proxy(
        server,
        listeners=[
            {"bind": "127.0.0.1:0", "tls": {**files, "hsts": hsts}},
            {"bind": "127.0.0.1:0", "tls": files},
            {"bind": "127.0.0.1:0"},
        ],
    )
    return list(proxy.addresses[:3])


@pytest.mark.parametrize(
    ("hsts", "value"),
    [
        ("365d", f"max-age={YEAR}"),
        (0, "max-age=0"),
        ({"max_age": "90m"}, "max-age=5400"),
        ({"max_age": YEAR, "include_subdomains": True}, f"max-age={YEAR}; includeSubDomains"),
        (
            {"max_age": "730d", "include_subdomains": True, "preload": True},
            f"max-age={2 * YEAR}; includeSubDomains; preload",
        ),
    ],
)
async def test_the_field_says_what_was_configured(stage: Stage, own: Certificates, hsts: object, value: str) -> None:
    secure, without, plain = await start(stage, own, hsts)
    assert (await ask(secure, own, request_bytes())).fields.get_all(FIELD) == [value]
    assert (await ask(without, own, request_bytes())).fields.get(FIELD) is None
    async with await connect(plain) as client:
        assert (await client.request()).fields.get(FIELD) is None


async def chunks(peer: Conversation, request: Request) -> None:
    await peer.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
    await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")


async def test_final_answers_have_it_and_interim_ones_do_not(stage: Stage, own: Certificates) -> None:
    secure, _, _ = await start(stage, own, "1d", chunks)
    host, port = secure.split(":")
    reader, writer = await asyncio.open_connection(
        host, int(port), ssl=own.client_context(), server_hostname="localhost"
    )
    writer.write(request_bytes())
    async with asyncio.timeout(20):
        interim = parse_response_head(await reader.readuntil(b"\r\n\r\n"))
        final = parse_response_head(await reader.readuntil(b"\r\n\r\n"))
    writer.transport.abort()
    assert (interim.status, interim.fields.get(FIELD)) == (103, None)
    assert (final.status, final.fields.get_all(FIELD)) == (200, ["max-age=86400"])


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET /" + b"a" * 20000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        (request_bytes("HEAD"), 503),
        (request_bytes(), 503),
    ],
)
async def test_our_own_answers_have_it_too(stage: Stage, own: Certificates, request_: bytes, status: int) -> None:
    files = {"cert": str(own.cert), "key": str(own.key), "hsts": "365d"}
    refused = {"address": stage.refused(), "state": "maint"}
    proxy = await stage.proxy(refused, listener={"tls": files})
    answer = await ask(proxy.addresses[0], own, request_)
    assert (answer.status, answer.fields.get_all(FIELD)) == (status, [f"max-age={YEAR}"])


@pytest.mark.parametrize("name", [FIELD, FIELD.lower(), FIELD.upper()])
async def test_what_the_server_says_of_itself_stays(stage: Stage, own: Certificates, name: str) -> None:
    async def opinion(peer: Conversation, request: Request) -> None:
        await peer.respond(fields=[("A", "1"), (name, "max-age=7"), ("B", "2")])

    secure, without, _ = await start(stage, own, "365d", opinion)
    for address in (secure, without):
        answer = await ask(address, own, request_bytes())
        assert answer.fields.get_all(FIELD) == ["max-age=7"]


