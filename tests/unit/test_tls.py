"""TLS on a listener: contexts, handshakes that fail, and what is said to those who speak plain HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from support.answering import ANSWER, LOOPS, Answering, strict_runner
from support.certificates import Certificates, make_certificates
from support.queued import until_queued
from vsproxy.config.model import ListenerConfig
from vsproxy.config.tls import TlsConfig
from vsproxy.config.units import parse_bind
from vsproxy.descriptors import Descriptors
from vsproxy.errors import VsproxyError
from vsproxy.listener import Listener
from vsproxy.tls_front import load_tls

REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
# A handshake record that announces 512 bytes, and the first of them.
HALF_A_HELLO = b"\x16\x03\x01\x02\x00\x01"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(params=LOOPS)
def runner(request: pytest.FixtureRequest) -> Iterator[asyncio.Runner]:
    """Runs the coroutine of a test, on each loop in turn."""
    with strict_runner(request.param) as runner:
        yield runner


@contextlib.asynccontextmanager
async def listening(tls: TlsConfig, **settings: float) -> AsyncIterator[Listener]:
    config = ListenerConfig(bind=parse_bind("127.0.0.1:0"), tls=tls, **settings)
    loop = asyncio.get_running_loop()
    listener = Listener(config, loop, Answering, Descriptors(1024))
    listener.bind()
    listener.start()
    try:
        yield listener
    finally:
        listener.stop_accepting()
        await listener.settle(0)
        assert (listener.stats.pending, listener.stats.held) == (0, listener.stats.active)


def port_of(listener: Listener) -> int:
    return int(listener.address.rpartition(":")[2])


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def connect(listener: Listener, context: ssl.SSLContext | None = None) -> Streams:
    name = "localhost" if context else None
    return await asyncio.open_connection("127.0.0.1", port_of(listener), ssl=context, server_hostname=name)


async def ask(streams: Streams) -> bytes:
    reader, writer = streams
    writer.write(REQUEST)
    return await reader.readexactly(len(ANSWER))


async def leave(streams: Streams) -> None:
    streams[1].close()
    with contextlib.suppress(ConnectionError):
        await streams[1].wait_closed()


def shaken(plain: socket.socket, context: ssl.SSLContext) -> tuple[ssl.SSLObject, ssl.MemoryBIO, ssl.MemoryBIO]:
    """TLS over a connected socket, with what is read and what is to be sent, whose last flight has not left yet."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    while True:
        try:
            tls.do_handshake()
            return tls, incoming, outgoing
        except ssl.SSLWantReadError:
            plain.sendall(outgoing.read())
            incoming.write(plain.recv(65536))


def talk_and_end(port: int, context: ssl.SSLContext, versions: list[str | None]) -> bytes:
    """A blocking client whose request leaves together with the end of its handshake."""
    with socket.create_connection(("127.0.0.1", port)) as plain:
        tls, incoming, outgoing = shaken(plain, context)
        tls.write(REQUEST)
        plain.sendall(outgoing.read())
        versions.append(tls.version())
        while True:
            try:
                return tls.read(65536)
            except ssl.SSLWantReadError:
                incoming.write(plain.recv(65536))


# Handshakes


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_versions_are_spoken(
    runner: asyncio.Runner, certificates: Certificates, version: ssl.TLSVersion
) -> None:
    async def scenario() -> None:
        context = certificates.client_context()
        context.minimum_version = context.maximum_version = version
        async with listening(certificates.tls) as listener:
            streams = await connect(listener, context)
            assert await ask(streams) == ANSWER
            assert listener.stats.active == 1
            await leave(streams)

    runner.run(scenario())


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_request_in_the_last_flight_of_the_handshake_is_answered(
    runner: asyncio.Runner, certificates: Certificates, version: ssl.TLSVersion
) -> None:
    async def scenario() -> None:
        context = certificates.client_context()
        context.minimum_version = context.maximum_version = version
        versions: list[str | None] = []
        async with listening(certificates.tls) as listener:
            answer = await asyncio.to_thread(talk_and_end, port_of(listener), context, versions)
        assert answer == ANSWER
        assert versions == [{"TLSv1_2": "TLSv1.2", "TLSv1_3": "TLSv1.3"}[version.name]]

    runner.run(scenario())


