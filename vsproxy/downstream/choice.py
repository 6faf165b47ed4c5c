"""Which HTTP a client speaks: as agreed on in the handshake of TLS (ALPN), or as its first bytes say without it.

The latter is the prior knowledge of RFC 9113 section 3.3.
"""

from __future__ import annotations

import asyncio
from typing import Any

from vsproxy.downstream.http1 import new_connection
from vsproxy.downstream.http2 import new_connection as new_http2_connection
from vsproxy.downstream.serving import ListenerSettings, Serving
from vsproxy.listener_stats import ListenerStats
from vsproxy.timers import Timed
from vsproxy.wire.proxy_header import Ends

#: What a client of HTTP/2 begins with; no request of HTTP/1.1 does.
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class PrefaceReader(Timed):
    """The protocol of a client until it is known what it speaks. Then the real one takes its place."""

    def __init__(
        self,
        serving: Serving,
        settings: ListenerSettings,
        stats: ListenerStats,
        descriptor: int,
        origin: bytes,
        ends: Ends | None = None,
    ) -> None:
        super().__init__()
        self._arguments = (serving, settings, stats, descriptor, origin, ends)
        self._serving = serving
        self._stats = stats
        self._timeout = settings.header_timeout
        self._transport: asyncio.Transport | None = None
        self._seen = b""

    def connection_made(self, transport: asyncio.Transport) -> None:
        """asyncio: a client has connected."""
        self._transport = transport
        sweep = self._serving.sweep
        self.deadline = sweep.now + self._timeout
        sweep.add(self)

    def data_received(self, data: bytes) -> None:
        """asyncio: the first bytes, or a part of them."""
        seen = self._seen + data
        if len(seen) < len(PREFACE) and PREFACE.startswith(seen):
            self._seen = seen
            return
        make: Any = new_http2_connection if seen.startswith(PREFACE) else new_connection
        self._serving.sweep.remove(self)
        protocol = make(*self._arguments)
        assert self._transport is not None
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        protocol.data_received(seen)

    def eof_received(self) -> bool:
        """asyncio: the client has said nothing, or not enough."""
        return False

    def pause_writing(self) -> None:
        """asyncio: not called, since nothing is written here."""

    def resume_writing(self) -> None:
        """asyncio: not called either."""

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the client is gone before it was known what it speaks."""
        self._serving.sweep.remove(self)
        self._stats.refused()

    def on_deadline(self, now: float) -> None:
        """The client takes too long, and has not said anything that could be answered."""
        self._serving.sweep.remove(self)
        if self._transport is not None:
            self._transport.abort()


def new_negotiated(
    serving: Serving,
    settings: ListenerSettings,
    stats: ListenerStats,
    descriptor: int,
    origin: bytes,
    ends: Ends | None = None,
    http2: bool = False,
) -> Any:
    """The protocol of a client whose handshake is over; `http2`: that is what was agreed on there."""
    make: Any = new_http2_connection if http2 else new_connection
    return make(serving, settings, stats, descriptor, origin, ends)
