"""The first bytes of a connection to a TLS port: TLS is wrapped, plain HTTP is told so, the rest is cut.

A handshake that fails never reaches a protocol, so plain HTTP has to be seen before it: the bytes are
looked at in the kernel and stay there for the handshake.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
from collections.abc import Callable
from typing import Protocol

HANDSHAKE_TIMEOUT = 10.0
#: Seconds that a client has to read the 400 before the connection is closed.
LINGER_TIME = 1.0
HANDSHAKE_RECORD = 0x16
TEXT = b"This port speaks HTTPS, the request was plain HTTP.\n"
PLAIN_ANSWER = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Content-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(TEXT), TEXT)
)

logger = logging.getLogger("vsproxy.tls")


class TlsStats(Protocol):
    """What is counted."""

    tls_failures: int
    plain_on_tls: int

    def closed(self) -> None:
        """The connection is gone without ever having reached a protocol."""


class Shim(asyncio.Protocol):
    """Stands in for the real protocol until it has its transport: data may come before."""

    def __init__(self) -> None:
        self.early: list[bytes] = []
        self.ended = False
        self.lost = False
        self.exc: Exception | None = None

    def data_received(self, data: bytes) -> None:
        """asyncio."""
        self.early.append(data)

    def eof_received(self) -> bool:
        """asyncio."""
        self.ended = True
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio."""
        self.lost = True
        self.exc = exc


class TlsGate(asyncio.Protocol):
    """The protocol of an accepted connection until it is known what it speaks."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        context: ssl.SSLContext,
        make_protocol: Callable[[], asyncio.Protocol],
        stats: TlsStats,
    ) -> None:
        self._loop = loop
        self._context = context
        self._make_protocol = make_protocol
        self._stats = stats
        self._transport: asyncio.Transport | None = None
        self._watched = -1
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._handed_over = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: look at once; with TCP_DEFER_ACCEPT the bytes are there."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.pause_reading()
        self._timer = self._loop.call_later(HANDSHAKE_TIMEOUT, self._cut)
        self._look()

    def data_received(self, data: bytes) -> None:
        """asyncio: the rest of a plain request, dropped."""

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: gone before it spoke TLS."""
        self._stop_waiting()
        if not self._handed_over:
            self._handed_over = True
            self._stats.closed()

    def _look(self) -> None:
        transport = self._transport
        assert transport is not None
        if transport.is_closing():
            return
        info = transport.get_extra_info("socket")
        probe = socket.socket(info.family, socket.SOCK_STREAM, 0, fileno=info.fileno())
        try:
            first = probe.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            if self._watched < 0:
                # The transport's own descriptor may not be given to add_reader.
                self._watched = os.dup(info.fileno())
                self._loop.add_reader(self._watched, self._look)
            return
        except OSError:
            first = b""
        finally:
            probe.detach()
        self._stop_watching()
        if first and first[0] == HANDSHAKE_RECORD:
            self._task = self._loop.create_task(self._wrap(transport))
        elif first.isalpha():
            self._tell(transport)
        else:
            self._stats.tls_failures += 1
            transport.abort()

    def _tell(self, transport: asyncio.Transport) -> None:
        self._stats.plain_on_tls += 1
        transport.write(PLAIN_ANSWER)
        if transport.can_write_eof():
            transport.write_eof()
        # What still comes is read and dropped, so that no reset destroys the answer.
        transport.resume_reading()
        self._restart_timer(LINGER_TIME)

    async def _wrap(self, transport: asyncio.Transport) -> None:
        self._stop_waiting()
        shim = Shim()
        try:
            wrapped = await self._loop.start_tls(
                transport, shim, self._context, server_side=True, ssl_handshake_timeout=HANDSHAKE_TIMEOUT
            )
        except (OSError, asyncio.CancelledError) as error:
            # Every ssl.SSLError and a handshake that takes too long are OSErrors.
            logger.debug("handshake failed: %s", error)
            self._failed(transport)
            return
        if wrapped is None or shim.lost:
            self._failed(transport)
            return
        self._handed_over = True
        protocol = self._make_protocol()
        wrapped.set_protocol(protocol)
        protocol.connection_made(wrapped)
        for data in shim.early:
            protocol.data_received(data)
        if shim.ended:
            protocol.eof_received()

    def _failed(self, transport: asyncio.Transport) -> None:
        self._stats.tls_failures += 1
        transport.abort()
        if not self._handed_over:
            self._handed_over = True
            self._stats.closed()

    def _cut(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _restart_timer(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self._cut)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._stop_watching()

    def _stop_watching(self) -> None:
        if self._watched >= 0:
            self._loop.remove_reader(self._watched)
            os.close(self._watched)
            self._watched = -1