def test_the_end_of_the_handshake_is_answered_before_there_is_a_request(
    runner: asyncio.Runner, certificates: Certificates
) -> None:
    """Who does not set TCP_NODELAY holds the request back until the end of the handshake is acknowledged."""

    def shake_and_listen(port: int, context: ssl.SSLContext) -> bytes:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
            _, _, outgoing = shaken(plain, context)
            plain.sendall(outgoing.read())
            return plain.recv(65536)

    async def scenario() -> None:
        context = certificates.client_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        async with listening(certificates.tls) as listener:
            assert await asyncio.to_thread(shake_and_listen, port_of(listener), context)

    runner.run(scenario())


def test_nonsense_after_the_handshake_ends_the_connection_with_an_error(
    runner: asyncio.Runner, certificates: Certificates
) -> None:
    async def scenario() -> None:
        async with listening(certificates.tls) as listener:
            reader, writer = streams = await connect(listener, certificates.client_context())
            assert await ask(streams) == ANSWER
            # A record that was not sealed with the keys of this connection.
            os.write(writer.get_extra_info("socket").fileno(), b"\x17\x03\x03\x00\x20" + bytes(32))
            with pytest.raises(ssl.SSLError, match="ALERT_BAD_RECORD_MAC"):
                await reader.read()
            assert listener.stats.active == 0
            writer.transport.abort()

    runner.run(scenario())


@pytest.mark.parametrize(
    ("offered", "agreed"), [(["h2", "http/1.1"], "http/1.1"), (["h2"], None), ([], None)]
)
def test_what_is_configured_is_agreed_on(
    certificates: Certificates, offered: list[str], agreed: str | None
) -> None:
    async def scenario() -> None:
        context = certificates.client_context()
        if offered:
            context.set_alpn_protocols(offered)
        async with listening(certificates.tls.model_copy(update={"alpn": ("http/1.1",)})) as listener:
            streams = await connect(listener, context)
            assert streams[1].get_extra_info("ssl_object").selected_alpn_protocol() == agreed
            assert await ask(streams) == ANSWER
            await leave(streams)

    asyncio.run(scenario())


def test_min_version_is_kept(runner: asyncio.Runner, certificates: Certificates) -> None:
    async def scenario() -> None:
        context = certificates.client_context()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        async with listening(certificates.tls.model_copy(update={"min_version": "1.3"})) as listener:
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await connect(listener, context)
            assert await other_client_is_served(listener, certificates)
            assert (listener.stats.tls_failures, listener.stats.accepted) == (1, 2)

    runner.run(scenario())


async def other_client_is_served(listener: Listener, certificates: Certificates) -> bool:
    streams = await connect(listener, certificates.client_context())
    try:
        return await ask(streams) == ANSWER
    finally:
        await leave(streams)


def test_a_session_is_resumed(certificates: Certificates) -> None:
    async def scenario() -> None:
        context = certificates.client_context()
        context.maximum_version = ssl.TLSVersion.TLSv1_2  # 1.3 sends its tickets after the handshake
        async with listening(certificates.tls) as listener:
            reused = await asyncio.to_thread(connect_twice, port_of(listener), context)
        assert reused == [False, True]

    asyncio.run(scenario())


