"""A server in a process of its own, to be killed, stopped and started again; run as a program by `Killable`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import Self

import uvloop

from support.ports import Ports

TESTS = Path(__file__).parents[1]


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer every request (none may have a body) with `ok`."""
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    writer.close()


async def main(port: int) -> None:
    """Listen on `port` and say so."""
    server = await asyncio.start_server(serve, "127.0.0.1", port, backlog=4096)
    print(port, flush=True)
    await server.serve_forever()


class Killable:
    """The process, as an asynchronous context; killed at the end."""

    def __init__(self) -> None:
        self._ports = Ports()
        self.port = self._ports.take()
        self._process: asyncio.subprocess.Process | None = None

    @property
    def address(self) -> str:
        """`host:port`, for the configuration."""
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Start it, always on the same port."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "support.killable", str(self.port)),
            env={**os.environ, "PYTHONPATH": str(TESTS)},
            stdout=asyncio.subprocess.PIPE,
        )
        assert self._process.stdout
        assert int(await self._process.stdout.readline()) == self.port

    async def kill(self) -> None:
        """SIGKILL: the kernel closes or resets its connections, new ones are refused."""
        if self._process and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    def freeze(self) -> None:
        """SIGSTOP: the kernel goes on accepting, nobody answers."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        assert self._process
        self._process.send_signal(signal.SIGCONT)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.kill()
        self._ports.close()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
