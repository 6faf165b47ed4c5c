"""Fronts on a listener: who has to begin with a PROXY header, what becomes of those who do not, and what follows it."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.answering import ANSWER, LOOPS, Answering, strict_runner
from support.certificates import Certificates, make_certificates
from vsproxy.config.model import ListenerConfig, TlsConfig
from vsproxy.config.units import parse_bind
from vsproxy.descriptors import Descriptors
from vsproxy.listener import Listener, Terms
from vsproxy.wire.proxy_header import Ends, block_of, ends_of, line_of

REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
CLIENT = ends_of("203.0.113.7", 4711, "198.51.100.1", 443)
CLIENT6 = ends_of("2001:db8::7", 4711, "2001:db8::1", 443)
FRONTS = [ipaddress.ip_network("127.0.0.1")]
PATIENCE = 30.0


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(params=LOOPS)
def runner(request: pytest.FixtureRequest) -> Iterator[asyncio.Runner]:
    """Runs the coroutine of a test, on each loop in turn."""
    with strict_runner(request.param) as runner:
        yield runner


class Fronted:
    """A listener, and the protocols that it made of its clients."""

    def __init__(self, **keys: Any) -> None:
        bind = parse_bind(keys.pop("bind", "127.0.0.1:0"))
        self.config = ListenerConfig(bind=bind, proxy_protocol=keys.pop("fronts", FRONTS), **keys)
        self.clients: list[Answering] = []
        self.listener = Listener(self.config, asyncio.get_running_loop(), self.make, Descriptors(1024))

    def make(self, *arguments: Any, **keys: Any) -> Answering:
        self.clients.append(Answering(*arguments, **keys))
        return self.clients[-1]

    @property
    def stats(self) -> Any:
        return self.listener.stats

    @property
    def counts(self) -> tuple[int, int, int]:
        """Failures, who was turned away, who is on the way."""
        return self.stats.proxy_failures, self.stats.turned_away, self.stats.pending

    def socket(self, source: str = "127.0.0.1") -> socket.socket:
        """A connected socket, non-blocking."""
        address = self.listener.address
        if address.startswith("unix:"):
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(address.removeprefix("unix:"))
        else:
            sock = socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), source_address=(source, 0))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        return sock


@contextlib.asynccontextmanager
async def fronted(**keys: Any) -> AsyncIterator[Fronted]:
    there = Fronted(**keys)
    there.listener.bind()
    there.listener.start()
    try:
        yield there
    finally:
        there.listener.stop_accepting()
        await there.listener.settle(0)
        assert (there.stats.pending, there.stats.held) == (0, there.stats.active)


async def send(sock: socket.socket, data: bytes) -> None:
    await asyncio.wait_for(asyncio.get_running_loop().sock_sendall(sock, data), PATIENCE)


async def receive(sock: socket.socket) -> bytes:
    """The next bytes, empty at the end, by whichever way."""
    with contextlib.suppress(ConnectionResetError):
        return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(sock, 4096), PATIENCE)
    return b""


async def until(condition: Any) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    ("header", "ends"),
    [
        (line_of(CLIENT), CLIENT),
        (line_of(CLIENT6), CLIENT6),
        (block_of(CLIENT), CLIENT),
        (block_of(CLIENT6), CLIENT6),
        (line_of(None), None),
        (block_of(None), None),
    ],
)
def test_what_a_front_says(runner: asyncio.Runner, header: bytes, ends: Ends | None) -> None:
    async def play() -> None:
        async with fronted() as there:
            with there.socket() as whole, there.socket() as apart:
                await send(whole, header + REQUEST)
                assert await receive(whole) == ANSWER
                await send(apart, header)
                await until(lambda: len(there.clients) == 2)
                await send(apart, REQUEST)
                assert await receive(apart) == ANSWER
            assert [client.ends for client in there.clients] == [ends, ends]
            assert there.counts == (0, 0, 0)

    runner.run(play())


@pytest.mark.parametrize("header", [line_of(CLIENT6), block_of(CLIENT)])
def test_bytes_one_by_one(runner: asyncio.Runner, header: bytes) -> None:
    async def play() -> None:
        async with fronted() as there:
            with there.socket() as sock:
                data = header + REQUEST
                for at in range(len(data)):
                    await send(sock, data[at : at + 1])
                    await asyncio.sleep(0)
                assert await receive(sock) == ANSWER
            assert len(there.clients) == 1
            assert there.clients[0].ends is not None

    runner.run(play())


@pytest.mark.parametrize(
    "data",
    [REQUEST, b"\x16\x03\x01\x02\x00\x01", b"PROXY TCP4 1.2.3.4\r\n", block_of(CLIENT)[:12] + b"\x11", b"\r\n\r\n\r\n"],
)
def test_a_front_without_a_header_gets_no_answer(
    runner: asyncio.Runner, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def play() -> None:
        async with fronted() as there:
            with there.socket() as sock:
                await send(sock, data)
                assert await receive(sock) == b""
            await until(lambda: there.counts == (1, 1, 0))
            assert there.clients == []

    with caplog.at_level(logging.DEBUG, "vsproxy.front_gate"):
        runner.run(play())
    assert "no PROXY header from 127.0.0.1: " in caplog.text


def test_who_is_no_front_is_an_ordinary_client(runner: asyncio.Runner) -> None:
    async def play() -> None:
        async with fronted() as there:
            with there.socket("127.0.0.2") as ordinary, there.socket("127.0.0.2") as pretender:
                await send(ordinary, REQUEST)
                assert await receive(ordinary) == ANSWER
                # Its first bytes are the first bytes of a request, whatever they are.
                await send(pretender, line_of(CLIENT) + REQUEST)
                assert await receive(pretender) == ANSWER
            assert [client.ends for client in there.clients] == [None, None]
            assert there.counts == (0, 0, 0)

    runner.run(play())


def test_who_connects_and_leaves_has_not_failed(runner: asyncio.Runner) -> None:
    """The checks of many fronts only connect."""

    async def play() -> None:
        async with fronted() as there:
            there.socket().close()
            await until(lambda: there.counts == (0, 1, 0))
            with there.socket() as sock:
                await send(sock, b"PROXY TCP4 ")
            await until(lambda: there.counts == (1, 2, 0))

    runner.run(play())


def test_a_header_has_its_time(runner: asyncio.Runner) -> None:
    async def play() -> None:
        loop = asyncio.get_running_loop()
        async with fronted(header_timeout=1.0) as there:
            began = loop.time()
            with there.socket() as mute, there.socket() as slow:
                await send(slow, b"PROXY TCP4 1")
                assert await receive(mute) == b""
                assert await receive(slow) == b""
                assert 0.9 < loop.time() - began < PATIENCE
            await until(lambda: there.counts == (2, 2, 0))
            # Only the header: whoever has sent it is not in a hurry.
            with there.socket() as sock:
                await send(sock, line_of(CLIENT))
                await until(lambda: len(there.clients) == 1)
                await asyncio.sleep(1.2)
                await send(sock, REQUEST)
                assert await receive(sock) == ANSWER
            assert there.counts == (2, 2, 0)

    runner.run(play())


def test_a_shorter_time_is_for_those_that_come_later(runner: asyncio.Runner) -> None:
    async def play() -> None:
        async with fronted(header_timeout=600.0) as there:
            with there.socket() as patient:
                await until(lambda: there.stats.pending == 1)
                config = there.config.model_copy(update={"header_timeout": 0.1})
                there.listener.switch(Terms(config, there.make, None))
                with there.socket() as hurried:
                    assert await receive(hurried) == b""
                await send(patient, line_of(CLIENT) + REQUEST)
                assert await receive(patient) == ANSWER

    runner.run(play())


def test_the_terms_are_those_of_the_moment_of_the_accept(runner: asyncio.Runner) -> None:
    async def play() -> None:
        async with fronted() as there:
            with there.socket() as before:
                await until(lambda: there.stats.pending == 1)
                config = there.config.model_copy(update={"proxy_protocol": ()})
                there.listener.switch(Terms(config, there.make, None))
                await send(before, line_of(CLIENT) + REQUEST)
                assert await receive(before) == ANSWER
                with there.socket() as after:
                    await send(after, REQUEST)
                    assert await receive(after) == ANSWER
            assert [client.ends for client in there.clients] == [CLIENT, None]

    runner.run(play())


def test_everybody_on_a_unix_socket_is_a_front(runner: asyncio.Runner, tmp_path: Path) -> None:
    async def play() -> None:
        async with fronted(bind=f"unix:{tmp_path}/front") as there:
            with there.socket() as front, there.socket() as bare:
                await send(front, block_of(CLIENT) + REQUEST)
                assert await receive(front) == ANSWER
                await send(bare, REQUEST)
                assert await receive(bare) == b""
            await until(lambda: there.counts == (1, 1, 0))
            assert [client.ends for client in there.clients] == [CLIENT]

    runner.run(play())


def test_both_families(runner: asyncio.Runner) -> None:
    async def play() -> None:
        async with fronted(bind=":0") as there:
            port = int(there.listener.address.rpartition(":")[2])
            for host, expected in (("127.0.0.1", CLIENT), ("::1", None)):
                with socket.create_connection((host, port)) as sock:
                    sock.setblocking(False)
                    await send(sock, (line_of(CLIENT) if expected else b"") + REQUEST)
                    assert await receive(sock) == ANSWER
                    assert there.clients[-1].ends == expected
        async with fronted(bind="[::1]:0", fronts=[ipaddress.ip_network("::/64")]) as there:
            port = int(there.listener.address.rpartition(":")[2])
            with socket.create_connection(("::1", port)) as sock:
                sock.setblocking(False)
                await send(sock, block_of(CLIENT6) + REQUEST)
                assert await receive(sock) == ANSWER
            assert there.clients[-1].ends == CLIENT6

    runner.run(play())


def test_a_stop_waits_for_nobody_who_says_nothing(runner: asyncio.Runner) -> None:
    async def play() -> None:
        async with fronted() as there:
            with there.socket() as mute, there.socket() as begun:
                await send(begun, b"PROXY ")
                await until(lambda: there.stats.pending == 2)
                there.listener.stop_accepting()
                await asyncio.wait_for(there.listener.settle(0.1), PATIENCE)
                assert await receive(mute) == await receive(begun) == b""
            # We have cut them: nothing was wrong with them.
            assert there.counts == (0, 2, 0)

    runner.run(play())


# Before TLS


def shake(there: Fronted, certificates: Certificates, first: bytes, source: str, together: bool) -> bytes:
    """A blocking client: `first`, in one packet with its Hello or before it, TLS, a request; what it is answered."""
    port = int(there.listener.address.rpartition(":")[2])
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = certificates.client_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with socket.create_connection(("127.0.0.1", port), PATIENCE, (source, 0)) as plain:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if first and not together:
            plain.sendall(first)
            first = b""
        answer = b""
        asked = False
        while not answer:
            try:
                if not asked:
                    tls.do_handshake()
                    tls.write(REQUEST)
                    asked = True
                    plain.sendall(outgoing.read())
                answer = tls.read(4096)
            except ssl.SSLWantReadError:
                data = first + outgoing.read()
                first = b""
                if data:
                    plain.sendall(data)
                received = plain.recv(65536)
                if not received:
                    return b""
                incoming.write(received)
        return answer


@pytest.mark.parametrize("together", [True, False], ids=["together", "apart"])
@pytest.mark.parametrize(
    ("header", "ends"), [(line_of(CLIENT), CLIENT), (block_of(CLIENT6), CLIENT6), (line_of(None), None)]
)
def test_tls_follows(
    runner: asyncio.Runner, certificates: Certificates, header: bytes, ends: Ends | None, together: bool
) -> None:
    async def play() -> None:
        tls = TlsConfig(cert=str(certificates.cert), key=str(certificates.key))
        async with fronted(tls=tls) as there:
            answer = await asyncio.to_thread(shake, there, certificates, header, "127.0.0.1", together)
            assert answer == ANSWER
            assert [client.ends for client in there.clients] == [ends]
            assert (there.stats.handshakes, there.counts) == (1, (0, 0, 0))

    runner.run(play())


@pytest.mark.parametrize("header", [b"", line_of(CLIENT)], ids=["no front", "front"])
def test_records_arrive_in_the_buffer_of_the_listener(certificates: Certificates, header: bytes) -> None:
    """uvloop would otherwise go on making bytes of each read, 256 KiB at a time."""

    async def play() -> None:
        tls = TlsConfig(cert=str(certificates.cert), key=str(certificates.key))
        async with fronted(tls=tls) as there:
            source = "127.0.0.1" if header else "127.0.0.2"
            assert await asyncio.to_thread(shake, there, certificates, header, source, False) == ANSWER
            assert any(there.listener._gate.arriving[:32])

    with strict_runner("uvloop") as runner:
        runner.run(play())


def test_tls_of_fronts_and_others(runner: asyncio.Runner, certificates: Certificates) -> None:
    async def play() -> None:
        tls = TlsConfig(cert=str(certificates.cert), key=str(certificates.key))
        async with fronted(tls=tls) as there:
            assert await asyncio.to_thread(shake, there, certificates, b"", "127.0.0.2", False) == ANSWER
            assert await asyncio.to_thread(shake, there, certificates, b"", "127.0.0.1", False) == b""
            await until(lambda: there.counts == (1, 1, 0))
            # A header is no TLS, and plain HTTP behind one is what it is without.
            with there.socket("127.0.0.2") as pretender, there.socket() as plain:
                await send(pretender, line_of(CLIENT))
                assert (await receive(pretender)).startswith(b"HTTP/1.1 400 ")
                await send(plain, line_of(CLIENT) + REQUEST)
                assert (await receive(plain)).startswith(b"HTTP/1.1 400 ")
            assert there.stats.plain_on_tls == 2

    runner.run(play())


def test_a_header_and_half_a_handshake(runner: asyncio.Runner, certificates: Certificates) -> None:
    async def play() -> None:
        tls = TlsConfig(cert=str(certificates.cert), key=str(certificates.key))
        async with fronted(tls=tls) as there:
            with there.socket() as sock:
                await send(sock, line_of(CLIENT) + b"\x16\x03\x01\x02\x00\x01")
                await until(lambda: there.stats.pending == 1)
                there.listener.stop_accepting()
                await asyncio.wait_for(there.listener.settle(0.1), PATIENCE)
                assert await receive(sock) == b""
            assert there.clients == []

    runner.run(play())
