"""Accepting: sockets, the descriptor budget, pause and resume, the end.

The listening sockets are ours and stay open; the loop watches duplicates of them. So accepting can stop
at any moment, even inside the loop's accept callback, while clients wait in the kernel's backlog.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import stat
from collections.abc import Callable

from vsproxy.config.model import Bind, ListenerConfig
from vsproxy.descriptors import Descriptors
from vsproxy.errors import VsproxyError
from vsproxy.tls import make_server_context
from vsproxy.tls_gate import TlsGate

logger = logging.getLogger("vsproxy.listener")

#: Distinct reasons of bad requests that are counted apart.
MAX_REASONS = 64


class ListenerStats:
    """What one listener counts. `opened` and `closed` are called by the downstream connection."""

    __slots__ = ("_on_closed", "accepted", "active", "bad_requests", "paused", "pauses", "plain_on_tls", "tls_failures")

    def __init__(self, on_closed: Callable[[], None]) -> None:
        self.accepted = 0
        self.active = 0
        self.tls_failures = 0
        self.plain_on_tls = 0
        self.bad_requests: dict[str, int] = {}
        self.paused = False
        self.pauses = 0
        self._on_closed = on_closed

    def opened(self) -> None:
        """A connection stands. It was counted when it was accepted."""

    def closed(self) -> None:
        """An accepted connection is gone."""
        self.active -= 1
        self._on_closed()

    def bad_request(self, reason: str) -> None:
        """A request was refused by the parser or a timeout."""
        if reason in self.bad_requests or len(self.bad_requests) < MAX_REASONS:
            self.bad_requests[reason] = self.bad_requests.get(reason, 0) + 1


class Listener:
    """Accepts clients on `config.bind` and makes a protocol for each."""

    def __init__(
        self,
        config: ListenerConfig,
        loop: asyncio.AbstractEventLoop,
        make_protocol: Callable[[ListenerStats], asyncio.Protocol],
        budget: Descriptors,
    ) -> None:
        self.config = config
        self.stats = ListenerStats(self._on_closed)
        self._loop = loop
        self._make_protocol = make_protocol
        self._budget = budget
        self._context = make_server_context(config.tls) if config.tls is not None else None
        self._socket: socket.socket | None = None
        self._server: asyncio.AbstractServer | None = None
        self._resuming: asyncio.Task[None] | None = None
        self._stopped = False

    def bind(self) -> None:
        """Open the listening socket. Raises `VsproxyError` that names the address and the reason."""
        try:
            self._socket = open_socket(self.config.bind)
            if self._context is not None and self.config.bind.kind == "tcp":
                # The first bytes decide whether it is TLS at all: wake us when they are there.
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 5)
            self._socket.listen(self.config.backlog)
        except OSError as error:
            self._close_socket()
            raise VsproxyError(f"cannot listen on {self.config.bind}: {error.strerror or error}") from error

    @property
    def address(self) -> str:
        """The bound address: `host:port` with the real port, `[v6]:port` or `unix:/path`."""
        if self.config.bind.kind == "unix":
            return str(self.config.bind)
        assert self._socket is not None
        host, port = self._socket.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    async def start(self) -> None:
        """Begin, or resume, to accept."""
        assert self._socket is not None
        watched = self._socket.dup()
        watched.setblocking(False)
        backlog = self.config.backlog
        if watched.family == socket.AF_UNIX:
            self._server = await self._loop.create_unix_server(self._accept, sock=watched, backlog=backlog)
        else:
            self._server = await self._loop.create_server(self._accept, sock=watched, backlog=backlog)
        self.stats.paused = False

    def _accept(self) -> asyncio.Protocol:
        stats = self.stats
        stats.accepted += 1
        stats.active += 1
        self._budget.take()
        limit = self.config.max_connections
        if self._budget.exhausted:
            self._pause()
            self._budget.when_there_is_room(self._resume)
        elif 0 < limit <= stats.active:
            self._pause()
        if self._context is None:
            return self._make_protocol(stats)
        return TlsGate(self._loop, self._context, lambda: self._make_protocol(stats), stats)

    def _pause(self) -> None:
        if self._server is not None:
            # From here on clients wait in the backlog.
            self._server.close()
            self._server = None
            self.stats.paused = True
            self.stats.pauses += 1
            logger.warning("%s: %d clients, accepting pauses", self.address, self.stats.active)

    def _resume(self) -> None:
        if self.stats.paused and not self._stopped and self._resuming is None:
            self._resuming = self._loop.create_task(self._start_again())

    async def _start_again(self) -> None:
        try:
            await self.start()
        finally:
            self._resuming = None

    def _on_closed(self) -> None:
        self._budget.release()
        limit = self.config.max_connections
        if self.stats.paused and not self._budget.exhausted and (limit == 0 or self.stats.active < limit):
            self._resume()

    async def stop_accepting(self) -> None:
        """Accept what is queued already, then close the listening socket."""
        self._stopped = True
        if self._resuming is not None:
            await asyncio.gather(self._resuming, return_exceptions=True)
        if self._server is not None:
            # One turn of the loop takes everything that the backlog holds.
            await asyncio.sleep(0.02)
        if self._server is not None:
            self._server.close()
            self._server = None
        self._close_socket()

    def _close_socket(self) -> None:
        sock, self._socket = self._socket, None
        if sock is None:
            return
        bind = self.config.bind
        if bind.kind == "unix" and sock.getsockname():
            try:
                os.unlink(bind.path)
            except FileNotFoundError:
                logger.debug("%s was removed already", bind)
        sock.close()


def open_socket(bind: Bind) -> socket.socket:
    """A bound socket. Raises OSError."""
    if bind.kind == "unix":
        return open_unix_socket(bind.path)
    host = bind.host
    if not host:
        # Both families on one socket.
        sock = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        host = "::"
    else:
        family, _, _, _, address = socket.getaddrinfo(
            host, bind.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        host = str(address[0])
        sock = socket.socket(family, socket.SOCK_STREAM)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, bind.port))
    except OSError:
        sock.close()
        raise
    return sock


def open_unix_socket(path: str) -> socket.socket:
    """A Unix socket at `path`; one that nobody answers on any more is replaced. Raises OSError."""
    if os.path.exists(path) and stat.S_ISSOCK(os.stat(path).st_mode):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(path)
            except ConnectionRefusedError:
                os.unlink(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(path)
        os.chmod(path, 0o660)
    except OSError:
        sock.close()
        raise
    return sock
