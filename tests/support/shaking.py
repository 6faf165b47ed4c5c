"""TLS handshakes of one client: in memory with a context, or with a listener over a socket."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator
from typing import NamedTuple

from cryptography import x509

from support.http import request_bytes

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


class Shaken(NamedTuple):
    """What became of a handshake; `session` is the one to go on with."""

    session: ssl.SSLSession | None
    resumed: bool
    serial: int | None
    cipher: str
    protocol: str | None

    @classmethod
    def of(cls, tls: ssl.SSLSocket | ssl.SSLObject) -> Shaken:
        """What a client sees, once it has read something."""
        found = tls.getpeercert(binary_form=True)
        cipher = tls.cipher()
        assert cipher is not None
        serial = x509.load_der_x509_certificate(found).serial_number if found else None
        return cls(tls.session, bool(tls.session_reused), serial, cipher[0], tls.selected_alpn_protocol())


def anyone(version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    """A client that takes any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


def shake_in_memory(
    server: ssl.SSLContext, client: ssl.SSLContext, name: str | None = None, session: ssl.SSLSession | None = None
) -> Shaken:
    """A handshake, and a byte from the server, with which tickets come. Raises ssl.SSLError of either side."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    here = client.wrap_bio(to_client, to_server, server_hostname=name, session=session)
    there = server.wrap_bio(to_server, to_client, server_side=True)
    waiting = {here, there}
    while waiting:
        for side in tuple(waiting):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            waiting.discard(side)
    there.write(b"x")
    assert here.read(1) == b"x"
    return Shaken.of(here)


def serial_of(cert: bytes) -> int:
    """The number of the first certificate in a PEM file."""
    return x509.load_pem_x509_certificates(cert)[0].serial_number


@contextlib.contextmanager
def dialled(
    address: str, client: ssl.SSLContext, name: str | None = "localhost", session: ssl.SSLSession | None = None
) -> Iterator[tuple[ssl.SSLSocket, Shaken]]:
    """A connection to a listener, after one request. Raises OSError if that fails."""
    host, port = address.rsplit(":", 1)
    with (
        socket.create_connection((host, int(port)), timeout=20) as plain,
        client.wrap_socket(plain, server_hostname=name, session=session) as tls,
    ):
        tls.sendall(request_bytes())
        if not tls.recv(65536).startswith(b"HTTP/1.1 "):
            raise ConnectionError("no answer")
        yield tls, Shaken.of(tls)


def shake_with(
    address: str, client: ssl.SSLContext, name: str | None = "localhost", session: ssl.SSLSession | None = None
) -> Shaken:
    """A handshake with a listener and one request. Raises OSError if either fails."""
    with dialled(address, client, name, session) as (_, shaken):
        return shaken


async def shake(
    address: str, client: ssl.SSLContext, name: str | None = "localhost", session: ssl.SSLSession | None = None
) -> Shaken:
    """`shake_with`, in a thread."""
    return await asyncio.to_thread(shake_with, address, client, name, session)
