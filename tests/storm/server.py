"""A server of the storm in a process of its own: aiohttp for HTTP, `websockets` for /api/ws, one port each.

    python -m storm.server JOURNAL NAME:PORT:WEBSOCKET_PORT...

Every request with a body is written to the file JOURNAL as `NAME EXCHANGE` as soon as its head is there, so
that it is known after a SIGKILL who had got what. Prints `ready` when all ports are open.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import sys
from collections.abc import Callable

import uvloop
from aiohttp import web
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from storm.content import content

SLICE = 65536
#: Bytes a second that a file is sent with.
PACE = 2_000_000

Journal = Callable[[str, str], None]


def open_journal(path: str) -> Journal:
    """A function that writes one line at once: what is in the file survives the process."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def write(server: str, exchange: str) -> None:
        os.write(descriptor, f"{server} {exchange}\n".encode())

    return write


class Pages:
    """The HTTP side of one server. The name goes with every answer as `X-Server`."""

    def __init__(self, name: str, journal: Journal) -> None:
        self.name = name
        self.journal = journal

    def application(self) -> web.Application:
        """The routes."""
        app = web.Application(client_max_size=1 << 30)
        app.router.add_get("/api/health", self._health)
        app.router.add_get("/whoami", self._whoami)
        app.router.add_get(r"/small/{seed:\d+}-{size:\d+}", self._small)
        app.router.add_get(r"/files/{seed:\d+}-{size:\d+}", self._file)
        app.router.add_post("/echo", self._echo)
        app.router.add_post("/upload", self._upload)
        return app

    @property
    def _fields(self) -> dict[str, str]:
        return {"X-Server": self.name}

    async def _health(self, request: web.Request) -> web.Response:
        return web.Response(headers=self._fields)

    async def _whoami(self, request: web.Request) -> web.Response:
        """The Host field, which tells what the proxy's configuration says now."""
        return web.Response(text=request.host, headers=self._fields)

    async def _small(self, request: web.Request) -> web.Response:
        return web.Response(body=_content(request), headers=self._fields)

    async def _file(self, request: web.Request) -> web.StreamResponse:
        body = _content(request)
        response = web.StreamResponse(headers=self._fields)
        if int(request.match_info["seed"]) % 2:
            response.enable_chunked_encoding()
        else:
            response.content_length = len(body)
        await response.prepare(request)
        for start in range(0, len(body), SLICE):
            await response.write(body[start : start + SLICE])
            await asyncio.sleep(SLICE / PACE)
        await response.write_eof()
        return response

    async def _echo(self, request: web.Request) -> web.Response:
        self.journal(self.name, request.query["x"])
        return web.Response(body=await request.read(), headers=self._fields)

    async def _upload(self, request: web.Request) -> web.Response:
        self.journal(self.name, request.query["x"])
        digest, length = hashlib.sha256(), 0
        async for piece in request.content.iter_any():
            digest.update(piece)
            length += len(piece)
        return web.Response(text=f"{length} {digest.hexdigest()}", headers=self._fields)


def _content(request: web.Request) -> bytes:
    return content(int(request.match_info["seed"]), int(request.match_info["size"]))


async def serve_pages(name: str, port: int, journal: Journal) -> web.AppRunner:
    """Open the HTTP port."""
    runner = web.AppRunner(Pages(name, journal).application(), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
    return runner


async def serve_websockets(name: str, port: int) -> Server:
    """Open the port of the WebSocket that echoes, with its name before each message."""

    async def echo(connection: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):  # the clients judge the ends of WebSockets
            async for message in connection:
                await connection.send(f"{name}: {message!s}")

    def health(connection: ServerConnection, request: Request) -> Response | None:
        return connection.respond(200, "") if request.path == "/api/health" else None

    def sign(connection: ServerConnection, request: Request, response: Response) -> None:
        response.headers["X-Server"] = name

    return await serve(
        echo,
        "127.0.0.1",
        port,
        process_request=health,
        process_response=sign,
        ping_interval=None,
        compression=None,
        backlog=1024,
    )


async def main(journal_path: str, servers: list[str]) -> None:
    """Serve until killed, or until whoever holds the other end of standard input is gone."""
    journal = open_journal(journal_path)
    # Clients judge what broke off; a server only sees that somebody went away.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    kept: list[object] = []
    for server in servers:
        name, port, websocket_port = server.split(":")
        kept.append(await serve_pages(name, int(port), journal))
        kept.append(await serve_websockets(name, int(websocket_port)))
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2:]))
