"""One connection of a case: what is sent, and what is waited for."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field

from support import h2_frames as h2


class Missed(AssertionError):
    """What a case waits for did not come. The text says what came instead."""


class Skipped(Exception):
    """A case does not apply to this server. The text says why."""


@dataclass(frozen=True)
class Target:
    """Where the server is. `patience`: seconds without any frame after which nothing more is expected.

    `strict`: errors have to be told as RFC 9113 says, with the right code. Otherwise an end of the connection passes
    for every error, as it does with h2spec.
    """

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    path: str = "/"
    patience: float = 2.0
    strict: bool = False

    @property
    def authority(self) -> str:
        """Host and port, for `:authority`."""
        return f"{self.host}:{self.port}"

    @property
    def scheme(self) -> str:
        """For `:scheme`."""
        return "http" if self.tls is None else "https"


Judge = Callable[[h2.Frame | None, bool], bool | None]


@dataclass(frozen=True)
class Wait:
    """What has to come. `judge` is asked about each frame, None for the end, and whether to be strict.

    It says True if this is it, False if it can no longer come, None if something else may come before it.
    """

    what: str
    judge: Judge


@dataclass
class Dialog:
    """A client's end of one connection, which does as it is told."""

    target: Target
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    settings: dict[int, int] = field(default_factory=dict)
    buffer: bytearray = field(default_factory=bytearray)
    frames: list[h2.Frame] = field(default_factory=list)
    came: list[str] = field(default_factory=list)

    async def send(self, data: bytes) -> None:
        """Write; that the server is gone is found out when something is waited for."""
        try:
            self.writer.write(data)
            await self.writer.drain()
        except ConnectionError:
            return

    async def receive(self) -> h2.Frame | None:
        """The next frame; None at the end. Raises TimeoutError when nothing comes."""
        while not self.frames:
            try:
                async with asyncio.timeout(self.target.patience):
                    data = await self.reader.read(65536)
            except (ConnectionError, ssl.SSLError):
                data = b""
            if not data:
                self.came.append("end")
                return None
            self.buffer += data
            self.frames.extend(h2.take_frames(self.buffer))
        frame = self.frames.pop(0)
        self.came.append(str(frame))
        return frame

    async def wait(self, wait: Wait) -> h2.Frame | None:
        """The frame waited for, or None if it is the end. Raises Missed."""
        while True:
            try:
                frame = await self.receive()
            except TimeoutError:
                raise Missed(f"wanted {wait.what}; came: {', '.join(self.came) or 'nothing'}") from None
            verdict = wait.judge(frame, self.target.strict)
            if verdict:
                return frame
            if verdict is False or frame is None:
                raise Missed(f"wanted {wait.what}; came: {', '.join(self.came)}")

    async def handshake(self) -> None:
        """Both prefaces, and both SETTINGS acknowledged (RFC 9113 3.4)."""
        await self.send(h2.PREFACE + h2.settings((h2.INITIAL_WINDOW_SIZE, h2.DEFAULT_WINDOW)))
        acknowledged = announced = False
        while not (acknowledged and announced):
            try:
                frame = await self.receive()
            except TimeoutError:
                frame = None
            if frame is None:
                raise Missed(f"no handshake; came: {', '.join(self.came) or 'nothing'}")
            if frame.type == h2.SETTINGS and frame.flags & h2.ACK:
                acknowledged = True
            elif frame.type == h2.SETTINGS:
                announced = True
                self.settings = frame.settings
                await self.send(h2.settings_ack())
        self.came.clear()


async def connect(target: Target) -> Dialog:
    """A new connection. Raises OSError, and Missed if TLS does not agree on HTTP/2."""
    name = target.host if target.tls else None
    reader, writer = await asyncio.open_connection(target.host, target.port, ssl=target.tls, server_hostname=name)
    tls = writer.get_extra_info("ssl_object")
    if tls is not None and tls.selected_alpn_protocol() != "h2":
        writer.close()
        raise Missed(f"ALPN chose {tls.selected_alpn_protocol()!r}")
    return Dialog(target, reader, writer)
