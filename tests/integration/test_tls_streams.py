"""Large bodies through TLS: they arrive whole, who reads slowly slows down whoever sends, nothing piles up.

Both ends count and checksum what they send and get. The proxy is a process of its own, so that its memory is
its own too.
"""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from support.certificates import Certificates, make_certificates
from support.proxies import ProxyProcess, descriptors_of, eventually
from support.stage import Stage

MIB = 1 << 20
SIZE = 96 * MIB
BLOCK = hashlib.sha512(b"slow").digest() * 1024  # 64 KiB
SMALL_BUFFER = 64 * 1024
MAX_GROWTH = 16 * MIB
STALL = 0.5


@dataclass
class Count:
    """One end of a transfer."""

    done: int = 0
    sha: Any = field(default_factory=hashlib.sha256)

    def add(self, data: bytes) -> None:
        self.done += len(data)
        self.sha.update(data)


class Origin:
    """GET answers with SIZE bytes; a PUT's body is read when `reading` is set. What it sent and got is counted."""

    def __init__(self) -> None:
        self.sent = Count()
        self.got = Count()
        self.reading = asyncio.Event()
        self.address = ""

    async def start(self) -> asyncio.Server:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=SMALL_BUFFER)
        self.address = "{}:{}".format(*server.sockets[0].getsockname())
        return server

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"GET /small"):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        elif head.startswith(b"GET"):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % SIZE)
            await send(writer, self.sent)
        else:
            chunked = b"transfer-encoding: chunked" in head.lower()
            await self.reading.wait()
            await (receive_chunked if chunked else receive)(reader, self.got)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        await writer.drain()
        writer.close()


async def send(writer: asyncio.StreamWriter, count: Count, frame: bytes = b"%b") -> None:
    for _ in range(SIZE // len(BLOCK)):
        writer.write(frame % BLOCK)
        await writer.drain()
        count.add(BLOCK)


async def receive(reader: asyncio.StreamReader, count: Count) -> None:
    while count.done < SIZE:
        data = await reader.read(MIB)
        assert data, f"ended after {count.done} bytes"
        count.add(data)


async def receive_chunked(reader: asyncio.StreamReader, count: Count) -> None:
    while size := int(await reader.readuntil(b"\r\n"), 16):
        count.add(await reader.readexactly(size))
        assert await reader.readexactly(2) == b"\r\n"
    assert await reader.readexactly(2) == b"\r\n"


async def stalls(progress: Callable[[], int]) -> None:
    """Wait until the sender has not got on for `STALL` seconds; it must get stuck before everything is sent."""
    last = -1
    while progress() > last:
        last = progress()
        await asyncio.sleep(STALL)
    # How much the kernel's buffers take is its own affair.
    assert 0 < last < SIZE


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certs"))


@dataclass
class Secure:
    """The proxy between an `Origin` and a client that speaks one version of TLS."""

    origin: Origin
    process: ProxyProcess
    context: ssl.SSLContext

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, port = self.process.address.split(":")
        return await asyncio.open_connection(
            host, int(port), limit=SMALL_BUFFER, ssl=self.context, server_hostname="localhost"
        )

    async def warm_up(self) -> int:
        """One small exchange; the memory after it."""
        reader, writer = await self.connect()
        writer.write(b"GET /small HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert (await reader.read()).endswith(b"ok")
        writer.close()
        return self.process.rss()


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
async def secure(request: pytest.FixtureRequest, stage: Stage, certificates: Certificates) -> AsyncIterator[Secure]:
    context = certificates.client_context()
    context.minimum_version = context.maximum_version = request.param
    origin = Origin()
    listening = await origin.start()
    listener = {"tls": {"cert": str(certificates.cert), "key": str(certificates.key)}}
    yield Secure(origin, await stage.process(origin.address, listener=listener), context)
    listening.close()


async def test_a_client_that_reads_late_holds_up_the_server(secure: Secure) -> None:
    before = await secure.warm_up()
    reader, writer = await secure.connect()
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    await stalls(lambda: secure.origin.sent.done)
    assert secure.process.peak_rss() - before < MAX_GROWTH
    got = Count()
    await receive(reader, got)
    assert secure.process.peak_rss() - before < MAX_GROWTH
    assert got.done == secure.origin.sent.done == SIZE
    assert got.sha.digest() == secure.origin.sent.sha.digest()
    writer.close()


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_server_that_reads_late_holds_up_the_client(secure: Secure, framing: str) -> None:
    before = await secure.warm_up()
    reader, writer = await secure.connect()
    sent = Count()
    if framing == "chunked":
        writer.write(b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        sending = asyncio.create_task(send(writer, sent, b"%x\r\n%%b\r\n" % len(BLOCK)))
    else:
        writer.write(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % SIZE)
        sending = asyncio.create_task(send(writer, sent))
    await stalls(lambda: sent.done)
    assert secure.process.peak_rss() - before < MAX_GROWTH
    secure.origin.reading.set()
    await sending
    if framing == "chunked":
        writer.write(b"0\r\n\r\n")
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    assert secure.process.peak_rss() - before < MAX_GROWTH
    assert secure.origin.got.done == sent.done == SIZE
    assert secure.origin.got.sha.digest() == sent.sha.digest()
    writer.close()


async def test_a_client_that_leaves_while_it_was_not_reading_frees_the_server(secure: Secure) -> None:
    reader, writer = await secure.connect()
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    await stalls(lambda: secure.origin.sent.done)
    (worker,) = secure.process.workers
    held = descriptors_of(worker)
    writer.transport.abort()
    await eventually(lambda: descriptors_of(worker) <= held - 2, what="both connections are closed")
