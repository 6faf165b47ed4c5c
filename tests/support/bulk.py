"""Large bodies for servers of tests: made as they are sent, hashed as they are read."""

from __future__ import annotations

import hashlib

from support.http import Request
from support.peer import Ended
from support.server import Conversation

MIB = 1 << 20
# No power of two: a block that is lost, doubled or moved changes the digest.
BLOCK = hashlib.shake_256(b"bulk").digest(250_007)


def digest_of(size: int) -> str:
    """SHA-256 of the first `size` bytes of the endless repetition of BLOCK."""
    digest = hashlib.sha256()
    for _ in range(size // len(BLOCK)):
        digest.update(BLOCK)
    digest.update(BLOCK[: size % len(BLOCK)])
    return digest.hexdigest()


async def bulk(peer: Conversation, request: Request) -> None:
    """For a server with `read_body` False: GET /SIZE gives that many bytes, anything with a body gets its digest.

    Bodies are read in either framing.
    """
    peer.patience = 120.0
    if request.method == "GET":
        size = int(request.target.rpartition("/")[2] or 0)
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        await pour(peer, size)
    else:
        await peer.respond((await drained(peer, request)).encode())


async def pour(peer: Conversation, size: int) -> None:
    """Send `size` bytes."""
    while size:
        block = BLOCK[:size]
        await peer.send(block)
        size -= len(block)


async def drained(peer: Conversation, request: Request) -> str:
    """The digest of a request's body, read to its end."""
    digest = hashlib.sha256()
    length = request.fields.get("Content-Length")
    if length is not None:
        await _digest(peer, digest, int(length))
        return digest.hexdigest()
    if request.fields.get("Transfer-Encoding") is not None:
        while size := int(await peer.read_until(b"\r\n"), 16):
            await _digest(peer, digest, size)
            await peer.read_exactly(2)
        await peer.read_exactly(2)
    return digest.hexdigest()


async def _digest(peer: Conversation, digest: hashlib._Hash, size: int) -> None:
    while size:
        data = await peer.recv()
        if not data:
            raise Ended(peer.ended or "", b"")
        taken, rest = data[:size], data[size:]
        peer.buffer[:0] = rest
        digest.update(taken)
        size -= len(taken)
