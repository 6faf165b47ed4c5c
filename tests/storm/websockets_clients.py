"""Clients of WebSockets, on the `websockets` library: numbered messages that have to come back in turn."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from dataclasses import dataclass

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from storm.broken import Broken
from storm.http_client import Listener
from storm.http_response import PATIENCE
from storm.ledger import Wire
from storm.scene import Scene


@dataclass(slots=True)
class WebSocketClient:
    """Keeps one WebSocket open to `listener`, with a message every `pause` seconds or so.

    With `lasts` it closes after so many messages and opens another, so that new ones are opened all the time.
    """

    kind: str
    scene: Scene
    listener: Listener
    pause: float = 0.3
    lasts: int | None = None

    async def run(self) -> None:
        """Until the storm stops; then a clean close."""
        while await self.scene.serving(self.listener):
            await self._one_websocket()

    async def _one_websocket(self) -> None:
        began = time.monotonic()
        wire = Wire(self.listener.port, 0, began)
        with socket.socket() as sock:
            try:
                sock.setblocking(False)
                await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.listener.port))
                wire = Wire(self.listener.port, sock.getsockname()[1], began)
                websocket = await self._open(sock)
            except (OSError, EOFError, InvalidHandshake) as error:
                self.scene.fail(self.kind, began, wire, Broken("no websocket", error))
                await self.scene.pause(0.1)
                return
            try:
                await self._talk(websocket, wire)
            except Broken as broken:
                self.scene.fail(self.kind, began, wire, broken)
            finally:
                websocket.transport.abort()

    async def _open(self, sock: socket.socket) -> ClientConnection:
        context = self.listener.context
        scheme = "wss" if context else "ws"
        return await connect(
            f"{scheme}://localhost:{self.listener.port}/api/ws",
            sock=sock,
            ssl=context,
            proxy=None,
            compression=None,
            open_timeout=PATIENCE,
            ping_interval=None,
            close_timeout=PATIENCE,
        )

    async def _talk(self, websocket: ClientConnection, wire: Wire) -> None:
        assert websocket.response is not None
        server = websocket.response.headers["X-Server"]
        ledger = self.scene.ledger
        ledger.websockets_opened += 1
        ledger.websockets_open[self.kind] += 1
        try:
            await self._messages(websocket, server)
            await websocket.close()
        except (ConnectionClosed, TimeoutError) as error:
            raise Broken("websocket closed", error, server=server) from error
        finally:
            ledger.websockets_open[self.kind] -= 1
        if websocket.close_code != 1000:
            raise Broken("websocket closed", f"in closing: {websocket.close_code}", server=server)

    async def _messages(self, websocket: ClientConnection, server: str) -> None:
        number = 0
        while not self.scene.stop.is_set() and (self.lasts is None or number < self.lasts):
            number += 1
            began = time.monotonic()
            message = f"{number} " + "x" * random.choice((0, 10, 3000))
            async with asyncio.timeout(PATIENCE):
                await websocket.send(message)
                reply = await websocket.recv()
            if reply != f"{server}: {message}":
                raise Broken("corrupt", str(reply)[:80], server=server, visible=False)
            self.scene.ledger.answer(self.kind, began, server)
            await self._rest(websocket, server)

    async def _rest(self, websocket: ClientConnection, server: str) -> None:
        """Wait a while; a message that nobody asked for, and a close, are seen at once."""
        try:
            async with asyncio.timeout(random.uniform(0.5, 1.5) * self.pause):
                message = await websocket.recv()
        except TimeoutError:
            return
        raise Broken("corrupt", f"unasked: {message[:80]!r}", server=server, visible=False)
