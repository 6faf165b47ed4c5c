"""Accepts clients on one configured address, and stops without losing any.

Connections are accepted here and handed to the event loop one by one, not by its own server: libuv would
answer a lack of descriptors by accepting and closing clients, and cannot empty the backlog before it closes.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import NamedTuple

from vsproxy.binding import BoundAddress, open_address
from vsproxy.config.model import ListenerConfig
from vsproxy.descriptors import Descriptors, low_mark
from vsproxy.errors import VsproxyError
from vsproxy.listener_stats import ListenerStats
from vsproxy.tls import ServerTls, load_server_tls
from vsproxy.tls_gate import Opening, answer_plain_http, read_opening

HANDSHAKE_TIMEOUT = 10.0
# What is left of it for handshakes that are under way at stop.
HANDSHAKE_GRACE = 2.0
# Clients accepted in one turn of the loop; the rest get the next turn, after those that are being served.
ACCEPT_BATCH = 64
# accept() failed for lack of something that is not ours to count: look again after this many seconds.
RETRY_DELAY = 0.1
# accept(2): errors of the one connection that was about to be accepted; the next may be fine.
_ONE_CLIENT_FAILED = frozenset(
    {
        errno.ECONNABORTED,
        errno.EPROTO,
        errno.ENOPROTOOPT,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENONET,
        errno.EOPNOTSUPP,
    }
)

logger = logging.getLogger(__name__)


MakeProtocol = Callable[[ListenerStats], asyncio.BaseProtocol]


class Terms(NamedTuple):
    """On what terms clients are served from now on: swapped as a whole by a reload."""

    config: ListenerConfig
    make_protocol: MakeProtocol
    tls: ServerTls | None


class Listener:
    """One address: `bind`, `start`, and in the end `stop_accepting` and `settle`.

    `make_protocol` is called once per connection. `tls` is the TLS side of `config` if it was loaded already;
    otherwise that is done here and raises VsproxyError if the certificate is unusable. `max_connections` is
    divided among `sharers` processes.
    """

    def __init__(
        self,
        config: ListenerConfig,
        loop: asyncio.AbstractEventLoop,
        make_protocol: MakeProtocol,
        descriptors: Descriptors,
        handshake_timeout: float = HANDSHAKE_TIMEOUT,
        tls: ServerTls | None = None,
        sharers: int = 1,
    ) -> None:
        if config.tls is not None and tls is None:
            tls = load_server_tls(config.tls)
        self.terms = Terms(config, make_protocol, tls)
        self.stats = ListenerStats(descriptors, self._on_room)
        self._loop = loop
        self._descriptors = descriptors
        self._handshake_timeout = handshake_timeout
        self._sharers = sharers
        self._max = self._share(config)
        self._bound: BoundAddress | None = None
        self._watching = False
        self._stopped = False
        self._retry: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        # Sockets of a sibling that is down, by its number.
        self._lent: dict[int, Sequence[socket.socket]] = {}

    @property
    def config(self) -> ListenerConfig:
        """The configuration in force."""
        return self.terms.config

    @property
    def address(self) -> str:
        """The address as bound: "host:port" with the real port, or "unix:/path"."""
        return str(self._bound.bind if self._bound else self.config.bind)

    @property
    def certificate_expiry(self) -> float | None:
        """When the certificate expires, in seconds since 1970; None without TLS."""
        return self.terms.tls.expiry if self.terms.tls is not None else None

    def bind(self, bound: BoundAddress | None = None) -> None:
        """Open the listening sockets, or take over `bound`; clients queue from here on. Raises VsproxyError."""
        self._bound = bound or open_address(self.config.bind, self.config.backlog)

    def start(self) -> None:
        """Begin to accept. Raises VsproxyError before `bind`."""
        if self._bound is None:
            raise VsproxyError(f"the listener on {self.config.bind} was started before it was bound")
        self._watch()

    def switch(self, terms: Terms) -> None:
        """Serve clients that come from now on by `terms`, whose address is the same."""
        if self._bound is not None and terms.config.backlog != self.config.backlog:
            for sock in self._bound.sockets:
                sock.listen(terms.config.backlog)
        self.terms = terms
        self._max = self._share(terms.config)
        self._on_room()

    def _share(self, config: ListenerConfig) -> int:
        """Our part of `max_connections`, 0 for no limit."""
        return -(-config.max_connections // self._sharers)

    def borrow(self, lender: int, sockets: Sequence[socket.socket]) -> None:
        """Accept on the sockets of a sibling too, until `give_back`."""
        if self._stopped:
            return
        self.give_back(lender)
        self._lent[lender] = sockets
        if self._watching:
            for sock in sockets:
                self._loop.add_reader(sock.fileno(), self._on_readable, sock)

    def give_back(self, lender: int) -> None:
        """The sibling is there again; no effect if nothing was borrowed from it."""
        for sock in self._lent.pop(lender, ()):
            if self._watching:
                self._loop.remove_reader(sock.fileno())
            sock.close()

    def stop_accepting(self) -> None:
        """Accept what is queued, then close the listening sockets. Connections are not touched.

        Clients in the queue were told that they are connected, so they are taken in even beyond the limits;
        `settle` waits until they are connections. Works before `start` and before `bind` too; a second call
        has no effect.
        """
        if not self._stopped:
            self._stopped = True
            self._close_sockets()

    async def settle(self, grace: float = HANDSHAKE_GRACE) -> None:
        """Wait until all who were accepted are connections; cut off TLS handshakes after `grace` seconds."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace)
        await self.abort_pending()

    async def abort_pending(self) -> None:
        """Cut off clients that have not become connections yet, such as those in a TLS handshake."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _close_sockets(self) -> None:
        self._unwatch()
        self._cancel_retry()
        self._descriptors.stop_waiting(self._on_room)
        if self._bound is None:
            return
        # First, so that no new client of a Unix socket slips in between the last accept and close.
        self._bound.remove_path()
        for sock in self._all_sockets():
            while (client := self._accept(sock)) is not None:
                self._admit(client)
        for lender in tuple(self._lent):
            self.give_back(lender)
        self._bound.close()

    def _all_sockets(self) -> list[socket.socket]:
        """Our own and those that are borrowed."""
        own = self._bound.sockets if self._bound is not None else []
        return [*own, *(sock for sockets in self._lent.values() for sock in sockets)]

    # Accepting

    def _on_readable(self, sock: socket.socket) -> None:
        for _ in range(ACCEPT_BATCH):
            if self._is_full():
                self._pause()
                return
            client = self._accept(sock)
            if client is None:
                return
            self._admit(client)

    def _accept(self, sock: socket.socket) -> socket.socket | None:
        """The next queued client; None if there is none, or none can be had now."""
        while True:
            try:
                client, _ = sock.accept()
            except BlockingIOError:
                return None
            except OSError as exc:
                if exc.errno in _ONE_CLIENT_FAILED:
                    continue
                self._wait_after(exc)
                return None
            client.setblocking(False)
            return client

    def _admit(self, client: socket.socket) -> None:
        self.stats.admitted()
        task = self._loop.create_task(self._serve(client))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # Pausing

    def _is_full(self) -> bool:
        return self._descriptors.full or (self._max > 0 and self.stats.held >= self._max)

    def _pause(self) -> None:
        """Clients wait in the kernel's queue, and notice nothing but the delay."""
        if self.stats.paused:
            return
        self.stats.paused = True
        self.stats.pauses += 1
        self._unwatch()
        self._descriptors.wait_for_room(self._on_room)

    def _on_room(self) -> None:
        """Somebody has left: resume if that was enough."""
        if not self.stats.paused or self._stopped or self._retry is not None:
            return
        if self._descriptors.has_room and (self._max == 0 or self.stats.held <= low_mark(self._max)):
            self.stats.paused = False
            self._descriptors.stop_waiting(self._on_room)
            self._watch()

    def _wait_after(self, exc: OSError) -> None:
        """The kernel refuses to accept (EMFILE, ENFILE, ENOMEM): more is used than we count."""
        logger.warning("%s: cannot accept: %s", self.address, exc.strerror)
        if self._stopped:
            return
        self._pause()
        self._cancel_retry()
        self._retry = self._loop.call_later(RETRY_DELAY, self._try_again)

    def _try_again(self) -> None:
        self._retry = None
        self._on_room()

    def _cancel_retry(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    def _watch(self) -> None:
        if self._bound is not None and not self._watching and not self._stopped:
            self._watching = True
            for sock in self._all_sockets():
                self._loop.add_reader(sock.fileno(), self._on_readable, sock)

    def _unwatch(self) -> None:
        if self._bound is not None and self._watching:
            self._watching = False
            for sock in self._all_sockets():
                self._loop.remove_reader(sock.fileno())

    # From a socket to a connection

    async def _serve(self, client: socket.socket) -> None:
        """Make a connection of `client`, or close it. The connection itself lives on in its protocol."""
        connected = False
        try:
            connected = await self._connect(client)
        except (OSError, RuntimeError) as exc:
            # Clients leave and scanners knock at any time. uvloop has RuntimeError for a transport that broke
            # before its protocol heard of it.
            logger.debug("%s: no connection: %s", self.address, exc or type(exc).__name__)
        finally:
            if not connected:
                client.close()
                self.stats.refused()

    async def _connect(self, client: socket.socket) -> bool:
        terms = self.terms
        tls = terms.tls
        if tls is None:
            await self._loop.connect_accepted_socket(lambda: terms.make_protocol(self.stats), client)
            return True
        deadline = self._loop.time() + self._handshake_timeout
        try:
            async with asyncio.timeout_at(deadline):
                opening = await read_opening(self._loop, client)
        except TimeoutError:
            self.stats.tls_failures += 1
            raise
        if opening is Opening.TLS:
            await self._shake_hands(client, terms, tls.context, deadline)
            return True
        if opening is Opening.HTTP:
            self.stats.plain_on_tls += 1
            await answer_plain_http(self._loop, client)
        return False

    async def _shake_hands(
        self, client: socket.socket, terms: Terms, context: ssl.SSLContext, deadline: float
    ) -> None:
        # The loops refuse a timeout of 0; the first byte came in time, so a moment is left.
        remaining = max(0.001, deadline - self._loop.time())
        try:
            await self._loop.connect_accepted_socket(
                lambda: terms.make_protocol(self.stats),
                client,
                ssl=context,
                ssl_handshake_timeout=remaining,
                # Covers the last bytes of a response too, so it must bear a client that reads slowly.
                ssl_shutdown_timeout=terms.config.send_timeout,
            )
        except (OSError, RuntimeError):
            self.stats.tls_failures += 1
            raise
        self.stats.handshakes += 1
