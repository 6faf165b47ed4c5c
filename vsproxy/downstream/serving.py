# cython: annotation_typing=False
"""What all connections of one serving process share: routes, the sweep, the log, who is connected."""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
import time
from typing import Protocol

from vsproxy.access_line import AccessRecord
from vsproxy.access_log import AccessLog
from vsproxy.config.hsts import hsts_line
from vsproxy.config.model import ListenerConfig
from vsproxy.exchange import Exchange, new_exchange
from vsproxy.headers import Forwarding
from vsproxy.relay import Relay
from vsproxy.routing import Router
from vsproxy.splice import Splicer
from vsproxy.stream import Downstream
from vsproxy.timers import Sweep
from vsproxy.upstream.server import Server
from vsproxy.wire.message import RequestHead
from vsproxy.wire.syntax import skip_blanks, trim_blanks

#: Names of dropped fields that are remembered, so that a client cannot fill the log.
MAX_NAMES = 100
#: Peers that a listener remembers: a front, a load generator, or a page's many connections come from one.
MAX_PEERS = 256
_HEX = [b"%02x" % number for number in range(256)]

logger = logging.getLogger("vsproxy.downstream")


class Client(Protocol):
    """A connection of a client, as the whole process sees it."""

    def on_server_down(self, server: Server) -> None:
        """Whoever waits for `server` goes to another."""

    def drain(self) -> None:
        """End after the exchange in progress."""

    def give_notice(self) -> None:
        """End now, a tunnel by closing its streams."""

    def cut(self) -> None:
        """End with a reset."""


class ListenerSettings:
    """A `ListenerConfig` as the data path reads it; `address` is the bound one."""

    __slots__ = (
        "address",
        "asks_certificates",
        "body_timeout",
        "forwarded",
        "forwardings",
        "header_timeout",
        "hsts",
        "idle_timeout",
        "keep_underscores",
        "max_fields",
        "max_head",
        "max_requests",
        "max_target",
        "networks",
        "redirect",
        "retired",
        "secure",
        "send_timeout",
        "via",
    )

    def __init__(self, config: ListenerConfig, address: str) -> None:
        self.address = address
        #: These settings are no longer in force: a connection that has them ends after its next answer.
        self.retired = False
        self.secure = config.tls is not None
        self.asks_certificates = config.tls is not None and config.tls.client_ca is not None
        self.hsts = hsts_line(config.tls.hsts) if config.tls is not None and config.tls.hsts is not None else b""
        self.redirect = config.redirect is not None
        self.header_timeout = config.header_timeout
        self.idle_timeout = config.idle_timeout
        self.body_timeout = config.body_timeout
        self.send_timeout = config.send_timeout
        self.max_requests = config.max_requests
        self.max_head = config.max_head
        self.max_fields = config.max_fields
        self.max_target = config.max_target
        self.keep_underscores = config.underscore_headers == "keep"
        self.networks = config.trusted_proxies
        self.forwarded = config.forwarded
        self.via = config.via
        # Nothing in one depends on anything but the peer and what stands above. By origin, or by the peer's name.
        self.forwardings: dict[bytes | str, Forwarding] = {}

    def forwarding_for(self, origin: bytes, transport: asyncio.Transport) -> Forwarding:
        """What the connections of one peer add to their requests; `origin` is its packed address, or empty: ask."""
        if self.asks_certificates:
            # It depends on the connection, so it is not kept.
            return self.make_forwarding(self.peer_of(origin, transport), transport)
        known = self.forwardings.get(origin)
        if known is not None:
            return known
        peer = self.peer_of(origin, transport)
        key = origin or peer
        known = self.forwardings.get(key)
        if known is None:
            known = self.make_forwarding(peer, transport)
            if len(self.forwardings) >= MAX_PEERS:
                self.forwardings.clear()
            self.forwardings[key] = known
        return known

    def peer_of(self, origin: bytes, transport: asyncio.Transport) -> str:
        """The peer's address as text, empty for a Unix socket's."""
        if origin:
            peer = socket.inet_ntop(socket.AF_INET if len(origin) == 4 else socket.AF_INET6, origin)
        else:
            # A Unix socket's peer has no name.
            peername = transport.get_extra_info("peername")
            peer = peername[0] if isinstance(peername, tuple) else ""
        return peer.removeprefix("::ffff:")

    def make_forwarding(self, peer: str, transport: asyncio.Transport) -> Forwarding:
        """A new one; where certificates are asked for, `transport` knows what is to be said of the client's."""
        lines = transport.get_extra_info("client_cert") if self.asks_certificates else b""
        scheme = b"https" if self.secure else b"http"
        return Forwarding(peer, scheme, self.networks, self.forwarded, self.via, lines)


