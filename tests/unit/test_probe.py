"""What one check finds, against real sockets."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from support.scripted import Handler, Scripted, mute, refusing, serving
from vsproxy.config.pools import HealthConfig
from vsproxy.upstream.check_get import MAX_BODY
from vsproxy.upstream.probe import Outcome, Probe
from vsproxy.upstream.server import Server
from vsproxy.upstream.tls import ClientTls


async def look(server: Server, **keys: Any) -> Outcome:
    return await Probe(HealthConfig.model_validate({"timeout": "5s", **keys})).check(server)


def saying(answer: bytes) -> Handler:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)

    return handler


async def test_what_a_check_asks_for() -> None:
    script = Scripted(200)
    async with serving(script) as server:
        outcome = await look(server, path="/api/health?deep=%2F", status="2xx")
        await look(server, host="storage.example.com")
    assert (outcome.passed, outcome.text) == (True, "status 200")
    assert 0 < outcome.seconds < 5
    head = script.heads[0].lower()
    assert head.startswith(b"get /api/health?deep=%2f http/1.1\r\n")
    assert b"\r\nhost: backend:%d\r\n" % server.port in head
    assert b"\r\nuser-agent: vsproxy-health\r\n" in head
    assert b"\r\nhost: storage.example.com\r\n" in script.heads[1].lower()


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", "status 503"),
        (b"HTTP/1.1 404 No\r\nContent-Length: 100\r\n\r\n", "status 404"),
        (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "status 101"),
        (b"", "closed without an answer"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "not an HTTP answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nwell", "the answer broke off"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nill.", "status 200, without the expected text"),
    ],
)
async def test_what_a_check_refuses(answer: bytes, text: str) -> None:
    async with serving(saying(answer)) as server:
        outcome = await look(server, body="healthy")
    assert (outcome.passed, outcome.text) == (False, text)


async def test_refused_and_mute() -> None:
    with refusing() as server:
        assert (await look(server)).text == "connection refused"
        assert (await look(server, type="tcp")).text == "connection refused"
    async with serving(mute) as server:
        outcome = await look(server, timeout="50ms")
        assert (outcome.passed, outcome.text) == (False, "timeout")
        assert 0.04 < outcome.seconds < 5
        assert (await look(server, type="tcp")).passed


async def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    script = Scripted(302)
    async with serving(script) as server:
        assert (await look(server)).passed
        assert not (await look(server, status="200")).passed
    assert len(script.heads) == 2


async def test_a_text_is_found_at_once_in_a_body_without_end() -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n{status: heal")
        await writer.drain()
        writer.write(b"thy}")
        await asyncio.Event().wait()

    async with serving(endless) as server:
        assert (await look(server, body="healthy")).passed


async def test_of_a_body_no_more_is_read_than_the_bound() -> None:
    sent = 0

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 4096)
            sent += 4096
            await writer.drain()

    async with serving(endless) as server:
        outcome = await look(server, body="healthy")
    assert (outcome.passed, outcome.text) == (False, "status 200, without the expected text")
    assert MAX_BODY < sent < 100 * MAX_BODY


async def test_unix_sockets_and_another_port(tmp_path: Path) -> None:
    script = Scripted(200)
    path = tmp_path / "app.sock"
    async with serving(script, path) as server:
        assert (await look(server)).text == "status 200"
        assert (await look(server, type="tcp", port=1)).passed
    assert b"\r\nhost: localhost\r\n" in script.heads[0].lower()
    assert (
        await look(Server("pool", "unix:/none", str(tmp_path / "none"), 0))
    ).text == "no such file or directory"
    async with serving(script) as other:
        with refusing() as traffic:
            assert (await look(traffic, port=other.port)).passed


async def test_an_aiohttp_application_is_healthy() -> None:
    async def health(request: web.Request) -> web.Response:
        return web.json_response({"status": "UP", "host": request.host})

    application = web.Application()
    application.router.add_get("/api/health", health)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        port = runner.addresses[0][1]
        outcome = await look(Server("pool", "a:80", "127.0.0.1", port), path="/api/health", body='"UP"')
    finally:
        await runner.cleanup()
    assert outcome.passed


async def test_what_we_lack_is_not_held_against_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    async def starved(self: Probe, server: Server, tls: ClientTls | None) -> tuple[bool, str]:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(Probe, "_look", starved)
    server = Server("pool", "a:80", "127.0.0.1", 80)
    outcome = await look(server)
    assert (outcome.passed, outcome.text) == (None, "too many open files")
