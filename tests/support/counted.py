"""A relay in front of something that counts what each of its clients sends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

CHUNK = 256 * 1024


@dataclass(slots=True)
class Counted:
    """Where it listens, and the bytes that came over each connection, in the order in which they were opened."""

    address: str = ""
    sent: list[int] = field(default_factory=list)


@contextlib.asynccontextmanager
async def counted(address: str) -> AsyncIterator[Counted]:
    """Relays to `address`, both ways."""
    host, _, port = address.rpartition(":")
    relay = Counted()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int | None) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(CHUNK):
                if number is not None:
                    relay.sent[number] += len(data)
                writer.write(data)
                await writer.drain()
        writer.close()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = len(relay.sent)
        relay.sent.append(0)
        there = await asyncio.open_connection(host, int(port))
        await asyncio.gather(carry(reader, there[1], number), carry(there[0], writer, None))

    server = await asyncio.start_server(connect, "127.0.0.1", 0)
    relay.address = "{}:{}".format(*server.sockets[0].getsockname())
    try:
        yield relay
    finally:
        server.close()
