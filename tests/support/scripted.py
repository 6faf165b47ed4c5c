"""Raw servers on loopback that do as a test says, and the `Server` that stands for each."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

from vsproxy.upstream.server import Server

PATIENCE = 10.0
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Scripted:
    """An HTTP server that answers one status after the other, the last one for ever."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.heads: list[bytes] = []
        self.asked = asyncio.Event()
        self.go = asyncio.Event()
        self.go.set()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heads.append(await reader.readuntil(b"\r\n\r\n"))
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        self.asked.set()
        await self.go.wait()
        writer.write(b"HTTP/1.1 %d Said\r\nLocation: /elsewhere\r\nContent-Length: 2\r\n\r\nok" % status)

    async def next_request(self) -> None:
        self.asked.clear()
        async with asyncio.timeout(PATIENCE):
            await self.asked.wait()


@asynccontextmanager
async def serving(handler: Handler, unix: Path | None = None) -> AsyncIterator[Server]:
    """A raw server on loopback, as a server of the pool that is UP."""
    tasks = set()

    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        tasks.add(task)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await handler(reader, writer)
        tasks.discard(task)
        writer.close()

    if unix is not None:
        listener: Any = await asyncio.start_unix_server(run, unix)
        server = Server("pool", f"unix:{unix}", str(unix), 0)
    else:
        listener = await asyncio.start_server(run, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        server = Server("pool", f"backend:{port}", "127.0.0.1", port)
    try:
        yield server
    finally:
        listener.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextmanager
def refusing() -> Iterator[Server]:
    """A server whose port is taken, so that nobody else gets it, and on which nobody listens."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield Server("pool", "gone:80", "127.0.0.1", holder.getsockname()[1])


async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    await asyncio.Event().wait()