class Serving:
    """`router` is swapped at a reload; an exchange keeps the route it began with."""

    __slots__ = (
        "_record",
        "access_log",
        "connections",
        "draining",
        "relay",
        "request_block",
        "request_count",
        "request_prefix",
        "router",
        "splicer",
        "sweep",
        "underscores_seen",
        "vacant",
    )

    def __init__(
        self, sweep: Sweep, router: Router, access_log: AccessLog | None
    ) -> None:
        self.sweep = sweep
        self.router = router
        self.access_log = access_log
        #: None: body bytes always pass through this process.
        self.splicer: Splicer | None = None
        #: None: tunnels are always read by the loop.
        self.relay: Relay | None = None
        # One for all exchanges: each sets every attribute.
        self._record = AccessRecord()
        self.connections: set[Client] = set()
        self.draining = False
        #: Set while no client is connected.
        self.vacant = asyncio.Event()
        self.vacant.set()
        self.request_prefix = secrets.token_hex(8).encode() + b"-"
        self.request_block = b""
        self.request_count = 0
        self.underscores_seen: set[bytes] = set()

    def next_request_id(self) -> bytes:
        """An id that no other request has, in this process or another."""
        low = self.request_count & 255
        if low == 0:
            self.request_block = self.request_prefix + b"%06x" % (self.request_count >> 8)
        self.request_count += 1
        return self.request_block + _HEX[low]

    def begin(self, downstream: Downstream, head: RequestHead, forwarding: Forwarding) -> Exchange:
        """The exchange for `head`; `answer_here` comes next."""
        if head.dropped_underscores:
            self.note_underscores(head.dropped_underscores)
        request_id = head.x_request_id
        if request_id is None or not forwarding.trusted:
            request_id = self.next_request_id()
        route = self.router.find(head.host, head.path)
        return new_exchange(downstream, head, route, forwarding, request_id, self.sweep)

    def connected(self, connection: Client) -> None:
        """A client has come."""
        if not self.connections:
            self.vacant.clear()
        self.connections.add(connection)

    def disconnected(self, connection: Client) -> None:
        """A client has gone."""
        self.connections.discard(connection)
        if not self.connections:
            self.vacant.set()

    def note_underscores(self, names: list[bytes]) -> None:
        """Fields were dropped for an underscore in their name: say so once per name, of the first few."""
        for name in names:
            if name not in self.underscores_seen and len(self.underscores_seen) < MAX_NAMES:
                self.underscores_seen.add(name)
                logger.warning("field %r dropped: underscore in its name (underscore_headers)", name)

    def log_refusal(self, client: str, settings: ListenerSettings, status: int, reason: str) -> None:
        """Write the access log's line of a request that could not be read."""
        if self.access_log is None:
            return
        record = AccessRecord()
        record.time = time.time()
        record.client = client
        record.listener = settings.address
        record.status = status
        record.request_id = self.next_request_id()
        record.outcome = f"bad_request: {reason}"
        record.tls = settings.secure
        self.access_log.log(record)

    def log(self, exchange: Exchange, settings: ListenerSettings) -> None:
        """Write the access log's line of an exchange that is over."""
        if self.access_log is None:
            return
        head = exchange.head
        fields = head.fields
        now = time.monotonic()
        began = exchange.began
        pool = exchange.pool
        server = exchange.last_server
        record = self._record
        record.time = time.time() - (now - began)
        record.client = exchange.forwarding.client(head)
        record.listener = settings.address
        record.method = head.method
        record.host = head.host
        record.target = head.target
        record.minor = head.minor
        record.status = exchange.status
        record.bytes_in = exchange.bytes_in
        record.bytes_out = exchange.bytes_out
        record.queue = exchange.assigned - began if exchange.assigned != 0.0 else -1.0
        record.connect = exchange.connected if exchange.connected != 0.0 else -1.0
        record.first_byte = exchange.first_byte - began if exchange.first_byte != 0.0 else -1.0
        record.total = now - began
        record.pool = pool.name if pool is not None else ""
        record.server = server.name if server is not None else ""
        record.tries = exchange.tries
        record.request_id = exchange.request_id
        record.outcome = exchange.outcome
        record.fields = fields
        record.referer = skip_blanks(fields, head.referer, head.referer_end)
        record.referer_end = trim_blanks(fields, record.referer, head.referer_end)
        record.user_agent = skip_blanks(fields, head.user_agent, head.user_agent_end)
        record.user_agent_end = trim_blanks(fields, record.user_agent, head.user_agent_end)
        record.tls = settings.secure
        self.access_log.log(record)


def answer_here(exchange: Exchange, settings: ListenerSettings) -> bool:
    """Answer what no server has anything to do with; whether that was so."""
    if settings.redirect:
        head = exchange.head
        exchange.redirect(b"https://" + without_port(head.host) + head.target)
        return True
    if exchange.route is None:
        exchange.reject("no_route")
        return True
    return False


def without_port(host: bytes) -> bytes:
    """A Host value without its port."""
    colon = host.rfind(b":")
    return host[:colon] if colon > host.rfind(b"]") else host
