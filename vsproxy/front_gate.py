"""Fronts that say by the PROXY protocol whose connection they bring: how long that may take, and what becomes of it.

A protocol of its own stands before TLS and HTTP and hands the transport over once it knows. Listeners that expect no
front never come here.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

from vsproxy.errors import BadProxyHeader
from vsproxy.headers import Network, is_trusted
from vsproxy.listener_stats import ListenerStats
from vsproxy.wire.proxy_header import Ends, ProxyHeaderParser

#: Makes the protocol of TLS, inside of which goes what its argument makes.
Secure = Callable[[Any], Any]

logger = logging.getLogger(__name__)


class FrontGate:
    """The fronts of one listener: those in `networks`, each of which has `timeout` seconds for its header."""

    def __init__(self, loop: asyncio.AbstractEventLoop, stats: ListenerStats) -> None:
        self.networks: tuple[Network, ...] = ()
        self.timeout = 60.0
        self.stats = stats
        self._loop = loop
        self._begun: dict[Arrival, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def arrival(
        self, descriptor: int, origin: bytes, family: int, make_protocol: Any, secure: Secure | None
    ) -> Arrival:
        """The first protocol of a client that was accepted; the others as in `Entrance`, `secure` None: no TLS."""
        return Arrival(self, descriptor, origin, family == socket.AF_UNIX, make_protocol, secure)

    def is_front(self, address: str) -> bool:
        """Whether `address` has to send a header."""
        return is_trusted(address, self.networks)

    def abort(self) -> None:
        """Cut off all of whom nothing is known yet."""
        begun, self._begun = self._begun, {}
        for arrival in begun:
            arrival.abort()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # What an arrival reports

    def begun(self, arrival: Arrival) -> None:
        """A front has come; `passed`, or `failed` or not, and then `lost`."""
        deadline = self._loop.time() + self.timeout
        self._begun[arrival] = deadline
        # A reload may have made the time shorter.
        if self._timer is None or deadline < self._timer.when():
            self._set_timer(deadline)

    def passed(self, arrival: Arrival) -> None:
        """Its header is whole."""
        del self._begun[arrival]

    def failed(self, arrival: Arrival, reason: str) -> None:
        """What it sent is no header, or none came."""
        del self._begun[arrival]
        self.stats.proxy_failures += 1
        logger.debug("no PROXY header from %s: %s", arrival.address or "a Unix socket", reason)

    def lost(self, arrival: Arrival) -> None:
        """It is gone, and was never handed on."""
        if arrival in self._begun:
            if arrival.parser.started:
                self.failed(arrival, "it ends in the middle")
            else:
                # As the checks of fronts do that only connect.
                del self._begun[arrival]
        self.stats.refused()

    # Deadlines

    def _set_timer(self, deadline: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(deadline, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        now = self._loop.time()
        for arrival, deadline in tuple(self._begun.items()):
            if deadline <= now:
                self.failed(arrival, "timeout")
                arrival.abort()
        if self._begun:
            self._set_timer(min(self._begun.values()))


class Arrival(asyncio.Protocol):
    """A client that may be a front: reads the header if it is one, and hands over."""

    def __init__(
        self,
        gate: FrontGate,
        descriptor: int,
        origin: bytes,
        local: bool,
        make_protocol: Any,
        secure: Secure | None,
    ) -> None:
        self.gate = gate
        self.parser = ProxyHeaderParser()
        #: Who is at the other end; empty for a Unix socket.
        self.address = ""
        self._descriptor = descriptor
        self._origin = origin
        self._local = local
        self._make_protocol = make_protocol
        self._secure = secure
        self._transport: Any = None
        self._over = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: a client has connected."""
        self._transport = transport
        if not self._local:
            if self._origin:
                family = socket.AF_INET if len(self._origin) == 4 else socket.AF_INET6
                self.address = socket.inet_ntop(family, self._origin)
            else:
                peer = transport.get_extra_info("peername")
                self.address = peer[0] if peer else ""
            if not self.address:
                # It has gone already, and nobody can say who it was.
                self.abort()
                return
            if not self.gate.is_front(self.address):
                self._hand_over(None, b"")
                return
        self.gate.begun(self)

    def data_received(self, data: bytes) -> None:
        """asyncio: the header, or a part of it, and what follows it."""
        if self._over:
            return
        try:
            header = self.parser.feed(data)
        except BadProxyHeader as error:
            self.gate.failed(self, str(error))
            self.abort()
            return
        if header is not None:
            self.gate.passed(self)
            self._hand_over(header.ends, self.parser.rest)

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the client is gone."""
        self.gate.lost(self)

    def abort(self) -> None:
        """Close without an answer: whoever is there does not speak what an answer could be in."""
        self._over = True
        if self._transport is not None:
            self._transport.abort()

    def _hand_over(self, ends: Ends | None, rest: bytes) -> None:
        """To TLS, or to what is spoken without it; `ends` None: the connection is its own."""
        transport = self._transport
        self._over = True
        protocol: Any
        offer = self._make_protocol if ends is None else partial(self._make_protocol, ends=ends)
        if self._secure is None:
            protocol = offer(self.gate.stats, self._descriptor, self._origin)
        else:
            protocol = self._secure(offer)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if rest:
            protocol.data_received(rest)