def test_a_session_of_tls_13_is_resumed_by_the_ticket_that_came_with_the_answer(
    runner: asyncio.Runner, certificates: Certificates
) -> None:
    def ask_three_times(port: int, context: ssl.SSLContext) -> list[bool | None]:
        reused, session = [], None
        for _ in range(3):
            with (
                socket.create_connection(("127.0.0.1", port)) as plain,
                context.wrap_socket(plain, server_hostname="localhost", session=session) as tls,
            ):
                tls.sendall(REQUEST)
                assert tls.recv(65536) == ANSWER
                reused.append(tls.session_reused)
                session = tls.session
        return reused

    async def scenario() -> None:
        context = certificates.client_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        async with listening(certificates.tls) as listener:
            assert await asyncio.to_thread(ask_three_times, port_of(listener), context) == [False, True, True]
            assert listener.stats.handshakes == 3

    runner.run(scenario())


def connect_twice(port: int, context: ssl.SSLContext) -> list[bool | None]:
    reused = []
    session = None
    for _ in range(2):
        with (
            socket.create_connection(("127.0.0.1", port)) as plain,
            context.wrap_socket(plain, server_hostname="localhost", session=session) as tls,
        ):
            reused.append(tls.session_reused)
            session = tls.session
    return reused


# Those who do not shake hands


@pytest.mark.parametrize("opening", [b"", HALF_A_HELLO], ids=["mute", "half a hello"])
def test_a_client_that_does_not_go_on_is_cut(
    runner: asyncio.Runner, certificates: Certificates, opening: bytes
) -> None:
    async def scenario() -> None:
        async with listening(certificates.tls, handshake_timeout=0.1) as listener:
            reader, writer = streams = await connect(listener)
            writer.write(opening)
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
            assert (listener.stats.tls_failures, listener.stats.pending) == (1, 0)
            await leave(streams)

    runner.run(scenario())


@pytest.mark.parametrize(
    ("opening", "failures"), [(b"", 0), (HALF_A_HELLO, 1)], ids=["at once", "after half a hello"]
)
def test_a_client_that_leaves_holds_nothing(
    runner: asyncio.Runner, certificates: Certificates, opening: bytes, failures: int
) -> None:
    async def scenario() -> None:
        async with listening(certificates.tls) as listener:
            reader, writer = streams = await connect(listener)
            writer.write(opening)
            writer.write_eof()
            with contextlib.suppress(ConnectionResetError):
                await reader.read()
            assert (listener.stats.accepted, listener.stats.pending) == (1, 0)
            assert listener.stats.tls_failures == failures
            await leave(streams)

    runner.run(scenario())


def test_garbage_is_cut(runner: asyncio.Runner, certificates: Certificates) -> None:
    async def scenario() -> None:
        async with listening(certificates.tls) as listener:
            reader, writer = streams = await connect(listener)
            writer.write(b"\x00\xff\x00\xff")
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
            assert (listener.stats.plain_on_tls, listener.stats.pending) == (0, 0)
            await leave(streams)

    runner.run(scenario())


def test_settle_cuts_handshakes_when_their_time_is_over(
    runner: asyncio.Runner, certificates: Certificates
) -> None:
    async def scenario() -> None:
        async with listening(certificates.tls) as listener:
            mute = await connect(listener)
            begun = await connect(listener)
            begun[1].write(HALF_A_HELLO)
            assert await other_client_is_served(listener, certificates)
            listener.stop_accepting()
            assert listener.stats.pending == 2
            await listener.settle(0.05)
            assert listener.stats.pending == 0
            for streams in (mute, begun):
                with contextlib.suppress(ConnectionResetError):
                    assert await streams[0].read() == b""
                await leave(streams)

    runner.run(scenario())


def test_a_handshake_under_way_is_finished_after_stop(
    runner: asyncio.Runner, certificates: Certificates
) -> None:
    async def scenario() -> None:
        async with listening(certificates.tls) as listener:
            client = socket.create_connection(("127.0.0.1", port_of(listener)))
            until_queued(listener.address, 1)
            listener.stop_accepting()
            opening = asyncio.create_task(
                asyncio.open_connection(
                    sock=client, ssl=certificates.client_context(), server_hostname="localhost"
                )
            )
            await listener.settle()
            assert listener.stats.active == 1
            streams = await opening
            assert await ask(streams) == ANSWER
            await leave(streams)

    runner.run(scenario())


