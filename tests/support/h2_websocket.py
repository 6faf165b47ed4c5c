"""A WebSocket over a stream of HTTP/2 (RFC 8441), by the library `websockets` without I/O."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from websockets.client import ClientProtocol
from websockets.datastructures import Headers
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side, State
from websockets.uri import parse_uri

from support.h2_client import H2Client
from support.h2_stream import H2Response, H2Stream

VERSION = ("sec-websocket-version", "13")


class H2WebSocket:
    """An open one, or what the server said instead: then `protocol` has nothing to do."""

    def __init__(self, client: H2Client, stream: H2Stream) -> None:
        self.client = client
        self.stream = stream
        self.protocol = Protocol(Side.CLIENT, state=State.OPEN, max_size=None)
        self.subprotocol: str | None = None
        self.response = H2Response()
        self.frames: list[Frame] = []
        self._messages: list[str | bytes] = []
        self._parts: list[bytes] = []
        self._opcode = Opcode.BINARY

    # Messages

    async def send(self, message: str | bytes) -> None:
        """Send a message in one frame."""
        if isinstance(message, str):
            self.protocol.send_text(message.encode())
        else:
            self.protocol.send_binary(message)
        await self.flush()

    async def recv(self, seconds: float | None = None) -> str | bytes:
        """The next message, awaited."""
        await self.client.until(lambda: self._messages or self.stream.over, "a message", seconds)
        assert self._messages, f"the stream is over: {self.stream.so_far}"
        return self._messages.pop(0)

    async def ping(self, data: bytes) -> None:
        """Send a ping and wait for its pong."""
        self.protocol.send_ping(data)
        await self.flush()
        await self.client.until(lambda: self._has(Opcode.PONG, data), "a pong")

    async def close(self, code: int = 1000, reason: str = "") -> tuple[int, str]:
        """The closing handshake, begun here; code and reason that the server answers."""
        self.protocol.send_close(code, reason)
        await self.flush()
        return await self.closed()

    async def closed(self) -> tuple[int, str]:
        """Code and reason of the server's close frame, awaited; ours has been sent too."""
        await self.client.until(lambda: self.protocol.close_rcvd or self.stream.over, "a close frame")
        assert self.protocol.close_rcvd, f"no close frame: {self.stream.so_far}"
        await self.flush()
        return self.protocol.close_rcvd.code, self.protocol.close_rcvd.reason

    async def flush(self) -> None:
        """Send what the protocol has to send; its end is END_STREAM."""
        for data in self.protocol.data_to_send():
            if not self.stream.over:
                await self.stream.send(data, end=not data)

    # What arrives

    def feed(self, data: bytes) -> None:
        """The stream's next bytes."""
        self.protocol.receive_data(data)
        for frame in self.protocol.events_received():
            assert isinstance(frame, Frame)
            self.frames.append(frame)
            if frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                self._on_message(frame)

    def _on_message(self, frame: Frame) -> None:
        if frame.opcode is not Opcode.CONT:
            self._opcode = frame.opcode
        self._parts.append(bytes(frame.data))
        if frame.fin:
            message = b"".join(self._parts)
            self._parts.clear()
            self._messages.append(message.decode() if self._opcode is Opcode.TEXT else message)

    def _has(self, opcode: Opcode, data: bytes) -> bool:
        return any(frame.opcode is opcode and frame.data == data for frame in self.frames)


def opening(
    client: H2Client, path: str, protocol: str = "websocket", authority: str = "test.example"
) -> list[tuple[str, str]]:
    """The pseudo-fields of an extended CONNECT (RFC 8441 section 4)."""
    names = (":method", ":protocol", ":scheme", ":path", ":authority")
    return list(zip(names, ("CONNECT", protocol, client.scheme, path, authority), strict=True))


async def open_websocket(
    client: H2Client,
    path: str = "/",
    *,
    fields: Iterable[tuple[str, str]] = (VERSION,),
    deflate: bool = False,
    subprotocols: Sequence[str] = (),
    credit: bool = True,
) -> H2WebSocket:
    """Ask for a WebSocket; `response.status` says whether it is open (200)."""
    extensions = [ClientPerMessageDeflateFactory()] if deflate else None
    # Of a client's half of the handshake only this applies: what is offered, and how an answer to that is read.
    offer = ClientProtocol(parse_uri("ws://a/"), extensions=extensions, subprotocols=subprotocols or None)
    offered = {name: value for name, value in offer.connect().headers.raw_items() if name.startswith("Sec-WebSocket-")}
    more = [(name.lower(), value) for name, value in offered.items() if name.endswith(("Extensions", "Protocol"))]
    stream = await client.start_raw([*opening(client, path), *fields, *more], end=False, credit=credit)
    socket = H2WebSocket(client, stream)
    stream.on_data = socket.feed
    socket.response = await stream.head_arrived()
    if socket.response.status == 200:
        answer = Headers(socket.response.fields)
        socket.protocol.extensions = offer.process_extensions(answer)
        socket.subprotocol = offer.process_subprotocol(answer)
    return socket


async def opened(client: H2Client, path: str = "/", **options: Any) -> H2WebSocket:
    """A WebSocket that has to be open."""
    socket = await open_websocket(client, path, **options)
    assert socket.response.status == 200, socket.response
    return socket
