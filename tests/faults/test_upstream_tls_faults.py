"""Servers that break off, stall or lie below HTTP: what their clients get through TLS."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from pathlib import Path

import pytest

from support.client import Client
from support.http import Response, request_bytes
from support.proxies import eventually
from support.stage import Stage
from support.tls_servers import Authority, ThreadedTls, read_head, server_context
from vsproxy import Proxy

PATIENCE = 20.0


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca")


@pytest.fixture
def context(authority: Authority) -> ssl.SSLContext:
    return server_context(authority.issue("127.0.0.1"))


async def front(stage: Stage, authority: Authority, *servers: str, **options: object) -> Proxy:
    """A proxy that speaks TLS to `servers`."""
    return await stage.proxy(*servers, pool={"tls": {"ca": str(authority.ca)}, "max_fails": 0, **options})


def goodbye(tls: ssl.SSLSocket) -> None:
    """close_notify, and the client's in return."""
    tls.unwrap()


@pytest.mark.parametrize("polite", [True, False])
async def test_an_end_that_anybody_on_the_way_could_have_made(
    stage: Stage, authority: Authority, context: ssl.SSLContext, polite: bool
) -> None:
    """A body that only the close delimits is whole with close_notify, and with a FIN alone visibly not."""

    def script(tls: ssl.SSLSocket) -> None:
        read_head(tls)
        tls.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"x" * 100_000)
        if polite:
            goodbye(tls)
        else:
            tls.shutdown(socket.SHUT_WR)
            tls.recv(1)

    with ThreadedTls(context, script) as server:
        await front(stage, authority, server.address)
        response = await stage.get()
        assert (response.status, len(response.body), response.complete) == (200, 100_000, polite)
        if not polite:
            assert response.framing == "close" or response.malformed or not response.complete


async def test_a_body_with_a_length_needs_no_goodbye(
    stage: Stage, authority: Authority, context: ssl.SSLContext
) -> None:
    def script(tls: ssl.SSLSocket) -> None:
        read_head(tls)
        tls.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000)

    with ThreadedTls(context, script) as server:
        proxy = await front(stage, authority, server.address)
        for _ in range(3):
            response = await stage.get()
            assert (len(response.body), response.complete) == (100_000, True)
        assert proxy.pools["main"].servers[0].failures == {}


@pytest.mark.parametrize("framing", ["Content-Length: 100001", "Transfer-Encoding: chunked"])
@pytest.mark.parametrize("polite", [True, False])
async def test_a_framed_body_that_is_cut_is_seen_to_be(
    stage: Stage, authority: Authority, context: ssl.SSLContext, framing: str, polite: bool
) -> None:
    def script(tls: ssl.SSLSocket) -> None:
        read_head(tls)
        body = b"x" * 100_000
        if "chunked" in framing:
            body = b"186a0\r\n" + body + b"\r\n"
        tls.sendall(f"HTTP/1.1 200 OK\r\n{framing}\r\n\r\n".encode() + body)
        if polite:
            goodbye(tls)

    with ThreadedTls(context, script) as server:
        proxy = await front(stage, authority, server.address)
        response = await stage.get()
        assert not response.complete
        assert proxy.pools["main"].servers[0].failures == {"reset": 1}


async def test_records_that_were_tampered_with_end_the_response(
    stage: Stage, authority: Authority, context: ssl.SSLContext
) -> None:
    def script(tls: ssl.SSLSocket) -> None:
        read_head(tls)
        tls.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        with socket.socket(fileno=tls.detach()) as bare:
            bare.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
            bare.settimeout(PATIENCE)
            bare.recv(1000)

    with ThreadedTls(context, script) as server:
        proxy = await front(stage, authority, server.address)
        response = await stage.get()
        # Nothing of a read with such a record is passed on.
        assert response.status == 502 or not response.complete
        found = proxy.pools["main"].servers[0]
        assert found.tls_failures == 1
        assert "decryption failed or bad record mac" in found.tls_trouble


async def test_a_handshake_that_stalls_is_a_failed_connect(
    stage: Stage, authority: Authority, context: ssl.SSLContext
) -> None:
    """The time for connecting covers it, and another server gets the request."""
    good = ThreadedTls(context, answer)
    with socket.create_server(("127.0.0.1", 0)) as mute, good:
        mute_address = "{}:{}".format(*mute.getsockname())
        proxy = await front(
            stage, authority, mute_address, good.address, timeouts={"connect": "300ms"}, retry={"tries": 2}
        )
        began = time.monotonic()
        assert [(await stage.get()).status for _ in range(3)] == [200] * 3
        assert time.monotonic() - began < PATIENCE
        found = proxy.pools["main"].servers[0]
        assert found.failures["connect"] == found.tls_failures >= 1
        assert found.tls_trouble == "TLS: the server takes too long for the handshake"
        # The connection is cut, not left behind.
        accepted, _ = mute.accept()
        with accepted:
            accepted.settimeout(PATIENCE)
            while accepted.recv(4096):
                pass


