"""A server that is ngh2 behind the frame check and little else: what both let through together, without a proxy."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import ngh2

BODY = b"a body of some length\n"
MAX_STREAMS = 100


class Checkless:
    """In place of a frame check: everything passes."""

    error = 0
    reason = ""
    update_stream = 0
    update_increment = 0

    def check(self, data: bytes, now: float = 0.0) -> int:
        return len(data)


class Ngh2Connection(asyncio.Protocol):
    """One client. Requests are answered with `BODY` when they have ended."""

    def __init__(self, make_check: Callable[[], Checkless]) -> None:
        self.check = make_check()
        self.http2 = ngh2.Connection(ngh2.Role.SERVER)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        self.http2.initiate_connection({ngh2.Setting.MAX_CONCURRENT_STREAMS: MAX_STREAMS})
        self.transport.write(self.http2.data_to_send())

    def data_received(self, data: bytes) -> None:
        while data and not self.transport.is_closing():
            size = self.check.check(data)
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
            window = self.http2.stream_remote_window_size(stream)
        except ngh2.NGH2Error:
            window = 0
        if window + increment > 2**31 - 1:
            self.http2.reset_stream(stream, ngh2.ErrorCode.FLOW_CONTROL_ERROR)
        else:
            self.take(data[:13])
        return data[13:]

    def take(self, data: bytes) -> None:
        """Give to ngh2, and answer."""
        try:
            self.http2.receive_data(data)
        except ngh2.NGH2Error:
            pass
        for event in self.http2.events():
            if isinstance(event, ngh2.RequestReceived | ngh2.DataReceived) and event.end_stream:
                self.answer(event.stream_id)
            elif isinstance(event, ngh2.TrailersReceived):
                self.answer(event.stream_id)
            elif isinstance(event, ngh2.GoAwayReceived):
                self.http2.terminate_connection()

    def answer(self, stream: int) -> None:
        """A response with a body."""
        try:
            self.http2.send_response(stream, [(b":status", b"200")])
            self.http2.send_data(stream, BODY, end_stream=True)
        except ngh2.NGH2Error:
            return

    def flush(self) -> None:
        """Write what ngh2 has; close when it wants nothing more."""
        if data := self.http2.data_to_send():
            self.transport.write(data)
        if not (self.http2.want_read or self.http2.want_write):
            self.transport.close()
