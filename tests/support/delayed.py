"""A network between a client and what it talks to: whatever is sent arrives, but later."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

#: Bytes on their way in one direction, at most: the window of TCP over a long road.
IN_FLIGHT = 64 << 20
CHUNK = 256 * 1024


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float) -> None:
    """Everything from `reader` to `writer`, `delay` seconds later, at any speed."""
    loop = asyncio.get_running_loop()
    road: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(IN_FLIGHT // CHUNK)

    async def arrive() -> None:
        while True:
            due, data = await road.get()
            await asyncio.sleep(due - loop.time())
            if not data:
                writer.close()
                return
            writer.write(data)
            await writer.drain()

    async with asyncio.TaskGroup() as tasks:
        arriving = tasks.create_task(arrive())
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(CHUNK):
                await road.put((loop.time() + delay, data))
        await road.put((loop.time() + delay, b""))
        await arriving


@contextlib.asynccontextmanager
async def delayed(address: str, round_trip: float) -> AsyncIterator[str]:
    """An address from which `address` is `round_trip` seconds away, there and back."""
    host, _, port = address.rpartition(":")
    relays: set[asyncio.Task[None]] = set()

    async def relay(near: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
        far = await asyncio.open_connection(host, int(port))
        # Either way may be cut while the other still carries.
        with contextlib.suppress(ExceptionGroup):
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_carry(near[0], far[1], round_trip / 2))
                tasks.create_task(_carry(far[0], near[1], round_trip / 2))

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        relays.add(asyncio.create_task(relay((reader, writer))))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield "{}:{}".format(*server.sockets[0].getsockname())
    finally:
        server.close()
        for task in relays:
            task.cancel()
        await asyncio.gather(*relays, return_exceptions=True)
