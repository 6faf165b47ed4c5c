"""Opening a connection to a server for an exchange: the rare path, so a coroutine."""

from __future__ import annotations

import asyncio
import time

from vsproxy.introduction import Introduction
from vsproxy.timers import Sweep
from vsproxy.upstream.http1 import UpstreamConnection
from vsproxy.upstream.opening import open_connection
from vsproxy.upstream.server import Server


async def connect(
    server: Server, sweep: Sweep, limit: float, introduction: Introduction | None = None
) -> UpstreamConnection:
    """Connect to `server` within `limit` seconds, and begin as `introduction` says.

    Raises `TimeoutError` or another `OSError`. Nothing is left open when it raises or is cancelled.
    """
    connection = UpstreamConnection(server, sweep)
    connection.introduction = introduction
    header = None if introduction is None else introduction.header_for
    began = time.monotonic()
    try:
        async with asyncio.timeout(limit):
            await open_connection(server.host, server.port, connection, header)
    except BaseException:
        # Cancelled or timed out at the very moment the connection came to stand.
        connection.close()
        raise
    server.connect_time.observe(time.monotonic() - began)
    if introduction is not None:
        introduction.hold(connection)
    return connection
