"""A WebSocket server in a process of its own that sends every message back; run as a program by `EchoServer`.

What it answers depends only on the bytes it was sent, never on how they were cut into reads: each frame is answered
before the next one is looked at. A server with a task per connection sometimes sends a message back and sometimes
does not if something wrong comes right after it, so that nothing could be compared.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Self

from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol


class Cutter:
    """Cuts a stream of frames (RFC 6455 section 5.2) into pieces that each belong to one frame."""

    def __init__(self) -> None:
        self._head = b""
        self._left = 0

    def cut(self, data: bytes) -> list[bytes]:
        """`data` in such pieces; a head, or a part of one, is a piece of its own."""
        pieces = []
        at = 0
        while at < len(data):
            take = min(self._left or self._missing(), len(data) - at)
            piece = data[at : at + take]
            at += take
            pieces.append(piece)
            if self._left:
                self._left -= take
            else:
                self._head += piece
                self._end_of_head()
        return pieces

    def _missing(self) -> int:
        """Bytes that the head lacks, as far as is known."""
        size = 2
        if len(self._head) >= 2:
            length = self._head[1] & 0x7F
            size += {126: 2, 127: 8}.get(length, 0) + (4 if self._head[1] & 0x80 else 0)
        return size - len(self._head)

    def _end_of_head(self) -> None:
        if self._missing() == 0:
            length = self._head[1] & 0x7F
            extended = {126: 2, 127: 8}.get(length, 0)
            self._left = int.from_bytes(self._head[2 : 2 + extended]) if extended else length
            self._head = b""


class Echo(asyncio.Protocol):
    """One connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin with the handshake."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        factory = ServerPerMessageDeflateFactory()
        self.protocol = ServerProtocol(extensions=[factory], max_size=None)
        self.cutter: Cutter | None = None
        self.message: list[bytes] = []
        self.text = False

    def data_received(self, data: bytes) -> None:
        """Answer frame by frame."""
        for piece in [data] if self.cutter is None else self.cutter.cut(data):
            self.protocol.receive_data(piece)
            self._answer()

    def eof_received(self) -> None:
        """Tell the protocol, which then ends too."""
        self.protocol.receive_eof()
        self._answer()

    def _answer(self) -> None:
        for event in self.protocol.events_received():
            if isinstance(event, Request):
                self.protocol.send_response(self.protocol.accept(event))
                self.cutter = Cutter()
            elif event.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                self._frame(event)
        for data in self.protocol.data_to_send():
            if data:
                self.transport.write(data)
            elif not self.transport.is_closing():
                # Not closed before the client is: what it still sends would reset the connection.
                self.transport.write_eof()

    def _frame(self, frame: Frame) -> None:
        if frame.opcode is not Opcode.CONT:
            self.text = frame.opcode is Opcode.TEXT
        self.message.append(bytes(frame.data))
        if frame.fin:
            self._send_back(b"".join(self.message))
            self.message.clear()

    def _send_back(self, message: bytes) -> None:
        try:
            if self.text:
                message.decode()
        except UnicodeDecodeError:
            self.protocol.fail(CloseCode.INVALID_DATA)
        else:
            (self.protocol.send_text if self.text else self.protocol.send_binary)(message)


async def main() -> None:
    """Listen on a free port and print it."""
    server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


class EchoServer:
    """The process, as an asynchronous context; killed at the end."""

    def __init__(self) -> None:
        self.port = 0
        self._process: asyncio.subprocess.Process | None = None

    @property
    def address(self) -> str:
        """`host:port`, for the configuration and for who talks to it without a proxy."""
        return f"127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", __file__), env=dict(os.environ), stdout=asyncio.subprocess.PIPE
        )
        assert self._process.stdout
        self.port = int(await self._process.stdout.readline())
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._process and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


if __name__ == "__main__":
    asyncio.run(main())
