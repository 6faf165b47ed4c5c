"""Opening a connection to a server, with TLS if need be, and for an exchange: the rare path, so coroutines."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from vsproxy.introduction import Introduction
from vsproxy.timers import Sweep
from vsproxy.tls_transport import TlsTransport
from vsproxy.upstream.handshake import Handshake
from vsproxy.upstream.http1 import UpstreamConnection
from vsproxy.upstream.opening import Header, open_connection
from vsproxy.upstream.server import Server
from vsproxy.upstream.tls import ClientTls


async def connect(
    server: Server, sweep: Sweep, limit: float, tls: ClientTls | None = None, introduction: Introduction | None = None
) -> UpstreamConnection:
    """Connect to `server` within `limit` seconds, the handshake included if there is `tls`.

    It begins as `introduction` says. Raises `TimeoutError` or another `OSError`. Nothing is left open when it raises or
    is cancelled.
    """
    connection = UpstreamConnection(server, sweep, tls)
    connection.introduction = introduction
    header = None if introduction is None else introduction.header_for
    began = time.monotonic()
    try:
        await establish(server, server.port, connection, tls, limit, header)
        if connection.lost:
            # In the moment before it was our turn.
            raise ConnectionResetError("closed at once")
    except BaseException:
        # Cancelled or timed out at the very moment the connection came to stand.
        connection.close()
        raise
    server.connect_time.observe(time.monotonic() - began)
    if introduction is not None:
        introduction.hold(connection)
    return connection


async def establish(
    server: Server,
    port: int,
    protocol: Any,
    tls: ClientTls | None,
    limit: float | None,
    header: Header | None = None,
) -> asyncio.Transport:
    """Connect `protocol` to `port` of `server` (0: its Unix socket), with `tls` in between if that is given.

    `header` as of `open_connection`: it comes before TLS.

    It may take `limit` seconds, the handshake included. None: that is the caller's to watch, and what comes of the
    handshake is neither counted nor logged.

    Returns the bare transport. Raises an `OSError`, of which `TimeoutError` and `ssl.SSLError` are some. When it raises
    or is cancelled, a connection with TLS is cut.
    """
    until = None if limit is None else asyncio.get_running_loop().time() + limit
    if tls is None:
        async with asyncio.timeout_at(until):
            return await open_connection(server.host, port, protocol, header)
    handshake = Handshake(tls, server, protocol, limit is not None)
    secure = TlsTransport(handshake, tls.context, None)
    try:
        async with asyncio.timeout_at(until):
            transport = await open_connection(server.host, port, secure, header)
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
