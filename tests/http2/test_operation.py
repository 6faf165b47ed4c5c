"""What those who run the proxy see of HTTP/2: the access log, the metrics, queues and limits."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

from support.h2_front import Front
from support.h2_websocket import open_websocket
from support.http import Request
from support.proxies import eventually
from support.scraping import samples
from support.scripts import Held, HeldBelow
from support.server import Conversation

#: As RFC 9113 calls it, and as others write it beside HTTP/1.1.
HTTP2 = ("HTTP/2", "HTTP/2.0")


def logging(directory: Path, access: str = "json") -> dict[str, Any]:
    """A `log` section that writes a file."""
    return {"log": {"access": access, "access_path": str(directory / "access.log")}}


async def logged(directory: Path, count: int) -> list[dict[str, Any]]:
    """The first `count` lines of the access log, by path, awaited."""
    file = directory / "access.log"
    await eventually(lambda: len(file.read_text().splitlines()) >= count, 10, what=f"{count} lines of log")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return sorted(lines, key=lambda line: str(line["path"]))


async def test_a_line_of_the_log_says_what_a_stream_was(front: Front, tmp_path: Path) -> None:
    async def script(peer: Conversation, request: Request) -> None:
        await peer.respond(b"12345", 201)

    server = await front.stage.server(script)
    proxy = await front.proxy(server, **logging(tmp_path))
    async with front.client() as client:
        fields = [("user-agent", 'a "client"'), ("referer", "https://else.where/")]
        await client.request("POST", "/up?load", body=b"payload", fields=fields)
    (line,) = await logged(tmp_path, 1)
    assert line["proto"] in HTTP2
    assert (line["method"], line["host"], line["path"]) == ("POST", "test.example", "/up?load")
    assert (line["status"], line["bytes_in"], line["bytes_out"]) == (201, 7, 5)
    assert (line["client"], line["listener"]) == ("127.0.0.1", proxy.addresses[0])
    assert line["tls"] is (front.scheme == "https")
    assert (line["pool"], line["server"], line["tries"], line["outcome"]) == ("main", server.address, 1, "ok")
    assert (line["user_agent"], line["referer"]) == ('a "client"', "https://else.where/")
    (request,) = server.requests
    assert line["request_id"] == request.fields.get("X-Request-ID")


async def test_the_combined_format_says_http_2(plain: Front, tmp_path: Path) -> None:
    await plain.proxy(await plain.stage.server(), **logging(tmp_path, "combined"))
    async with plain.client() as client:
        await client.request(path="/a")
    file = tmp_path / "access.log"
    await eventually(lambda: file.read_text(), what="a line")
    assert re.search(r'"GET /a HTTP/2(\.0)?" 200 7 ', file.read_text())


async def test_every_stream_has_a_line_however_it_ends(plain: Front, tmp_path: Path) -> None:
    async def script(peer: Conversation, request: Request) -> None:
        if request.target == "/cut":
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
            peer.close()
        elif request.target == "/gone":
            await peer.wait_closed()
        else:
            await peer.respond()

    await plain.proxy(await plain.stage.server(script), pool={"max_fails": 0}, **logging(tmp_path))
    async with plain.client() as client:
        assert not (await client.request(path="/cut")).complete
        stream = await client.start(path="/gone")
        await client.ping()
        await stream.cancel()
        assert (await client.request(path="/ok")).complete
    lines = await logged(tmp_path, 3)
    assert [line["path"] for line in lines] == ["/cut", "/gone", "/ok"]
    cut, gone, ok = (line["outcome"] for line in lines)
    assert ok == "ok"
    assert gone == "client_gone"
    assert cut not in ("ok", "client_gone")


async def test_a_tunnel_has_a_line(plain: Front, tmp_path: Path) -> None:
    async def script(peer: Conversation, request: Request) -> None:
        await peer.respond(b"no", 403)

    await plain.proxy(await plain.stage.server(script), **logging(tmp_path))
    async with plain.client() as client:
        assert (await open_websocket(client, "/socket")).response.status == 403
    (line,) = await logged(tmp_path, 1)
    assert line["proto"] in HTTP2
    assert (line["path"], line["status"]) == ("/socket", 403)


async def test_streams_are_counted_as_requests_and_connections_as_connections(front: Front) -> None:
    process = await front.process(await front.stage.server(), admin={"bind": "127.0.0.1:0"})
    async with front.client() as client:
        for _ in range(7):
            await client.request()

    wanted = {"vsproxy_listener_connections_total": 1.0, "vsproxy_server_requests_total": 7.0}
    if front.scheme == "https":
        wanted["vsproxy_listener_tls_handshakes_total"] = 1.0
    found: dict[str, float] = {}
    # A worker tells what it counts from time to time.
    async with asyncio.timeout(10):
        while found != wanted:
            found = {name: value for (name, _), value in (await samples(process)).items() if name in wanted}
            await asyncio.sleep(0.01)


async def test_streams_wait_in_the_queue_of_a_pool(plain: Front) -> None:
    held = Held()
    server = await plain.stage.server(held)
    await plain.proxy({"address": server.address, "max_connections": 2}, pool={"queue_timeout": "20s"})
    async with plain.client() as client:
        streams = [await client.start(path=f"/{number}") for number in range(10)]
        await client.ping()
        await eventually(lambda: held.waiting == 2, what="two at the server")
        held.release()
        assert {(await stream.finished()).status for stream in streams} == {200}
    assert held.most == 2


async def test_a_queue_that_is_full_or_too_long_is_503(plain: Front) -> None:
    held = HeldBelow()
    server = await plain.stage.server(held)
    one = {"address": server.address, "max_connections": 1}
    await plain.proxy(one, pool={"queue_timeout": "200ms", "queue_size": 1})
    async with plain.client() as client:
        first = await client.start(path="/held")
        await eventually(lambda: held.held.waiting == 1, what="the first at the server")
        late = await client.start(path="/late")
        assert (await client.request(path="/beyond")).status == 503
        assert (await late.finished()).status == 503
        held.held.release()
        assert (await first.finished()).status == 200
        assert (await client.request()).status == 200


async def test_connections_to_servers_are_kept_for_other_streams(plain: Front) -> None:
    """And streams at the same time each have one of their own: HTTP/1.1 has no other way."""
    server = await plain.stage.server()
    await plain.proxy(server)
    async with plain.client() as client:
        for _ in range(20):
            await client.request()
        assert server.connections == 1
        streams = [await client.start() for _ in range(5)]
        assert {(await stream.finished()).status for stream in streams} == {200}
    assert 1 <= server.connections <= 5
