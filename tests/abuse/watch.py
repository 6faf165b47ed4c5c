"""How the bystanders fare."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

from support.proxies import environment

PROTOCOLS = ("http1", "http2")
TESTS = Path(__file__).parent.parent


class Bystanders:
    """The process of bystander.py, and what it has told so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.server = ""
        self._told: dict[str, list[tuple[float, float]]] = {name: [] for name in PROTOCOLS}
        self._more = asyncio.Event()
        self._listener: asyncio.Task[None] | None = None

    async def begin(self, address: str) -> None:
        """Use the proxy at `address` from now on."""
        assert self.process.stdin
        self.process.stdin.write(address.replace(":", " ").encode() + b"\n")
        self._listener = asyncio.create_task(self._listen())

    async def learn_server(self) -> None:
        """Wait for the server."""
        assert self.process.stdout
        self.server = f"127.0.0.1:{int(await self.process.stdout.readline())}"

    async def _listen(self) -> None:
        assert self.process.stdout
        async for line in self.process.stdout:
            due, took, name = line.split()
            self._told[name.decode()].append((float(due), float(took)))
            self._more.set()

    async def enough(self, since: float, count: int, seconds: float = 15.0) -> None:
        """Wait until each has had so many answers to requests that were due after `since`."""
        async with asyncio.timeout(seconds):
            while not self.had(since, count):
                assert self._listener
                assert not self._listener.done(), "the bystander has ended"
                self._more.clear()
                await self._more.wait()

    def had(self, since: float, count: int) -> bool:
        """Whether each has had so many answers to requests that were due after `since`."""
        return all(len(self.between(name, since, time.monotonic())) >= count for name in PROTOCOLS)

    def between(self, name: str, since: float, until: float) -> list[float]:
        """How long (s) the requests took that were due in this time."""
        return [took for due, took in self._told[name] if since <= due <= until]


def p99(values: list[float]) -> float:
    """The value that one in a hundred exceeds."""
    return sorted(values)[int((len(values) - 1) * 0.99)]


@contextlib.asynccontextmanager
async def bystanders() -> AsyncIterator[Bystanders]:
    """The process, until the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(TESTS / "abuse" / "bystander.py"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**environment(), "PYTHONPATH": str(TESTS)},
    )
    watched = Bystanders(process)
    try:
        await watched.learn_server()
        yield watched
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        if watched._listener:
            await watched._listener
