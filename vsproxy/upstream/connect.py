"""Opening a connection to a server: the rare path, so a coroutine."""

from __future__ import annotations

import asyncio
import time

from vsproxy.timers import Sweep
from vsproxy.upstream.http1 import UpstreamConnection
from vsproxy.upstream.server import Server


async def connect(server: Server, sweep: Sweep, limit: float) -> UpstreamConnection:
    """Connect to `server` within `limit` seconds.

    Raises `TimeoutError` or another `OSError`. Nothing is left open when it raises or is cancelled.
    """
    loop = asyncio.get_running_loop()
    connection = UpstreamConnection(server, sweep)
    began = time.monotonic()

    def factory() -> asyncio.Protocol:
        # No base class (a compiled class cannot have one): asyncio calls the methods by name.
        return connection  # type: ignore[return-value]

    try:
        async with asyncio.timeout(limit):
            if server.port == 0:
                await loop.create_unix_connection(factory, server.host)
            else:
                await loop.create_connection(factory, server.host, server.port)
    except BaseException:
        # Cancelled or timed out at the very moment the connection came to stand.
        connection.close()
        raise
    server.connect_time.observe(time.monotonic() - began)
    return connection
