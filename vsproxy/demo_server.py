"""One server of the demo: a program of its own, so that it can be killed for real, and the handle to it.

The program is started by its file name, `demo_server.py NAME PORT`, and needs nothing of vsproxy. It ends when
the pipe that is its standard input is closed: it never outlives the demo, whatever happens to that.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
import sys
from asyncio.subprocess import PIPE, Process

from aiohttp import WSMsgType, web

HOST = "127.0.0.1"
_START_TIMEOUT = 30.0
_LONGEST_SLEEP = 3600.0
_NAME = web.AppKey("name", str)


class ServerProcess:
    """The process of the server `name`; `port` is 0 until the first start and then stays the same."""

    def __init__(self, name: str, backup: bool = False) -> None:
        self.name = name
        self.backup = backup
        self.port = 0
        self._process: Process | None = None

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"{HOST}:{self.port}"

    @property
    def is_running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int:
        """The process's id, 0 when it does not run."""
        return self._process.pid if self._process is not None and self.is_running else 0

    async def start(self) -> None:
        """Start it and wait until it listens. No effect when it runs; raises RuntimeError if it cannot."""
        if self.is_running:
            return
        # -P: the folder of this file must not become a place to import from.
        command = (sys.executable, "-P", __file__, self.name, str(self.port))
        # A session of its own: Ctrl-C at the demo is for the demo alone.
        process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, start_new_session=True)
        self._process = process
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), _START_TIMEOUT)
        if not line:
            raise RuntimeError(f"{self.name} did not start: exit status {await process.wait()}")
        self.port = int(line)

    async def kill(self) -> None:
        """SIGKILL: no goodbye to anybody."""
        if self._process is not None and self.is_running:
            self._process.kill()
            await self._process.wait()


async def answer(request: web.Request) -> web.Response:
    """Who answered, and the request as it arrived here."""
    name = request.app[_NAME]
    lines = [f"{name} (process {os.getpid()}) answers {request.method} {request.raw_path}", ""]
    lines += [f"{field}: {value}" for field, value in request.headers.items()]
    return web.Response(text="\n".join(lines) + "\n", headers={"X-Served-By": name})


async def healthy(request: web.Request) -> web.Response:
    """What the health check asks for."""
    return web.Response(text="ok\n")


async def slow(request: web.Request) -> web.Response:
    """`/slow?seconds=3`: an answer that takes its time."""
    try:
        seconds = float(request.query.get("seconds", "3"))
    except ValueError:
        return web.Response(status=400, text="seconds: a number, please\n")
    if not 0 <= seconds <= _LONGEST_SLEEP:
        return web.Response(status=400, text=f"seconds: 0 to {_LONGEST_SLEEP:.0f}, please\n")
    await asyncio.sleep(seconds)
    return await answer(request)


async def upload(request: web.Request) -> web.Response:
    """How many bytes came, and their checksum; nothing is kept."""
    size = 0
    digest = hashlib.sha256()
    async for chunk in request.content.iter_chunked(64 * 1024):
        size += len(chunk)
        digest.update(chunk)
    return web.Response(text=f"{request.app[_NAME]} received {size} bytes, sha256 {digest.hexdigest()}\n")


async def echo(request: web.Request) -> web.WebSocketResponse:
    """A WebSocket that says every message again, with the server's name."""
    socket = web.WebSocketResponse(max_msg_size=0)
    await socket.prepare(request)
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            await socket.send_str(f"{request.app[_NAME]}: {message.data}")
        elif message.type is WSMsgType.BINARY:
            await socket.send_bytes(message.data)
    return socket


def make_app(name: str) -> web.Application:
    """The application of the server `name`."""
    app = web.Application()
    app[_NAME] = name
    app.router.add_get("/api/health", healthy)
    app.router.add_get("/api/ws", echo)
    app.router.add_get("/slow", slow)
    app.router.add_route("*", "/upload", upload)
    app.router.add_route("*", "/{rest:.*}", answer)
    return app


async def serve(name: str, port: int) -> None:
    """Serve on loopback, until the pipe at standard input is closed if there is one; prints the port first."""
    runner = web.AppRunner(make_app(name))
    await runner.setup()
    site = web.TCPSite(runner, HOST, port)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    done = asyncio.Event()
    mode = os.fstat(sys.stdin.fileno()).st_mode
    # uvloop makes pipes of sockets. A terminal or a file says nothing about who started this.
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), done.set)
    await done.wait()
    # No clean-up: whoever started this is gone.


if __name__ == "__main__":
    sys.exit(asyncio.run(serve(sys.argv[1], int(sys.argv[2]))))
