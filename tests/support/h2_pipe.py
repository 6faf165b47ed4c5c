"""What bytes of HTTP/2 go through: a bare socket, or TLS with ALPN `h2`."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Protocol

from support.peer import Peer


class Pipe(Protocol):
    """One connection. `ended` is "fin" or "reset" once the other side has ended."""

    ended: str | None

    async def send(self, data: bytes) -> None:
        """Send all of `data`."""

    async def recv(self) -> bytes:
        """The next bytes; empty at the end."""

    def close(self) -> None:
        """Close both ways."""

    def reset(self) -> None:
        """Close with a reset."""


class TlsPipe:
    """TLS on asyncio's streams; up to 128 KiB are read ahead of `recv`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.ended: str | None = None

    async def send(self, data: bytes) -> None:
        """Send `data`; returns when nearly all of it is on its way."""
        self._writer.write(data)
        await self._writer.drain()

    async def recv(self) -> bytes:
        """The next bytes; empty at the end, and then `ended` says how."""
        try:
            data = await self._reader.read(256 * 1024)
        except (ConnectionError, ssl.SSLError):
            self.ended = "reset"
            return b""
        if not data:
            self.ended = "fin"
        return data

    def close(self) -> None:
        """Close both ways."""
        self._writer.close()

    def reset(self) -> None:
        """Close without a word of TLS."""
        self._writer.transport.abort()


async def open_pipe(address: str, tls: ssl.SSLContext | None, name: str, receive_buffer: int | None) -> Pipe:
    """Connect to `host:port`; with `tls` for the host `name`, and `h2` has to be agreed on.

    `receive_buffer` (bytes) makes a kernel that can hold little for us.
    """
    host, _, port = address.rpartition(":")
    sock = socket.socket()
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, (host, int(port)))
    if tls is None:
        # Whoever waits for the next bytes waits for as long as the test does.
        return Peer(sock, patience=3600.0)
    tls.set_alpn_protocols(["h2", "http/1.1"])
    reader, writer = await asyncio.open_connection(sock=sock, ssl=tls, server_hostname=name)
    agreed = writer.get_extra_info("ssl_object").selected_alpn_protocol()
    assert agreed == "h2", f"ALPN chose {agreed}"
    return TlsPipe(reader, writer)
