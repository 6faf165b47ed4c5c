"""A client of the proxy, by hand."""

from __future__ import annotations

import asyncio
import socket

from support.http import Response, read_response, request_bytes
from support.peer import Peer


class Client(Peer):
    """A client's end of one connection."""

    async def response(self, method: str = "GET") -> Response:
        """The next response to a request of `method`."""
        return await read_response(self, method)

    async def request(
        self,
        method: str = "GET",
        target: str = "/",
        *,
        host: str = "test.example",
        fields: dict[str, str] | None = None,
        body: bytes | None = None,
        version: str = "1.1",
    ) -> Response:
        """Send one request and read its response."""
        await self.send(request_bytes(method, target, host=host, fields=fields, body=body, version=version))
        return await self.response(method)

    async def raw(self, data: bytes, method: str = "GET") -> Response:
        """Send `data` and read one response."""
        await self.send(data)
        return await self.response(method)


async def connect(address: str, *, receive_buffer: int | None = None) -> Client:
    """Connect to `host:port` or `unix:/path`; `receive_buffer` (bytes) makes a client that can hold little."""
    if address.startswith("unix:"):
        sock = socket.socket(socket.AF_UNIX)
        target: object = address.removeprefix("unix:")
    else:
        host, _, port = address.rpartition(":")
        sock = socket.socket()
        target = (host, int(port))
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, target)
    return Client(sock)


async def refuses(address: str) -> bool:
    """Whether nobody listens at `address`. In the moment in which a listener closes, the answer is that it does."""
    try:
        async with await connect(address):
            return False
    except (ConnectionRefusedError, FileNotFoundError):
        return True
    except ConnectionResetError:
        # It closed with us in its queue.
        return False


async def until_refused(address: str, seconds: float = 5.0) -> None:
    """Wait until nobody listens at `address` any more: who is told to stop closes it a moment later."""
    async with asyncio.timeout(seconds):
        while not await refuses(address):
            await asyncio.sleep(0.005)
