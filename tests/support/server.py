"""A server that does what a test tells it: one coroutine per request, given the connection and the request."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from support.http import Request, parse_request_head, read_body
from support.introductions import read_introduction
from support.peer import Ended, Peer

FORGET_AFTER = 20_000  # requests remembered; a load test may send more


class Conversation(Peer):
    """A server's end of one connection. `number` counts the server's connections from 1."""

    def __init__(self, sock: socket.socket, server: Server, number: int) -> None:
        super().__init__(sock)
        self.server = server
        self.number = number
        self.requests = 0
        self.introduction = ""

    async def respond(
        self,
        body: bytes = b"",
        status: int = 200,
        fields: Iterable[tuple[str, str]] = (),
    ) -> None:
        """A whole response; framed by Content-Length, and closed after when `fields` says so."""
        fields = list(fields)
        lines = [f"HTTP/1.1 {status} Status", *(f"{name}: {value}" for name, value in fields)]
        if status >= 200 and status not in (204, 304):
            lines.append(f"Content-Length: {len(body)}")
        await self.send("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        if ("Connection", "close") in fields:
            self.close()

    @property
    def closed_here(self) -> bool:
        """Whether the script has closed or reset this end."""
        return self.sock.fileno() < 0


Script = Callable[[Conversation, Request], Awaitable[None]]


async def ok(peer: Conversation, request: Request) -> None:
    """Answer 200 with the server's name as the body."""
    await peer.respond(peer.server.name.encode())


class Server:
    """Listens on loopback and runs `script` for each request; keeps what it saw.

    With `read_body` False the script gets the head and reads the rest itself. `on_connect`, when given,
    runs instead for each connection, before anything is read. `GET /health` is answered from `healthy`
    (200 or 503) when `health` is true, and counted in `checks`, not in `requests`. `port` 0 is a free one, which
    somebody else may get while the server is stopped. With `unix` it listens there instead, and the kernel holds
    little of what is not read. With `introduced`, each connection has to begin with a PROXY header; `introductions`
    are those of all.
    """

    def __init__(
        self,
        script: Script = ok,
        *,
        name: str = "server",
        read_body: bool = True,
        health: bool = False,
        introduced: bool = False,
        on_connect: Callable[[Conversation], Awaitable[None]] | None = None,
        port: int = 0,
        unix: Path | None = None,
    ) -> None:
        self.script = script
        self.name = name
        self.read_body = read_body
        self.health = health
        self.introduced = introduced
        self.introductions: list[str] = []
        self.healthy = True
        self.on_connect = on_connect
        self.port = port
        self.unix = unix
        self.checks = 0
        self.connections = 0
        self.open: set[Conversation] = set()
        self.requests: list[Request] = []
        self.failures: list[BaseException] = []
        self._listening: socket.socket | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> str:
        """`host:port` or `unix:PATH`, for the configuration."""
        return f"127.0.0.1:{self.port}" if self.unix is None else f"unix:{self.unix}"

    async def start(self) -> None:
        """Listen; after a `stop`, on the same port again."""
        listening = socket.socket() if self.unix is None else socket.socket(socket.AF_UNIX)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", self.port) if self.unix is None else str(self.unix))
        listening.listen(4096)
        listening.setblocking(False)
        if self.unix is None:
            self.port = listening.getsockname()[1]
        self._listening = listening
        self._spawn(self._accept(listening))

    async def stop(self, reset: bool = True) -> None:
        """Go away: connections are reset (or closed), new ones refused."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._listening:
            self._listening.close()
            self._listening = None
        for peer in list(self.open):
            peer.reset() if reset else peer.close()
        self.open.clear()

    def targets(self) -> list[str]:
        """The targets of every request seen, in order."""
        return [request.target for request in self.requests]

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            sock, _ = await loop.sock_accept(listening)
            self.connections += 1
            peer = Conversation(sock, self, self.connections)
            self.open.add(peer)
            self._spawn(self._converse(peer))

    async def _converse(self, peer: Conversation) -> None:
        try:
            if self.introduced:
                peer.introduction = await read_introduction(peer)
                self.introductions.append(peer.introduction)
            if self.on_connect:
                await self.on_connect(peer)
            while not peer.closed_here:
                await self._one_request(peer)
        except (Ended, ConnectionError):
            pass  # the proxy closed: what that means is the test's to judge
        except Exception as failure:
            self.failures.append(failure)
        finally:
            self.open.discard(peer)
            peer.close()

    async def _one_request(self, peer: Conversation) -> None:
        peer.patience = 3600.0  # an idle connection is not a failure of a server
        head = await peer.read_until(b"\r\n\r\n")
        peer.patience = 30.0
        request = parse_request_head(head)
        request.connection = peer.number
        request.introduction = peer.introduction
        peer.requests += 1
        if self.health and request.target == "/health":
            self.checks += 1
            await peer.respond(status=200 if self.healthy else 503)
            return
        if self.read_body:
            await read_body(peer, request, until_close=False)
        if len(self.requests) < FORGET_AFTER:
            self.requests.append(request)
        await self.script(peer, request)


@contextlib.contextmanager
def blackhole() -> Iterable[str]:
    """An address that never answers a SYN: a listening socket whose queue is full."""
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listening.getsockname())
        yield f"127.0.0.1:{listening.getsockname()[1]}"


@contextlib.contextmanager
def refused() -> Iterable[str]:
    """An address that refuses connections, and that nobody else can take meanwhile."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{bound.getsockname()[1]}"
