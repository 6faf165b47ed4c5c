"""Opening a connection to a server: the rare path, so coroutines."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from vsproxy.timers import Sweep
from vsproxy.tls_transport import TlsTransport
from vsproxy.upstream.handshake import Handshake
from vsproxy.upstream.http1 import UpstreamConnection
from vsproxy.upstream.server import Server
from vsproxy.upstream.tls import ClientTls


async def connect(server: Server, sweep: Sweep, limit: float, tls: ClientTls | None = None) -> UpstreamConnection:
    """Connect to `server` within `limit` seconds, the handshake included if there is `tls`.

    Raises `TimeoutError` or another `OSError`. Nothing is left open when it raises or is cancelled.
    """
    connection = UpstreamConnection(server, sweep, tls)
    began = time.monotonic()
    try:
        await establish(server, server.port, connection, tls, limit)
        if connection.lost:
            # In the moment before it was our turn.
            raise ConnectionResetError("closed at once")
    except BaseException:
        # Cancelled or timed out at the very moment the connection came to stand.
        connection.close()
        raise
    server.connect_time.observe(time.monotonic() - began)
    return connection


async def establish(
    server: Server, port: int, protocol: Any, tls: ClientTls | None, limit: float | None
) -> asyncio.Transport:
    """Connect `protocol` to `port` of `server` (0: its Unix socket), with `tls` in between if that is given.

    It may take `limit` seconds, the handshake included. None: that is the caller's to watch, and what comes of the
    handshake is neither counted nor logged.

    Returns the bare transport. Raises an `OSError`, of which `TimeoutError` and `ssl.SSLError` are some. When it raises
    or is cancelled, a connection with TLS is cut.
    """
    until = None if limit is None else asyncio.get_running_loop().time() + limit
    if tls is None:
        async with asyncio.timeout_at(until):
            return await _open(server.host, port, protocol)
    handshake = Handshake(tls, server, protocol, limit is not None)
    secure = TlsTransport(handshake, tls.context, None)
    try:
        async with asyncio.timeout_at(until):
            transport = await _open(server.host, port, secure)
        try:
            async with asyncio.timeout_at(until):
                await handshake.done
        except TimeoutError:
            handshake.overdue()
            raise
    except BaseException:
        handshake.done.cancel()
        # Also one that has come to TLS in the moment in which we were cancelled.
        secure.abort()
        raise
    return transport


async def _open(host: str, port: int, protocol: Any) -> asyncio.Transport:
    """The bare connection."""
    loop = asyncio.get_running_loop()

    def factory() -> asyncio.Protocol:
        # No base class (a compiled class cannot have one): asyncio calls the methods by name.
        kept: asyncio.Protocol = protocol
        return kept

    if port == 0:
        transport, _ = await loop.create_unix_connection(factory, host)
    else:
        transport, _ = await loop.create_connection(factory, host, port)
    return transport
