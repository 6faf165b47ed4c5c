"""What a client of a TLS port says first: TLS, or plain HTTP by mistake.

A TLS library answers plain HTTP with a closed connection, which tells nobody what is wrong. So the first
byte is looked at before TLS begins, on the bare socket: no transport has been made of it yet.
"""

from __future__ import annotations

import asyncio
import enum
import socket

LINGER = 1.0
_HANDSHAKE_RECORD = 0x16
_BODY = b"This port speaks HTTPS, and the request came as plain HTTP. Use https:// in the address.\n"
_ANSWER = (
    b"HTTP/1.1 400 Bad Request\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n"
    b"Content-Length: " + str(len(_BODY)).encode() + b"\r\n"
    b"Connection: close\r\n"
    b"\r\n" + _BODY
)


class Opening(enum.Enum):
    """What the first byte says."""

    TLS = enum.auto()
    HTTP = enum.auto()
    NOTHING = enum.auto()  # the client has closed
    OTHER = enum.auto()


async def read_opening(loop: asyncio.AbstractEventLoop, client: socket.socket) -> Opening:
    """Wait for the first byte of `client` and leave it there. Raises OSError if the connection breaks."""
    while True:
        try:
            return _classify(client.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            await _readable(loop, client)


async def answer_plain_http(loop: asyncio.AbstractEventLoop, client: socket.socket) -> None:
    """Send the 400, and read on for `LINGER` seconds: closing on unread bytes would reset the answer away."""
    try:
        client.send(_ANSWER)
        client.shutdown(socket.SHUT_WR)
        async with asyncio.timeout(LINGER):
            while await loop.sock_recv(client, 65536):
                pass
    except OSError:
        return  # gone, or out of time (TimeoutError is one): the answer is as delivered as it will ever be


def _classify(first: bytes) -> Opening:
    if not first:
        return Opening.NOTHING
    if first[0] == _HANDSHAKE_RECORD:
        return Opening.TLS
    return Opening.HTTP if first.isalpha() else Opening.OTHER


async def _readable(loop: asyncio.AbstractEventLoop, client: socket.socket) -> None:
    ready = loop.create_future()
    descriptor = client.fileno()
    loop.add_reader(descriptor, _wake, ready)
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)


def _wake(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
