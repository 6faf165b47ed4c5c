"""Accepts clients on one configured address, and stops without losing any.

Connections are accepted here and handed to the event loop one by one, not by its own server: libuv would
answer a lack of descriptors by accepting and closing clients, and cannot empty the backlog before it closes.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Sequence
from typing import NamedTuple

from vsproxy.binding import BoundAddress, ListenerKey, open_address
from vsproxy.config.model import ListenerConfig
from vsproxy.descriptors import Descriptors, low_mark
from vsproxy.entrance import Entrance, MakeProtocol
from vsproxy.errors import VsproxyError
from vsproxy.front_gate import FrontGate
from vsproxy.listener_stats import ListenerStats
from vsproxy.tls_front import ServerTls, load_tls
from vsproxy.tls_gate import TlsGate

# What is left of `handshake_timeout` for handshakes that are under way at stop.
HANDSHAKE_GRACE = 2.0
# Clients accepted in one turn of the loop, at most; the rest get the next turn, after those that are being served.
ACCEPT_BATCH = 64
# So many turns in a row have to find as many clients as they may take before the next may take more: an accept()
# that finds nobody costs as much as one that does not.
FULL_TURNS = 8
# How often (s) it is looked whether all have come in, at a stop.
SETTLE_STEP = 0.005
# accept() failed for lack of something that is not ours to count: look again after this many seconds.
RETRY_DELAY = 0.1
logger = logging.getLogger(__name__)


class Terms(NamedTuple):
    """On what terms clients are served from now on: swapped as a whole by a reload."""

    config: ListenerConfig
    make_protocol: MakeProtocol
    tls: ServerTls | None


class Listener:
    """One address: `bind`, `start`, and in the end `stop_accepting` and `settle`.

    `make_protocol` is called once per connection. `tls` is the TLS side of `config` if it was loaded already;
    otherwise that is done here and raises VsproxyError if the certificate is unusable. `max_connections` is
    divided among `sharers` processes. `number` tells it from others with the same configured address.
    """

    def __init__(
        self,
        config: ListenerConfig,
        loop: asyncio.AbstractEventLoop,
        make_protocol: MakeProtocol,
        descriptors: Descriptors,
        tls: ServerTls | None = None,
        sharers: int = 1,
        number: int = 0,
    ) -> None:
        if config.tls is not None and tls is None:
            tls = load_tls(config.tls)
        self.stats = ListenerStats(descriptors, self._on_room)
        self._loop = loop
        self._descriptors = descriptors
        self._gate = TlsGate(loop, self.stats, config.handshake_timeout)
        self._fronts = FrontGate(loop, self.stats)
        self._entrance = Entrance(loop, self.stats, descriptors, self._gate, self._on_failed)
        self._batch = 1
        self._full_turns = 0
        self._sharers = sharers
        self._number = number
        self._set_terms(Terms(config, make_protocol, tls))
        self._bound: BoundAddress | None = None
        self._watching = False
        self._stopped = False
        self._retry: asyncio.TimerHandle | None = None
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
    def key(self) -> ListenerKey:
        """Which one of the configuration it is."""
        return str(self.config.bind), self._number

    @property
    def certificate_expiry(self) -> float | None:
        """When the first of its certificates expires, in seconds since 1970; None without TLS."""
        return self.terms.tls.table.expiry if self.terms.tls is not None else None

    @property
    def certificates(self) -> dict[str, float]:
        """When each of its certificates expires, by file."""
        table = self.terms.tls.table if self.terms.tls is not None else None
        return {files.cert: pair.expiry for files, pair in table.pairs.items()} if table is not None else {}

    @property
    def crl_expiry(self) -> float | None:
        """When the first of the revocation lists is out of date, in seconds since 1970; None without any."""
        clients = self.terms.tls.table.clients if self.terms.tls is not None else None
        return clients.crl_expiry if clients is not None else None

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
        self._set_terms(terms)
        self._on_room()

    def _set_terms(self, terms: Terms) -> None:
        self.terms = terms
        self._entrance.make_protocol = terms.make_protocol
        self._gate.set_timeout(terms.config.handshake_timeout)
        self._entrance.context = self._entrance.clients = None
        if terms.tls is not None:
            terms.tls.front.use(terms.tls.table)
            self._entrance.context = terms.tls.front.context
            self._entrance.clients = terms.tls.table.clients
        self._fronts.networks = terms.config.proxy_protocol
        self._fronts.timeout = terms.config.header_timeout
        self._entrance.fronts = self._fronts if terms.config.proxy_protocol else None
        # Our part of `max_connections`.
        self._entrance.limit = -(-terms.config.max_connections // self._sharers)

    def borrow(self, lender: int, sockets: Sequence[socket.socket]) -> None:
        """Accept on the sockets of a sibling too, until `give_back`."""
        if self._stopped:
            return
        self.give_back(lender)
        self._lent[lender] = sockets
        if self._watching:
            for sock in sockets:
                self._loop.add_reader(sock.fileno(), self._on_readable, sock, int(sock.family))

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
        """Wait until all who were accepted are connections; after `grace` seconds, cut off those who are not."""
        # Looked at now and then, so that no client costs more for the sake of a stop.
        end = self._loop.time() + grace
        while self.stats.pending and self._loop.time() < end:  # noqa: ASYNC110
            await asyncio.sleep(SETTLE_STEP)
        await self.abort_pending()

    async def abort_pending(self) -> None:
        """Cut off clients that have not become connections yet, such as those in a TLS handshake."""
        self._abort_gates()
        while self.stats.pending:
            # A transport says in the next turn that it is gone; who has just been accepted begins only there.
            await asyncio.sleep(0)
            self._abort_gates()

    def _abort_gates(self) -> None:
        self._fronts.abort()
        self._gate.abort()

    def _close_sockets(self) -> None:
        self._unwatch()
        self._cancel_retry()
        self._descriptors.stop_waiting(self._on_room)
        if self._bound is None:
            return
        # First, so that no new client of a Unix socket slips in between the last accept and close.
        self._bound.remove_path()
        for sock in self._all_sockets():
            try:
                while self._entrance.take_one(sock, int(sock.family)):
                    pass
            except OSError as exc:
                self._wait_after(exc)
        for lender in tuple(self._lent):
            self.give_back(lender)
        self._bound.close()

    def _all_sockets(self) -> list[socket.socket]:
        """Our own and those that are borrowed."""
        own = self._bound.sockets if self._bound is not None else []
        return [*own, *(sock for sockets in self._lent.values() for sock in sockets)]

    # Accepting

    def _on_readable(self, sock: socket.socket, family: int) -> None:
        try:
            taken = self._entrance.take(sock, family, self._batch)
        except OSError as exc:
            self._wait_after(exc)
            return
        if taken == self._batch:
            self._full_turns += 1
            if self._full_turns >= FULL_TURNS:
                self._batch = min(2 * self._batch, ACCEPT_BATCH)
        elif self._entrance.is_full():
            self._pause()
        else:
            self._batch = 1
            self._full_turns = 0

    def _on_failed(self, exc: Exception) -> None:
        """A client never became a connection: they leave and scanners knock at any time."""
        logger.debug("%s: no connection: %s", self.address, exc or type(exc).__name__)
        self.stats.refused()

    # Pausing

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
        limit = self._entrance.limit
        if self._descriptors.has_room and (limit == 0 or self.stats.held <= low_mark(limit)):
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
                self._loop.add_reader(sock.fileno(), self._on_readable, sock, int(sock.family))

    def _unwatch(self) -> None:
        if self._bound is not None and self._watching:
            self._watching = False
            for sock in self._all_sockets():
                self._loop.remove_reader(sock.fileno())
