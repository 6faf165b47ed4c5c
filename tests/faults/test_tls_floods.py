"""TLS without an end or without a purpose: handshakes that stall, drip or grow, records with nothing in them, updates
of keys and renegotiations by the thousand. The connection is cut and counted, and nobody else is hurt."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.authorities import Authority
from support.certificates import Certificates, make_certificates
from support.http import request_bytes
from support.proxies import ProxyProcess, eventually
from support.scrape import scrape_until
from support.stage import Stage
from support.tls_records import ALERT, RecordClient
from vsproxy import Proxy
from vsproxy.tls_transport import MAX_CHAFF, MAX_HANDSHAKE

TWO, THREE = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
REQUEST = request_bytes()


@dataclass
class Scene:
    """A proxy with TLS, and clients that misbehave."""

    stage: Stage
    own: Certificates
    directory: Path

    async def proxy(self, tls: dict[str, str] | None = None, **listener: object) -> Proxy:
        files = {"cert": str(self.own.cert), "key": str(self.own.key), **(tls or {})}
        return await self.stage.proxy(await self.stage.server(), listener={"tls": files, **listener})

    @property
    def port(self) -> int:
        return int(self.stage.address.rpartition(":")[2])

    async def client(self, version: ssl.TLSVersion) -> RecordClient:
        context = self.own.client_context()
        return await asyncio.to_thread(RecordClient, self.port, context, self.directory, version)

    async def ask(self) -> bytes:
        """A bystander's request on a connection of its own."""
        context = self.own.client_context()
        async with asyncio.timeout(30):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", self.port, ssl=context, server_hostname="localhost"
            )
            writer.write(REQUEST)
            answer = await reader.readuntil(b"server1")
            writer.transport.abort()
            return answer


@pytest.fixture
def scene(stage: Stage, tmp_path: Path) -> Scene:
    return Scene(stage, make_certificates(tmp_path), tmp_path)


def cuts(proxy: Proxy) -> dict[str, int]:
    return proxy.listeners[0].stats.tls_cuts


def pour(client: RecordClient, pieces: Iterator[bytes]) -> bool:
    """Send until the server cuts the connection; whether it did before there was no more."""
    with contextlib.suppress(ConnectionError):
        for piece in pieces:
            client.plain.sendall(piece)
    return client.until_cut()


Make = Callable[[RecordClient], bytes]


async def expect_cut(scene: Scene, version: ssl.TLSVersion, make: Make, most: int, reason: str) -> None:
    """A client that sends what `make` makes, `most` bytes at most, is cut for `reason`; a bystander is served."""
    proxy = await scene.proxy()
    client = await scene.client(version)
    client.plain.sendall(client.data(REQUEST))
    await eventually(lambda: scene.stage.servers[0].requests, 20, what="a request before the flood")

    def pieces() -> Iterator[bytes]:
        sent = 0
        while sent < most:
            piece = make(client)
            sent += len(piece)
            yield piece

    assert await asyncio.to_thread(pour, client, pieces())
    client.close()
    assert cuts(proxy) == {reason: 1}
    assert b" 200 " in await scene.ask()
    await eventually(lambda: proxy.listeners[0].stats.active == 0, 20, what="all gone")
    assert len(scene.stage.servers[0].requests) == 2


# Handshakes


