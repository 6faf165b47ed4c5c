"""Servers with TLS that remember what they were shown, and certificates of every kind for them."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

HOUR = datetime.timedelta(hours=1)
Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter
Script = Callable[[Reader, Writer, bytes], Awaitable[None]]


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as files."""

    cert: Path
    key: Path


class Authority:
    """A CA in `directory`; `ca` is the file with its certificate."""

    def __init__(self, directory: Path, name: str = "test CA") -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = (
            _builder(self._name, self._name, self._key.public_key(), datetime.timedelta(days=2))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.ca = directory / f"{name.replace(' ', '-')}.pem"
        self.ca.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def issue(
        self, *names: str, file: str = "server", expired: bool = False, client: bool = False, self_signed: bool = False
    ) -> Pair:
        """A certificate for `names`, hosts or addresses; as server, or as `client`."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        usage = ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH
        end = -HOUR if expired else 24 * HOUR
        builder = (
            _builder(subject, subject if self_signed else self._name, key.public_key(), end)
            .add_extension(x509.SubjectAlternativeName([_alternative(name) for name in names]), critical=False)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        )
        certificate = builder.sign(key if self_signed else self._key, hashes.SHA256())
        pair = Pair(self._directory / f"{file}.pem", self._directory / f"{file}.key")
        pair.cert.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        pair.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return pair


def _builder(subject: x509.Name, issuer: x509.Name, public: Any, end: datetime.timedelta) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 48 * HOUR)
        .not_valid_after(now + end)
    )


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def server_context(pair: Pair, *, client_ca: Path | None = None, version: str | None = None) -> ssl.SSLContext:
    """For a server that shows `pair`; with `client_ca` it demands a certificate. `version`: `1.2` or `1.3` only."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    context.set_alpn_protocols(["h2", "http/1.1"])
    if version is not None:
        only = ssl.TLSVersion.TLSv1_2 if version == "1.2" else ssl.TLSVersion.TLSv1_3
        context.minimum_version = context.maximum_version = only
    if client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(client_ca)
    return context


async def hello(reader: Reader, writer: Writer, head: bytes) -> None:
    """Answer 200 `hello`, once the body is there."""
    length = head.lower().partition(b"content-length: ")[2].partition(b"\r")[0]
    await reader.readexactly(int(length or 0))
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")


@dataclass
class Shown:
    """What one connection has shown the server. `sni` None: no name at all."""

    sni: str | None
    resumed: bool
    alpn: str | None
    subject: str | None


@dataclass
class TlsServer:
    """Listens on loopback; runs `script` for each request, with its head."""

    context: ssl.SSLContext
    script: Script = hello
    port: int = 0
    shown: list[Shown] = field(default_factory=list)
    heads: list[bytes] = field(default_factory=list)
    #: What the scripts did not expect.
    failures: list[BaseException] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._names: dict[int, str | None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[Writer] = set()
        self.context.sni_callback = self._on_name

    @property
    def address(self) -> str:
        """`host:port`, for the configuration."""
        return f"127.0.0.1:{self.port}"

    def _on_name(self, tls: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        self._names[id(tls)] = name

    async def _serve(self, reader: Reader, writer: Writer) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        tls: ssl.SSLObject = writer.get_extra_info("ssl_object")
        certificate: Any = tls.getpeercert() or {}
        subject = dict(pair[0] for pair in certificate.get("subject", ())).get("commonName")
        self.shown.append(
            Shown(self._names.pop(id(tls), None), tls.session_reused, tls.selected_alpn_protocol(), subject)
        )
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                self.heads.append(head)
                await self.script(reader, writer, head)
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass  # the proxy has closed, or the test has: what that means is the test's to judge
        except Exception as failure:
            self.failures.append(failure)
        finally:
            self._tasks.discard(task)
            writer.close()

    async def start(self) -> None:
        """Listen; after a `stop`, on the same port again."""
        self._listening = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self.context)
        self.port = self._listening.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Go away, with all connections."""
        self._listening.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.cut()

    def cut(self) -> None:
        """End all connections without a word of TLS."""
        for writer in self._writers:
            with suppress(Exception):
                writer.transport.abort()
        self._writers.clear()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()
        for failure in self.failures:
            raise AssertionError("a script failed") from failure


class ThreadedTls:
    """A server that speaks TLS in threads, by blocking calls: nothing of a loop's TLS, and each step is the script's.

    `script` gets each connection after its handshake; the connection is closed after it, without close_notify. An end
    without one by the other side is an `ssl.SSLEOFError` for it.
    """

    def __init__(self, context: ssl.SSLContext, script: Callable[[ssl.SSLSocket], object], buffer: int = 0) -> None:
        self.connections = 0
        self.failures: list[Exception] = []
        self._context = context
        self._script = script
        self._listening = socket.socket()
        if buffer:
            self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self._listening.bind(("127.0.0.1", 0))
        self._listening.listen()
        self._threads: list[threading.Thread] = []
        self._socks: list[socket.socket] = []

    @property
    def address(self) -> str:
        """`host:port`, for the configuration."""
        return "{}:{}".format(*self._listening.getsockname())

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listening.accept()
            except OSError:
                return  # closed: the test is over
            self.connections += 1
            # Else a close with something unread would drop what Nagle holds back.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(60.0)
            self._socks.append(sock)
            self._start(self._converse, sock)

    def _converse(self, sock: socket.socket) -> None:
        try:
            with self._context.wrap_socket(sock, server_side=True, suppress_ragged_eofs=False) as tls:
                self._socks.append(tls)
                self._script(tls)
        except (OSError, EOFError):
            pass  # the proxy has closed: what that means is the test's to judge
        except Exception as failure:
            self.failures.append(failure)

    def _start(self, work: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *exc: object) -> None:
        for sock in (self._listening, *self._socks):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        for thread in self._threads:
            thread.join(10.0)
        for failure in self.failures:
            raise AssertionError("a script failed") from failure


def read_head(tls: ssl.SSLSocket) -> bytes:
    """The head of the next request. Raises EOFError at the end."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        # One at a time: what follows is the body's.
        byte = tls.recv(1)
        if not byte:
            raise EOFError
        head += byte
    return head
