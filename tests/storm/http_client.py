"""A strict HTTP/1.1 client on one connection: it forgives nothing, and says exactly what went wrong.

Unlike a browser it repeats nothing: a keepalive connection that ends without `Connection: close` before it is
a failure, be it while idle or under a request.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from dataclasses import dataclass, field

from storm.broken import Broken
from storm.content import Expected
from storm.http_response import PATIENCE, SLICE, Response, ResponseReader
from storm.ledger import Wire

#: The cause of a failure that is not one of a request: an idle connection that nobody said would end.
IDLE = "closed while idle"


@dataclass(frozen=True, slots=True)
class Listener:
    """A listener of the proxy as clients know it. While `serving` is not set, it is away or about to go."""

    name: str
    port: int
    context: ssl.SSLContext | None = None
    serving: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True, slots=True)
class Request:
    """A request and the body that has to come back. `pace` (s) is slept after each 64 KiB of its own body."""

    target: str
    expected: Expected | None = None
    method: str = "GET"
    exchange: str = ""
    body: bytes = b""
    chunked: bool = False
    pace: float = 0.0
    close: bool = False

    def head(self) -> bytes:
        """The head, as it is sent."""
        lines = [f"{self.method} {self.target} HTTP/1.1", "Host: storm.example.com"]
        if self.chunked:
            lines.append("Transfer-Encoding: chunked")
        elif self.method == "POST":
            lines.append(f"Content-Length: {len(self.body)}")
        if self.close:
            lines.append("Connection: close")
        return "\r\n".join([*lines, "", ""]).encode()


class Connection:
    """One connection to `listener`; `open` comes first. All methods raise `Broken`."""

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.opened = time.monotonic()
        self.port = 0
        self.requests = 0
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter | None = None

    @property
    def wire(self) -> Wire:
        """What identifies it."""
        return Wire(self.listener.port, self.port, self.opened)

    async def open(self) -> None:
        """Connect, and shake hands if the listener speaks TLS."""
        sock = socket.socket()
        sock.setblocking(False)
        context = self.listener.context
        name = "localhost" if context else None
        try:
            async with asyncio.timeout(PATIENCE):
                await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.listener.port))
                self.port = sock.getsockname()[1]
                self._reader, self._writer = await asyncio.open_connection(
                    sock=sock, ssl=context, server_hostname=name
                )
        except TimeoutError as error:
            sock.close()
            raise Broken("silent", "while connecting") from error
        except OSError as error:
            sock.close()
            raise Broken("no connection", error) from error

    def certificate(self) -> bytes:
        """The certificate (DER) that the listener has shown."""
        assert self._writer is not None
        shown: bytes = self._writer.get_extra_info("ssl_object").getpeercert(True)
        return shown

    def close(self) -> None:
        """Close; without effect on one that is closed."""
        if self._writer is not None:
            self._writer.close()

    async def rest(self, seconds: float) -> None:
        """Stay idle for `seconds`. A byte or an end in this time was not announced: `IDLE`."""
        try:
            async with asyncio.timeout(seconds):
                data = await self._reader.read(1)
        except TimeoutError:
            return
        except OSError as error:
            raise Broken(IDLE, error) from error
        raise Broken(IDLE, "bytes nobody asked for" if data else "an end nobody announced")

    async def perform(self, request: Request) -> Response:
        """One exchange; the response is whole, has status 200 and the body that was expected.

        It is read while the request is still being sent, since a refusal may come early.
        """
        self.requests += 1
        sending = asyncio.create_task(self._send(request))
        try:
            return await ResponseReader(self._reader).read(request.expected)
        finally:
            sending.cancel()
            # A request that could not be sent has a response that says why, or none; both were judged above.
            await asyncio.gather(sending, return_exceptions=True)

    async def _send(self, request: Request) -> None:
        writer = self._writer
        assert writer is not None
        writer.write(request.head())
        body = request.body
        for start in range(0, len(body), SLICE):
            piece = body[start : start + SLICE]
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if request.chunked else piece)
            await writer.drain()
            if request.pace:
                await asyncio.sleep(request.pace)
        if request.chunked:
            writer.write(b"0\r\n\r\n")
        await writer.drain()