# Plain HTTP


@pytest.mark.parametrize("rest", [b"", b"x" * 1024 * 1024], ids=["a head", "a large upload"])
def test_plain_http_is_told_what_is_wrong(
    runner: asyncio.Runner, certificates: Certificates, rest: bytes
) -> None:
    """The client looks at the answer only after it has sent everything: a reset would have destroyed it."""

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        async with listening(certificates.tls) as listener:
            client = socket.create_connection(("127.0.0.1", port_of(listener)))
            client.setblocking(False)
            await loop.sock_sendall(client, b"POST / HTTP/1.1\r\nHost: a\r\n\r\n")
            await readable(client)
            await loop.sock_sendall(client, rest)
            client.shutdown(socket.SHUT_WR)
            answer = await read_all(client)
            assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
            assert b"\r\nConnection: close\r\n" in answer
            assert b"This port speaks HTTPS" in answer.partition(b"\r\n\r\n")[2]
            assert (listener.stats.plain_on_tls, listener.stats.tls_failures) == (1, 0)
            client.close()

    runner.run(scenario())


async def readable(client: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    arrived = asyncio.Event()
    loop.add_reader(client.fileno(), arrived.set)
    await arrived.wait()
    loop.remove_reader(client.fileno())


async def read_all(client: socket.socket) -> bytes:
    received = b""
    while data := await asyncio.get_running_loop().sock_recv(client, 65536):
        received += data
    return received


# Contexts


def test_a_context_offers_nothing_weak(certificates: Certificates) -> None:
    context = certificates.server_context()
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    old = [cipher["name"] for cipher in context.get_ciphers() if cipher["protocol"] != "TLSv1.3"]
    assert old
    assert all(name.startswith("ECDHE-") and ("GCM" in name or "CHACHA20" in name) for name in old)
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert context.options & ssl.OP_NO_COMPRESSION
    assert not context.options & ssl.OP_NO_TICKET


def test_certificate_and_key_may_share_a_file(certificates: Certificates, tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(certificates.cert.read_bytes() + certificates.key.read_bytes())
    load_tls(TlsConfig(cert=str(both)))


@pytest.mark.parametrize("which", ["cert", "key"])
def test_a_missing_file_is_named(certificates: Certificates, tmp_path: Path, which: str) -> None:
    missing = str(tmp_path / "missing.pem")
    with pytest.raises(VsproxyError, match=f"^{missing}: No such file or directory$"):
        load_tls(certificates.tls.model_copy(update={which: missing}))


@pytest.mark.parametrize(("which", "what"), [("cert", "certificate"), ("key", "private key")])
def test_a_file_with_something_else_is_named(
    certificates: Certificates, tmp_path: Path, which: str, what: str
) -> None:
    other = tmp_path / "other.pem"
    other.write_text("nothing of the kind")
    with pytest.raises(VsproxyError, match=f"^{other}: no usable {what} in PEM form$"):
        load_tls(certificates.tls.model_copy(update={which: str(other)}))


def test_a_key_of_another_certificate_is_named(certificates: Certificates, tmp_path: Path) -> None:
    other = make_certificates(tmp_path)
    with pytest.raises(
        VsproxyError, match=f"^{other.key}: the private key does not belong to the certificate in"
    ):
        load_tls(TlsConfig(cert=str(certificates.cert), key=str(other.key)))


def test_a_key_with_a_password_is_refused_and_nobody_is_asked(
    certificates: Certificates, tmp_path: Path
) -> None:
    locked = tmp_path / "locked.key"
    key = load_pem_private_key(certificates.key.read_bytes(), None)
    locked.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    )
    with pytest.raises(VsproxyError, match=f"^{locked}: the private key is protected by a password$"):
        load_tls(TlsConfig(cert=str(certificates.cert), key=str(locked)))