async def test_a_server_that_leaves_in_the_handshake(
    stage: Stage, authority: Authority, context: ssl.SSLContext
) -> None:
    leaving = await stage.server(on_connect=leave)
    with ThreadedTls(context, answer) as good:
        proxy = await front(stage, authority, leaving.address, good.address)
        assert [(await stage.get()).status for _ in range(4)] == [200] * 4
        found = proxy.pools["main"].servers[0]
        assert found.failures["connect"] >= 2
        assert found.tls_trouble == "TLS: the server closed the connection in the handshake"


async def leave(peer: object) -> None:
    await peer.fill()  # type: ignore[attr-defined]
    peer.close()  # type: ignore[attr-defined]


def answer(tls: ssl.SSLSocket) -> None:
    """Answer each request, without a body, with `good`."""
    while True:
        read_head(tls)
        tls.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood")


async def test_a_client_that_leaves_during_the_handshake_leaves_nothing_behind(
    stage: Stage, authority: Authority
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        await front(stage, authority, "{}:{}".format(*mute.getsockname()))
        client = await stage.connect()
        await client.send(request_bytes())
        accepted, _ = await asyncio.to_thread(mute.accept)
        with accepted:
            accepted.settimeout(PATIENCE)
            assert await asyncio.to_thread(accepted.recv, 4096)
            client.reset()
            with contextlib.suppress(ConnectionResetError):
                while await asyncio.to_thread(accepted.recv, 4096):
                    pass


async def test_an_upload_that_breaks_off_is_no_end_for_the_server(
    stage: Stage, authority: Authority, context: ssl.SSLContext
) -> None:
    """It sees neither a goodbye nor the last chunk."""
    ends: list[object] = []
    over = asyncio.Event()
    loop = asyncio.get_running_loop()

    def script(tls: ssl.SSLSocket) -> None:
        read_head(tls)
        try:
            data = b"."
            while data:
                data = tls.recv(65536)
                ends[:] = [data]
        except OSError as error:
            ends[:] = [error]
        loop.call_soon_threadsafe(over.set)

    with ThreadedTls(context, script) as server:
        await front(stage, authority, server.address)
        client = await stage.connect()
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        await eventually(lambda: ends, PATIENCE)
        client.reset()
        async with asyncio.timeout(PATIENCE):
            await over.wait()
    assert isinstance(ends[0], ConnectionResetError | ssl.SSLEOFError)


async def upload(client: Client, size: int) -> None:
    await client.send(request_bytes("POST", "/upload", fields={"Content-Length": str(size)}))
    block = bytes(65536)
    for _ in range(size // len(block)):
        await client.send(block)


@pytest.mark.parametrize("how", ["close", "reset", "stay"])
@pytest.mark.parametrize("read", [0, 100_000, 5_000_000])
async def test_an_early_answer_to_an_upload_reaches_the_client(
    stage: Stage, authority: Authority, context: ssl.SSLContext, how: str, read: int
) -> None:
    """413 in the middle, from a server that closes at once, so that what we still write is answered by a reset."""

    def script(tls: ssl.SSLSocket) -> None:
        read_head(tls)
        left = read
        while left:
            left -= len(tls.recv(min(left, 65536)))
        tls.sendall(b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 7\r\n\r\ntoo big")
        if how == "reset":
            tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            # What was sent is there before the reset is.
            time.sleep(0.2)
        if how == "stay":
            time.sleep(3.0)

    with ThreadedTls(context, script) as server:
        await front(stage, authority, server.address)
        client = await stage.connect()
        sending = asyncio.create_task(upload(client, 20 * 1024 * 1024))
        try:
            response: Response = await client.response()
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        assert (response.status, response.body) == (413, b"too big")


async def test_key_updates_change_nothing(stage: Stage, authority: Authority, context: ssl.SSLContext) -> None:
    """`openssl s_server` is told to update its keys, and to ask us to, in the middle of a connection."""
    pair = authority.issue("127.0.0.1", file="openssl")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        *("openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-cert", str(pair.cert), "-key", str(pair.key)),
        *("-tls1_3", "-quiet"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        def accepts() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        await eventually(accepts, PATIENCE, what="openssl accepts")
        await front(stage, authority, f"127.0.0.1:{port}")
        client = await stage.connect()
        await client.send(request_bytes())
        async with asyncio.timeout(PATIENCE):
            await process.stdout.readuntil(b"\r\n\r\n")
        process.stdin.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await process.stdin.drain()
        assert (await client.response()).body == b"ok"
    finally:
        process.kill()
        await process.wait()
