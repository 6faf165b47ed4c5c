"""Servers of WebSockets: a real one, and what a scripted one has to say."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.server import ServerConnection, serve

from support.http import Request

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


async def echo(connection: ServerConnection) -> None:
    """Send back what comes."""
    async for message in connection:
        await connection.send(message)


@asynccontextmanager
async def echoing(handler: Callable[[ServerConnection], Any] = echo, **options: Any) -> AsyncIterator[str]:
    """The address of a real WebSocket server."""
    async with serve(handler, "127.0.0.1", 0, max_size=None, **options) as server:
        yield "{}:{}".format(*server.sockets[0].getsockname())


def accepting(request: Request) -> bytes:
    """The head that accepts an upgrade (RFC 6455 section 4.2.2)."""
    key = (request.fields.get("Sec-WebSocket-Key") or "").encode()
    accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
    switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    return switch + b"Sec-WebSocket-Accept: %s\r\n\r\n" % accept
