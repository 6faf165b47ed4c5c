"""A server that is ngh2 behind the frame check and little else: what both let through together, without a proxy."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import ngh2

BODY = b"a body of some length\n"
MAX_STREAMS = 100
MAX_WINDOW = 2**31 - 1
WINDOW_UPDATE_SIZE = 13


class Checkless:
    """In place of a frame check: everything passes."""

    error = 0
    reason = ""
    update_stream = 0
    update_increment = 0

    def __init__(self) -> None:
        self.guard = self

    def check(self, data: bytes, now: float = 0.0) -> int:
        """All may pass."""
        return len(data)

    def sent(self, size: int) -> None:
        """Not of interest."""


class Ngh2Connection(asyncio.Protocol):
    """One client. Requests are answered when they have ended: with `BODY`, or as many bytes as the path says."""

    def __init__(self, make_check: Callable[[], Any]) -> None:
        self.check = make_check()
        self.http2 = ngh2.Connection(ngh2.Role.SERVER)
        self.sizes: dict[int, int] = {}
        self.ended = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        self.http2.initiate_connection({ngh2.Setting.MAX_CONCURRENT_STREAMS: MAX_STREAMS})
        self.transport.write(self.http2.data_to_send())

    def data_received(self, data: bytes) -> None:
        while data and not self.ended:
            size = self.check.check(data, asyncio.get_running_loop().time())
            self.take(data[:size])
            data = data[size:]
            if self.check.error:
                self.http2.terminate_connection(self.check.error)
                data = b""
            elif data:
                data = self.decide(data)
        self.flush()

    def decide(self, data: bytes) -> bytes:
        """What is left after a WINDOW_UPDATE that may be too large."""
        stream, increment = self.check.update_stream, self.check.update_increment
        try:
            too_large = self.http2.stream_remote_window_size(stream) + increment > MAX_WINDOW
        except ngh2.NGH2Error:
            too_large = False
        if too_large:
            self.http2.reset_stream(stream, ngh2.ErrorCode.FLOW_CONTROL_ERROR)
        else:
            self.take(data[:WINDOW_UPDATE_SIZE])
        return data[WINDOW_UPDATE_SIZE:]

    def take(self, data: bytes) -> None:
        """Give to ngh2, and answer. What it does not like it says itself, in what it has to send."""
        with contextlib.suppress(ngh2.NGH2Error):
            self.http2.receive_data(data)
        for event in self.http2.events():
            if isinstance(event, ngh2.RequestReceived):
                path = dict(event.headers)[b":path"].removeprefix(b"/")
                self.sizes[event.stream_id] = int(path) if path.isdigit() else len(BODY)
            if isinstance(event, ngh2.GoAwayReceived):
                self.end()
            elif isinstance(event, ngh2.StreamClosed):
                self.sizes.pop(event.stream_id, None)
            elif isinstance(event, ngh2.TrailersReceived) or getattr(event, "end_stream", False):
                self.answer(event.stream_id)

    def answer(self, stream: int) -> None:
        """A response with a body."""
        size = self.sizes.pop(stream)
        body = (BODY * (size // len(BODY) + 1))[:size]
        with contextlib.suppress(ngh2.NGH2Error):
            self.http2.send_response(stream, [(b":status", b"200")])
            self.http2.send_data(stream, body, end_stream=True)
            self.check.guard.sent(size)

    def flush(self) -> None:
        """Write what ngh2 has; end when it wants nothing more."""
        if not self.ended and (data := self.http2.data_to_send()):
            self.transport.write(data)
        if not (self.http2.want_read or self.http2.want_write):
            self.end()

    def end(self) -> None:
        """Say nothing more, and read to the end: a reset would take along what was said."""
        if not self.ended:
            self.ended = True
            self.transport.write_eof()


@contextlib.asynccontextmanager
async def ngh2_server(make_check: Callable[[], Any] = Checkless) -> AsyncIterator[int]:
    """The port of such a server."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Ngh2Connection(make_check), "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
