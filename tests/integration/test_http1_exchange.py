"""HTTP/1.1 through the proxy: what is passed on, what is added, what is kept from passing."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from support.http import Request, chunked
from support.scripts import sends
from support.server import Conversation
from support.stage import Stage


async def dump(peer: Conversation, request: Request) -> None:
    lines = [f"{request.method} {request.target}"] + [f"{name.lower()}: {value}" for name, value in request.fields]
    await peer.respond("\n".join(lines).encode() + b"\n\n" + request.body)


async def test_pipelined_requests_are_answered_in_order(stage: Stage) -> None:
    await stage.proxy(await stage.server(dump))
    client = await stage.connect()
    await client.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number for number in range(20)))
    for number in range(20):
        assert (await client.response()).body.startswith(b"GET /%d\n" % number)


async def test_chunked_both_ways_with_trailers(stage: Stage) -> None:
    async def answer(peer: Conversation, request: Request) -> None:
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        await peer.send(head + chunked(request.body, b"-end", trailers="X-Sum: 7\r\n"))

    await stage.proxy(await stage.server(answer))
    client = await stage.connect()
    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"ab", b"cd"))
    response = await client.response("POST")
    assert (response.body, response.complete) == (b"abcd-end", True)
    assert response.trailers.get("x-sum") == "7"
    assert (await client.request()).status == 200


async def test_early_hints_and_continue_are_passed_on(stage: Stage) -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"
    await stage.proxy(await stage.server(sends(hints + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")))
    client = await stage.connect()
    await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await client.read_until(b"\r\n\r\n")).startswith(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>")
    assert (await client.response()).body == b"ok"


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
async def test_statuses_without_a_body(stage: Stage, status: str) -> None:
    await stage.proxy(await stage.server(sends(f"HTTP/1.1 {status}\r\nETag: x\r\n\r\n".encode())))
    client = await stage.connect()
    response = await client.request()
    assert (response.status, response.body, response.complete) == (int(status[:3]), b"", True)


async def test_a_head_answer_keeps_its_length(stage: Stage) -> None:
    await stage.proxy(await stage.server(sends(b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n")))
    client = await stage.connect()
    response = await client.request("HEAD")
    assert (response.fields.get("content-length"), response.body) == ("1234", b"")


async def test_an_http10_client_gets_an_unchunked_body_and_the_close(stage: Stage) -> None:
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"hello")
    await stage.proxy(await stage.server(sends(answer)))
    client = await stage.connect()
    await client.send(b"GET / HTTP/1.0\r\n\r\n")
    assert (await client.read_to_end()).endswith(b"\r\n\r\nhello")


async def test_hop_by_hop_fields_stay_here(stage: Stage) -> None:
    await stage.proxy(await stage.server(dump))
    fields = {"Connection": "close, X-Mine", "X-Mine": "1", "Keep-Alive": "timeout=5", "TE": "gzip", "X-Yours": "2"}
    body = (await stage.get(fields=fields)).body
    assert b"x-yours: 2" in body
    for name in (b"connection:", b"x-mine:", b"keep-alive:", b"\nte:"):
        assert name not in body


async def test_what_an_untrusted_client_says_of_itself_is_replaced(stage: Stage) -> None:
    await stage.proxy(await stage.server(dump))
    spoof = {"X-Forwarded-For": "1.2.3.4", "X-Real-IP": "1.2.3.4", "X-Forwarded-Proto": "https", "X-Request-ID": "mine"}
    body = (await stage.get(fields=spoof)).body
    assert b"1.2.3.4" not in body
    assert b"mine" not in body
    assert b"x-forwarded-for: 127.0.0.1\n" in body
    assert b"x-forwarded-proto: http\n" in body


async def test_what_a_trusted_proxy_says_is_kept_and_added_to(stage: Stage) -> None:
    await stage.proxy(await stage.server(dump), listener={"trusted_proxies": ["127.0.0.0/8"], "forwarded": True})
    said = {"X-Forwarded-For": "1.2.3.4", "X-Forwarded-Proto": "https", "X-Request-ID": "mine"}
    said["Forwarded"] = "for=1.2.3.4"
    body = (await stage.get(fields=said)).body
    assert b"x-forwarded-for: 1.2.3.4, 127.0.0.1\n" in body
    assert b"x-real-ip: 1.2.3.4\n" in body
    assert b"x-forwarded-proto: https\n" in body
    assert b"x-request-id: mine\n" in body
    assert b"forwarded: for=1.2.3.4, for=127.0.0.1;proto=http" in body


async def test_the_target_goes_on_byte_for_byte(stage: Stage) -> None:
    await stage.proxy(await stage.server(dump))
    target = "/a%2Fb/../c//d?x=%41&y={}|"
    assert (await stage.get(target)).body.startswith(f"GET {target}\n".encode())


async def test_absolute_form_and_options_asterisk(stage: Stage) -> None:
    await stage.proxy(await stage.server(dump))
    client = await stage.connect()
    body = (await client.raw(b"GET http://b.example/x?y HTTP/1.1\r\nHost: a\r\n\r\n")).body
    assert body.startswith(b"GET /x?y\nhost: b.example\n")
    body = (await client.raw(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS")).body
    assert body.startswith(b"OPTIONS *\n")


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /" + b"x" * 20000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 101 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 70000 + b"\r\n\r\n", 431),
        (b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 405),
    ],
)
async def test_limits(stage: Stage, request_bytes: bytes, status: int) -> None:
    server = await stage.server(dump)
    await stage.proxy(server)
    client = await stage.connect()
    assert (await client.raw(request_bytes)).status == status
    assert await client.wait_closed() == "fin"


async def test_max_body_by_length_and_by_count(stage: Stage) -> None:
    await stage.proxy(await stage.server(dump), route={"max_body": 10})
    assert (await stage.post(body=b"x" * 10)).status == 200
    assert (await stage.post(body=b"x" * 11)).status == 413
    client = await stage.connect()
    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"x" * 6, b"y" * 6))
    assert (await client.response("POST")).status == 413


async def test_a_slow_line_is_passed_on_at_once(stage: Stage) -> None:
    go = asyncio.Event()

    async def drip(peer: Conversation, request: Request) -> None:
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
        await go.wait()
        await peer.send(b"cd")

    await stage.proxy(await stage.server(drip))
    client = await stage.connect()
    await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await client.read_until(b"ab")).endswith(b"\r\n\r\nab")
    go.set()
    assert await client.read_exactly(2) == b"cd"


async def test_requests_per_connection_are_limited(stage: Stage) -> None:
    await stage.proxy(await stage.server(dump), listener={"max_requests": 2})
    client = await stage.connect()
    assert (await client.request()).fields.get("connection") is None
    assert (await client.request()).fields.get("connection") == "close"
    assert await client.wait_closed() == "fin"


@pytest.mark.parametrize("format", ["json", "combined"])
async def test_a_line_of_the_access_log_has_what_was_sent(stage: Stage, tmp_path: Path, format: str) -> None:
    log = tmp_path / "access.log"
    proxy = await stage.proxy(await stage.server(dump), log={"access": format, "access_path": str(log)})
    client = await stage.connect()
    fields = b'USER-AGENT: \t me"1 \r\nConnection: x-gone\r\nX-Gone: 1\r\nreferer:http://b/\r\n'
    assert (await client.raw(b"GET /a?b HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\n")).status == 200
    assert (await client.raw(b"GET /c HTTP/1.1\r\nHost: a\r\n\r\n")).status == 200
    await proxy.close()
    first, second = log.read_text().splitlines()
    if format == "json":
        values = json.loads(first)
        assert (values["referer"], values["user_agent"], values["path"]) == ("http://b/", 'me"1', "/a?b")
        values = json.loads(second)
        assert (values["referer"], values["user_agent"], values["path"]) == ("", "", "/c")
    else:
        assert first.endswith(r' "http://b/" "me\x221"')
        assert second.endswith(' "-" "-"')


async def test_a_refused_request_has_a_line_in_the_access_log(stage: Stage, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    proxy = await stage.proxy(await stage.server(dump), log={"access": "json", "access_path": str(log)})
    client = await stage.connect()
    assert (await client.raw(b"GET / HTTP/1.1\r\nHost : a\r\n\r\n")).status == 400
    assert (await stage.get("/seen")).status == 200
    await proxy.close()
    refused, seen = [json.loads(line) for line in log.read_text().splitlines()]
    assert (refused["status"], refused["outcome"].startswith("bad_request: ")) == (400, True)
    assert (seen["path"], seen["server"], seen["outcome"]) == ("/seen", stage.servers[0].address, "ok")
