"""The same faults through TLS, where a clean end is a close_notify and a half-close does not exist."""

from __future__ import annotations

import asyncio
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.certificates import Certificates, make_certificates
from support.http import Request, read_body, request_bytes
from support.proxies import eventually
from support.scripts import Interrupted, end
from support.server import Conversation, Server
from support.stage import Stage


@dataclass
class Secure:
    """A stage whose listener speaks TLS."""

    stage: Stage
    certificates: Certificates

    async def proxy(self, *servers: Server, **listener: object) -> None:
        """A proxy in front of `servers`, with TLS on its listener."""
        tls = {"cert": str(self.certificates.cert), "key": str(self.certificates.key)}
        await self.stage.proxy(*servers, listener={"tls": tls, **listener}, pool={"retry": {"tries": 1}})

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A client behind a handshake."""
        host, port = self.stage.address.split(":")
        context = self.certificates.client_context()
        return await asyncio.open_connection(host, int(port), ssl=context, server_hostname="localhost")


@pytest.fixture
def secure(stage: Stage, tmp_path: Path) -> Secure:
    """See `Secure`."""
    return Secure(stage, make_certificates(tmp_path))


async def everything(reader: asyncio.StreamReader) -> tuple[bytes, bool]:
    """What came, and whether the end was clean (close_notify) rather than a break."""
    data = b""
    try:
        async with asyncio.timeout(5):
            while more := await reader.read(65536):
                data += more
    except (ConnectionError, ssl.SSLError):
        return data, False
    return data, True


LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
CLOSE = b"HTTP/1.1 200 OK\r\n\r\nhello"


@pytest.mark.parametrize("answer", [LENGTH, CHUNKED, CLOSE], ids=["length", "chunked", "until-close"])
async def test_a_server_that_breaks_off_breaks_the_clients_transfer(secure: Secure, answer: bytes) -> None:
    script = Interrupted(answer, "reset")
    await secure.proxy(await secure.stage.server(script))
    reader, writer = await secure.connect()
    writer.write(request_bytes())
    head = await reader.readuntil(b"hello")
    script.cut()
    rest, _ = await everything(reader)
    assert b"\r\n0\r\n\r\n" not in head + rest
    writer.close()


async def test_a_break_is_no_clean_end_for_a_client_that_reads_until_close(secure: Secure) -> None:
    """An HTTP/1.0 client has only the close_notify to go by: there must be none."""
    script = Interrupted(CLOSE, "reset")
    await secure.proxy(await secure.stage.server(script))

    def download() -> str:
        host, port = secure.stage.address.split(":")
        context = secure.certificates.client_context()
        with (
            socket.create_connection((host, int(port)), 5) as plain,
            context.wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=False) as sock,
        ):
            sock.sendall(request_bytes(version="1.0"))
            data = b""
            while b"hello" not in data:
                data += sock.recv(1000)
            loop.call_soon_threadsafe(script.cut)
            try:
                sock.recv(1000)
            except (ssl.SSLError, ConnectionError):
                return "broken"
            return "clean"

    loop = asyncio.get_running_loop()
    assert await asyncio.to_thread(download) == "broken"


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_an_early_413_reaches_an_uploading_client(secure: Secure, how: str) -> None:
    async def refuses(peer: Conversation) -> None:
        await peer.read_until(b"\r\n\r\n")
        await peer.read_exactly(300_000)
        await peer.send(b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 7\r\n\r\ntoo big")
        end(peer, how)

    await secure.proxy(await secure.stage.server(on_connect=refuses))
    reader, writer = await secure.connect()
    writer.write(request_bytes("POST", fields={"Content-Length": "20000000"}))

    async def upload() -> None:
        for _ in range(300):
            writer.write(bytes(65536))
            await writer.drain()

    sending = asyncio.create_task(upload())
    answer = await asyncio.wait_for(reader.readuntil(b"too big"), 5)
    assert answer.startswith(b"HTTP/1.1 413 ")
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    writer.transport.abort()


async def test_an_upload_cut_without_close_notify_never_looks_complete(secure: Secure) -> None:
    over = asyncio.Event()

    async def script(peer: Conversation, request: Request) -> None:
        await read_body(peer, request, until_close=False)
        over.set()

    server = await secure.stage.server(script, read_body=False)
    await secure.proxy(server)
    _, writer = await secure.connect()
    writer.write(request_bytes("POST", fields={"Transfer-Encoding": "chunked"}) + b"5\r\nhello\r\n")
    await writer.drain()
    await eventually(lambda: server.requests)
    writer.transport.abort()
    await asyncio.wait_for(over.wait(), 10)
    assert not server.requests[0].complete


async def test_a_client_that_leaves_stops_a_server_that_thinks(secure: Secure) -> None:
    async def thinks(peer: Conversation, request: Request) -> None:
        await peer.wait_closed()

    server = await secure.stage.server(thinks)
    await secure.proxy(server)
    _, writer = await secure.connect()
    writer.write(request_bytes())
    await eventually(lambda: server.requests)
    writer.transport.abort()
    await eventually(lambda: not server.open, 10, what="the connection to the server closed")


async def test_a_client_that_does_not_read_is_cut_after_send_timeout(secure: Secure) -> None:
    async def endless(peer: Conversation, request: Request) -> None:
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await peer.send(bytes(65536))

    server = await secure.stage.server(endless)
    await secure.proxy(server, send_timeout="400ms")
    _, writer = await secure.connect()
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    writer.write(request_bytes())
    await eventually(lambda: server.requests)
    await eventually(lambda: not server.open, 10, what="the server let go")
    writer.transport.abort()


async def test_handshakes_that_stall_hold_up_nobody(secure: Secure) -> None:
    await secure.proxy(await secure.stage.server())
    for sent in (b"", b"\x16", b"\x16\x03\x01\x02\x00\x01") * 20:
        await (await secure.stage.connect()).send(sent)
    reader, writer = await secure.connect()
    writer.write(request_bytes())
    assert (await asyncio.wait_for(reader.readuntil(b"server1"), 8)).startswith(b"HTTP/1.1 200 ")
    writer.close()


async def test_noise_in_place_of_a_handshake_leaves_the_listener_well(secure: Secure) -> None:
    server = await secure.stage.server()
    await secure.proxy(server)
    for noise in (b"\x16\x03\x01\x00\x05hello", bytes(1000), b"\x80\x2e\x01" + bytes(50)):
        client = await secure.stage.connect()
        await client.send(noise)
        client.half_close()
        await client.wait_closed()
    reader, writer = await secure.connect()
    writer.write(request_bytes())
    assert (await asyncio.wait_for(reader.readuntil(b"server1"), 5)).startswith(b"HTTP/1.1 200 ")
    writer.close()
