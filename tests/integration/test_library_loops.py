"""On the standard loop as on uvloop: TLS, large bodies, ends of every kind, a stop; the loop reports nothing."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ssl
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import pytest

from support.answering import LOOPS, strict_runner
from support.certificates import Certificates, make_certificates
from support.client import connect
from support.http import Request, request_bytes
from support.proxies import Settings, eventually, settings
from support.scripts import Held, mute
from support.server import Conversation, Script, Server
from vsproxy import Config, Proxy

BODY = hashlib.sha256(b"loops").digest() * (1 << 19)  # 16 MiB
on_both_loops = pytest.mark.parametrize("loop", LOOPS)


def run(loop: str, work: Coroutine[Any, Any, None]) -> None:
    """Run `work` on this loop; an error that the loop has to report fails the test."""
    with strict_runner(loop) as runner:
        runner.run(work)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certs"))


@contextlib.asynccontextmanager
async def played(script: Script, **options: Settings) -> AsyncIterator[tuple[Server, Proxy]]:
    """A server and a proxy in front of it."""
    server = Server(script)
    await server.start()
    try:
        async with Proxy(Config.model_validate(settings(server, **options))) as proxy:
            yield server, proxy
    finally:
        await server.stop()
    assert server.failures == []


def listener(certificates: Certificates) -> Settings:
    return {"tls": {"cert": str(certificates.cert), "key": str(certificates.key)}}


async def open_tls(proxy: Proxy, certificates: Certificates) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = proxy.addresses[0].split(":")
    context = certificates.client_context()
    return await asyncio.open_connection(host, int(port), ssl=context, server_hostname="localhost")


async def mirror(peer: Conversation, request: Request) -> None:
    await peer.respond(request.body or BODY)


@on_both_loops
def test_large_bodies_through_tls(loop: str, certificates: Certificates) -> None:
    async def work() -> None:
        async with played(mirror, listener=listener(certificates)) as (_, proxy):
            reader, writer = await open_tls(proxy, certificates)
            for request in (request_bytes(), request_bytes("PUT", body=BODY)):
                writer.write(request)
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
                assert hashlib.sha256(await reader.readexactly(len(BODY))).digest() == hashlib.sha256(BODY).digest()
            writer.close()
            with contextlib.suppress(ssl.SSLError, ConnectionError):
                await writer.wait_closed()

    run(loop, work())


@on_both_loops
def test_plain_http_on_the_tls_port(loop: str, certificates: Certificates) -> None:
    async def work() -> None:
        async with played(mirror, listener=listener(certificates)) as (server, proxy):
            async with await connect(proxy.addresses[0]) as client:
                assert (await client.request("POST", body=bytes(100_000))).status == 400
                assert await client.wait_closed() == "fin"
            assert server.requests == []

    run(loop, work())


@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
@on_both_loops
def test_clients_that_break_off_in_a_download(loop: str, secure: bool, certificates: Certificates) -> None:
    async def work() -> None:
        options = {"listener": listener(certificates)} if secure else {}
        async with played(mirror, **options) as (server, proxy):
            for _ in range(5):
                if secure:
                    reader, writer = await open_tls(proxy, certificates)
                    writer.write(request_bytes())
                    await reader.readexactly(100_000)
                    writer.transport.abort()
                else:
                    client = await connect(proxy.addresses[0])
                    await client.send(request_bytes())
                    await client.read_exactly(100_000)
                    client.reset()
            await eventually(lambda: proxy.pools["main"].servers[0].active == 0)
            await eventually(lambda: not server.open)

    run(loop, work())


@on_both_loops
def test_a_client_that_breaks_off_while_the_server_thinks(loop: str) -> None:
    async def work() -> None:
        async with played(mute) as (server, proxy):
            async with await connect(proxy.addresses[0]) as client:
                await client.send(request_bytes("POST", body=b"x"))
                await eventually(lambda: server.requests)
                client.reset()
            await eventually(lambda: not server.open)

    run(loop, work())


@pytest.mark.parametrize("how", ["close", "reset"])
@on_both_loops
def test_a_server_that_breaks_off_is_never_taken_for_complete(loop: str, how: str) -> None:
    async def work() -> None:
        async def cut(peer: Conversation, request: Request) -> None:
            await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
            await seen.wait()
            peer.close() if how == "close" else peer.reset()

        seen = asyncio.Event()
        async with played(cut) as (_, proxy):
            async with await connect(proxy.addresses[0]) as client:
                await client.send(request_bytes())
                start = await client.read_until(b"hello")
                assert start.startswith(b"HTTP/1.1 200 ")
                seen.set()
                assert b"0\r\n" not in await client.read_to_end()

    run(loop, work())


@on_both_loops
def test_a_close_waits_for_what_is_in_flight(loop: str) -> None:
    async def work() -> None:
        held = Held()
        async with played(held, proxy={"shutdown_timeout": "10s"}) as (_, proxy):
            async with await connect(proxy.addresses[0]) as client, await connect(proxy.addresses[0]) as idle:
                await client.send(request_bytes())
                await eventually(lambda: held.waiting == 1)
                closing = asyncio.create_task(proxy.close())
                assert await idle.wait_closed() == "fin"
                assert not closing.done()
                held.release()
                assert (await client.response()).body == b"server"
                await asyncio.wait_for(closing, 5)

    run(loop, work())


@on_both_loops
def test_a_close_that_is_out_of_time_breaks_off(loop: str, certificates: Certificates) -> None:
    async def work() -> None:
        options = {"proxy": {"shutdown_timeout": "200ms"}, "listener": listener(certificates)}
        async with played(mute, **options) as (server, proxy):
            reader, writer = await open_tls(proxy, certificates)
            writer.write(request_bytes())
            await eventually(lambda: server.requests)
            await asyncio.wait_for(proxy.close(), 5)
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                answer = await asyncio.wait_for(reader.read(), 5)
                assert not answer.startswith(b"HTTP/1.1 200 ")
            await eventually(lambda: not server.open)
            writer.transport.abort()

    run(loop, work())
