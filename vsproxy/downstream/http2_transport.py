"""A stream of HTTP/2 as a transport, for the tunnel that it becomes after an extended CONNECT (RFC 8441).

END_STREAM is its end of file, RST_STREAM its reset.
"""

from __future__ import annotations

import asyncio
from typing import Any


class StreamTransport:
    """See the module. `feed` and `on_closed` are called by `stream`, an `Http2Stream`, the rest by the tunnel.

    `protocol` hears of nothing before `set_protocol`; what comes before `open` is kept and returned there.
    """

    __slots__ = ("_closing", "_early", "_end_of_stream", "_stream", "is_open", "protocol")

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._early: list[bytes] = []
        self._end_of_stream = False
        self._closing = False
        self.is_open = False
        self.protocol: Any = None

    def open(self) -> bytes:
        """The tunnel begins: what came before."""
        self.is_open = True
        early = b"".join(self._early)
        self._early = []
        return early

    # From the stream

    def feed(self, data: bytes, ended: bool) -> None:
        """Bytes of the client, and the end of them."""
        if self.protocol is None:
            if data:
                self._early.append(data)
            self._end_of_stream = self._end_of_stream or ended
            return
        if data and not self._closing:
            self.protocol.data_received(data)
        if ended and not self._closing and not self.protocol.eof_received():
            self.close()

    def on_closed(self, failed: bool) -> None:
        """The stream is no more."""
        self._closing = True
        if self.protocol is not None:
            error = ConnectionResetError("the stream was reset") if failed else None
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, error)

    # Transport interface

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """From now on `protocol` hears what comes."""
        self.protocol = protocol
        if self._end_of_stream:
            asyncio.get_running_loop().call_soon(self.feed, b"", True)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Nothing of its own: the socket is that of all streams."""
        return default

    def write(self, data: bytes) -> None:
        """Send; after the end, nothing happens."""
        if not self._closing:
            self._stream.send_body(data)

    def can_write_eof(self) -> bool:
        """Both directions end by themselves."""
        return True

    def write_eof(self) -> None:
        """END_STREAM, once all is sent."""
        if not self._closing and self._stream.sending:
            self._stream.end_tunnel()

    def close(self) -> None:
        """The same, and nothing more is taken."""
        if self._closing:
            return
        self.write_eof()
        self._closing = True
        self._stream.leave_tunnel()

    def abort(self) -> None:
        """RST_STREAM."""
        self._closing = True
        self._stream.cancel()

    def is_closing(self) -> bool:
        """Whether nothing more can be written."""
        return self._closing

    def pause_reading(self) -> None:
        """No more credit for now."""
        self._stream.pause_reading()

    def resume_reading(self) -> None:
        """Credit again."""
        self._stream.resume_reading()

    def get_write_buffer_size(self) -> int:
        """Bytes that wait to be sent."""
        size: int = self._stream.queued()
        return size