@pytest.mark.parametrize("sent", [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01"], ids=["silent", "a byte", "half a hello"])
async def test_a_handshake_that_stalls_is_cut_in_time(scene: Scene, sent: bytes) -> None:
    proxy = await scene.proxy(handshake_timeout="300ms")
    client = await scene.stage.connect()
    began = time.monotonic()
    await client.send(sent)
    await client.wait_closed()
    assert time.monotonic() - began >= 0.25
    assert cuts(proxy) == {"handshake_timeout": 1}
    assert proxy.listeners[0].stats.tls_failures == 1
    assert b" 200 " in await scene.ask()


async def test_a_handshake_that_drips_has_no_more_time_than_another(scene: Scene) -> None:
    proxy = await scene.proxy(handshake_timeout="500ms")
    context = scene.own.client_context()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname="localhost").do_handshake()
    hello = outgoing.read()
    client = await scene.stage.connect()
    with contextlib.suppress(ConnectionError):
        for byte in hello:
            await client.send(bytes([byte]))
            await asyncio.sleep(0.05)
            if cuts(proxy):
                break
    assert cuts(proxy) == {"handshake_timeout": 1}
    await client.wait_closed()


async def test_a_shorter_time_is_for_handshakes_that_have_begun_too(scene: Scene) -> None:
    proxy = await scene.proxy(handshake_timeout="1h")
    clients = [await scene.stage.connect() for _ in range(3)]
    await eventually(lambda: proxy.listeners[0].stats.pending == 3, 20)
    [listener] = proxy.config.listeners
    changed = proxy.config.model_copy(
        update={"listeners": (listener.model_copy(update={"handshake_timeout": 0.3}),)}
    )
    await proxy.reload(changed)
    for client in clients:
        await client.wait_closed()
    assert cuts(proxy) == {"handshake_timeout": 3}
    assert b" 200 " in await scene.ask()


async def test_a_handshake_has_ten_seconds_unless_told_otherwise(scene: Scene) -> None:
    proxy = await scene.proxy()
    assert proxy.listeners[0].config.handshake_timeout == 10.0


def fragments(kind: int, size: int) -> Iterator[bytes]:
    """The records of one handshake message of `size` bytes that never ends."""
    yield b"\x16\x03\x01\x40\x00" + bytes([kind]) + size.to_bytes(3, "big") + bytes(0x4000 - 4)
    while True:
        yield b"\x16\x03\x01\x40\x00" + bytes(0x4000)


async def test_a_message_larger_than_any_is_refused(scene: Scene) -> None:
    """OpenSSL's own limit for a ClientHello: the alert comes at its first record."""
    proxy = await scene.proxy()
    client = socket.create_connection(("127.0.0.1", scene.port), 20)
    client.sendall(next(fragments(1, 0xFFFFFF)))
    client.settimeout(20)
    assert (await asyncio.to_thread(client.recv, 100))[:1] == bytes([ALERT])
    client.close()
    await eventually(lambda: proxy.listeners[0].stats.tls_failures == 1, 20)


async def test_certificates_beyond_any_use_are_refused(scene: Scene, tmp_path: Path) -> None:
    """OpenSSL's limit for a chain is 100 KiB."""
    authority = Authority(tmp_path / "clients")
    proxy = await scene.proxy({"client_ca": str(authority.file)})
    context = authority.issue(extra=bytes(60_000)).context(scene.own.ca)
    context.maximum_version = TWO
    # 60 KB in one certificate pass; 110 KB do not.
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", scene.port, ssl=context, server_hostname="localhost"
    )
    writer.write(REQUEST)
    assert b" 200 " in await asyncio.wait_for(reader.readuntil(b"server1"), 20)
    writer.transport.abort()
    context = authority.issue(extra=bytes(110_000)).context(scene.own.ca)
    context.maximum_version = TWO
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await asyncio.open_connection("127.0.0.1", scene.port, ssl=context, server_hostname="localhost")
    await eventually(lambda: proxy.listeners[0].stats.tls_failures == 1, 20)
    assert proxy.listeners[0].stats.handshakes == 1


async def test_bytes_of_a_handshake_are_bounded(scene: Scene) -> None:
    """A ClientHello that is as large as OpenSSL would take, and does not end."""
    proxy = await scene.proxy()
    size = MAX_HANDSHAKE + 300
    client = socket.create_connection(("127.0.0.1", scene.port), 20)
    records = itertools.islice(fragments(1, size), size // 0x4000)
    client.sendall(b"".join(records) + b"\x16\x03\x01\x00\x80" + bytes(128))
    client.settimeout(20)
    with contextlib.suppress(ConnectionError):
        assert await asyncio.to_thread(client.recv, 100) == b""
    client.close()
    assert cuts(proxy) == {"handshake_too_large": 1}
    assert proxy.listeners[0].stats.tls_failures == 1
    assert b" 200 " in await scene.ask()


# After the handshake


@pytest.mark.parametrize("answered", [True, False])
async def test_a_flood_of_key_updates_is_cut(scene: Scene, answered: bool) -> None:
    def make(client: RecordClient) -> bytes:
        return b"".join(client.key_update(answered) for _ in range(100))

    await expect_cut(scene, THREE, make, 64 * MAX_CHAFF, "no_data")


async def test_a_slow_flood_of_key_updates_is_cut(scene: Scene) -> None:
    """One record per packet: each is answered by itself."""
    await expect_cut(scene, THREE, lambda client: client.key_update(True), 27 * 2000, "no_data")


async def test_key_updates_among_data_are_counted_too(scene: Scene) -> None:
    """A byte of a head now and then does not make a flood another thing."""

    def make(client: RecordClient) -> bytes:
        return b"".join(client.key_update(True) for _ in range(100)) + client.data(b"G")

    await expect_cut(scene, THREE, make, 64 * MAX_CHAFF, "no_data")


async def test_a_flood_of_renegotiations_is_cut(scene: Scene) -> None:
    await expect_cut(scene, TWO, lambda client: client.renegotiation(), 64 * MAX_CHAFF, "no_data")


@pytest.mark.parametrize("version", [TWO, THREE])
async def test_records_with_nothing_in_them_are_cut(scene: Scene, version: ssl.TLSVersion) -> None:
    await expect_cut(scene, version, lambda client: client.data(b""), 64 * MAX_CHAFF, "empty_records")


async def test_padding_alone_is_cut(scene: Scene) -> None:
    """31 records in a row are as many as OpenSSL lets pass for empty ones."""

    def make(client: RecordClient) -> bytes:
        return b"".join(client.data(b"", 16_000) for _ in range(31)) + client.data(b"G")

    await expect_cut(scene, THREE, make, 64 * MAX_CHAFF, "no_data")


async def test_warnings_without_end_are_cut(scene: Scene) -> None:
    await expect_cut(scene, TWO, lambda client: client.record(ALERT, b"\x01\x5a"), 64 * MAX_CHAFF, "bad_record")


async def test_a_record_that_was_tampered_with_is_cut(scene: Scene) -> None:
    def make(client: RecordClient) -> bytes:
        return client.data(b"GET ")[:-1] + b"?"

    await expect_cut(scene, THREE, make, 64 * MAX_CHAFF, "bad_record")


# What is no flood


@pytest.mark.parametrize("answered", [True, False])
async def test_an_update_of_keys_now_and_then_is_in_order(scene: Scene, answered: bool) -> None:
    proxy = await scene.proxy()
    client = await scene.client(THREE)
    for _ in range(5):
        client.plain.sendall(client.key_update(answered) + client.data(REQUEST))
    # What comes back is written with keys that have changed: that it comes, and how much, is enough.
    await eventually(lambda: len(scene.stage.servers[0].requests) == 5, 20, what="five requests")
    assert cuts(proxy) == {}
    client.close()


async def test_padded_records_are_in_order(scene: Scene) -> None:
    proxy = await scene.proxy()
    client = await scene.client(THREE)
    for _ in range(60):
        client.plain.sendall(client.data(REQUEST, 16_000))
    await eventually(lambda: len(scene.stage.servers[0].requests) == 60, 30, what="sixty requests")
    assert cuts(proxy) == {}
    client.close()


@pytest.mark.parametrize("version", [TWO, THREE])
async def test_many_small_records_are_in_order(scene: Scene, version: ssl.TLSVersion) -> None:
    """As a terminal's keys: each is mostly what is around it."""
    proxy = await scene.proxy()
    client = await scene.client(version)
    body = 20_000
    head = request_bytes("POST", fields={"Content-Length": str(body)})
    records = client.data(head) + b"".join(client.data(b"x") for _ in range(body))
    await asyncio.to_thread(client.plain.sendall, records)
    await eventually(lambda: [len(request.body) for request in scene.stage.servers[0].requests] == [body], 60)
    assert cuts(proxy) == {}
    client.close()


# Bystanders


@contextlib.asynccontextmanager
async def flooding(scene: Scene, version: ssl.TLSVersion, make: Make) -> AsyncIterator[list[int]]:
    """Clients that connect and flood, again and again; how often each was cut."""
    over = False
    cut = [0, 0]

    def run(number: int) -> None:
        context = scene.own.client_context()
        directory = scene.directory / str(number)
        directory.mkdir()
        while not over:
            client = RecordClient(scene.port, context, directory, version)
            data = make(client)
            assert pour(client, iter([data]))
            client.close()
            cut[number] += 1

    tasks = [asyncio.create_task(asyncio.to_thread(run, number)) for number in range(len(cut))]
    try:
        yield cut
    finally:
        over = True
        await asyncio.gather(*tasks)


@pytest.mark.parametrize("kind", ["updates", "renegotiations"])
async def test_a_bystander_is_served_and_memory_stays(scene: Scene, kind: str) -> None:
    files = {"cert": str(scene.own.cert), "key": str(scene.own.key)}
    process: ProxyProcess = await scene.stage.process(
        await scene.stage.server(), listener={"tls": files}, proxy={"workers": 1}, admin={"bind": "127.0.0.1:0"}
    )
    version, make = {
        "updates": (THREE, lambda client: b"".join(client.key_update(True) for _ in range(4000))),
        "renegotiations": (TWO, lambda client: b"".join(client.renegotiation() for _ in range(1000))),
    }[kind]
    for _ in range(20):
        await scene.ask()
    before = process.rss()
    async with flooding(scene, version, make) as cut:
        served = 0
        while min(cut) < 5 or served < 20:
            assert b" 200 " in await scene.ask()
            served += 1
    assert process.rss() - before < 16 * 1024**2
    await scrape_until(
        process, lambda found: found.values("vsproxy_listener_tls_cuts_total", reason="no_data") == [sum(cut)]
    )
