"""A pool: its servers, their states, who is chosen, who has to wait. Decides; exchanges do the I/O.

Its servers come from its configuration and from name resolution: `populate`, `replace_addresses`. In a worker they
come from the control process: see `vsproxy.upstream.following`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from vsproxy.config.model import Bind, PoolConfig, ServerConfig
from vsproxy.timers import Sweep
from vsproxy.upstream.balancer import make_balancer
from vsproxy.upstream.endpoint import Endpoint
from vsproxy.upstream.hash_key import key_of
from vsproxy.upstream.keepalive import Keepalive
from vsproxy.upstream.pool_traffic import PoolTraffic
from vsproxy.upstream.resolve import is_name
from vsproxy.upstream.server import CHECKING, DOWN, DRAIN, MAINT, STATE_NAMES, UP, Server
from vsproxy.upstream.slow_start import SlowStart
from vsproxy.upstream.tls import ClientTls
from vsproxy.upstream.waiting import Waiting
from vsproxy.wire.message import RequestHead

#: How long (s) an address that has vanished may stand in for those that came in its place.
LEAVING_TIME = 30.0

logger = logging.getLogger("vsproxy.pool")


class Pool(PoolTraffic):
    """The live side of a `PoolConfig`; lives on over a reload.

    Hooks, each None or called from the loop: `judge(server, kind)` for every failure that traffic met,
    `on_down(server)` after a server went down, `on_servers_changed()` when servers came or went,
    `on_server_added(server)` for each new one, `on_changed()` after anything that a worker has to know.
    """

    def __init__(self, name: str, config: PoolConfig, sweep: Sweep, tls: ClientTls | None = None) -> None:
        super().__init__(name)
        self.tls = tls
        self.sweep = sweep
        self.slot = -1
        self.serial = 0
        self.servers: list[Server] = []
        self.retired = False
        self.judge: Callable[[Server, str], None] | None = None
        self.on_down: Callable[[Server], None] | None = None
        self.on_servers_changed: Callable[[], None] | None = None
        self.on_server_added: Callable[[Server], None] | None = None
        self.on_changed: Callable[[], None] | None = None
        self.slow_start = SlowStart()
        # Servers that their name no longer stands for, and until when they may stay for all that.
        self._leaving: dict[Server, float] = {}
        # What `at_once` holds back: whether it does, and whether there is something.
        self._held = False
        self._due = False
        self._fallen: list[Server] = []
        self.balancer = make_balancer(config.balance, config.consistent)
        self.config = config
        self.configure(config)
        sweep.add(self)

    # Configuration

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Changes of servers inside become visible together, at the end: nobody finds a pool half changed."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self._due:
            self._due = False
            self._rebuild()
            fallen, self._fallen = self._fallen, []
            for server in fallen:
                self._tell_down(server)
            self._servers_changed()

    def configure(self, config: PoolConfig) -> None:
        """Take over all of `config` but the servers: what the data path reads is copied into attributes."""
        if (config.balance, config.consistent) != (self.config.balance, self.config.consistent):
            self.balancer = make_balancer(config.balance, config.consistent)
            self._rebuild()
        self.config = config
        self.keepalive = Keepalive(
            config.keepalive, config.keepalive_timeout, config.keepalive_requests, config.keepalive_age
        )
        self.keepalive.tls = self.tls
        self.hashing = config.balance == "hash"
        self.introduces = config.proxy_protocol or ""
        self.connect_timeout = config.timeouts.connect
        self.send_timeout = config.timeouts.send
        self.read_timeout = config.timeouts.read
        self.tries = config.retry.tries
        self.retry_timeout = config.retry.timeout
        self.retry_causes = frozenset(config.retry.on)
        statuses = {int(cause) for cause in config.retry.on if cause.isdecimal()}
        self.retry_statuses = bytes([status in statuses for status in range(600)])

    def use_tls(self, tls: ClientTls | None) -> None:
        """Connect with `tls` from now on (None: plain); connections that were made otherwise carry nothing more."""
        if tls is not self.tls:
            self.tls = tls
            self.keepalive.tls = tls
            for server in self.servers:
                server.tls_trouble = ""
                self.keepalive.drop_all(server)

    def update(self, config: PoolConfig) -> None:
        """Reload: servers that stay keep their state, counters and connections."""
        if config != self.config:
            before = {str(server.address): server.state for server in self.config.servers}
            if config.proxy_protocol != self.config.proxy_protocol:
                # What is idle began in another way, and would not be used again.
                for server in self.servers:
                    self.keepalive.drop_all(server)
            self.configure(config)
            self.populate()
            for server in [server for server in self.servers if server.host]:
                wanted = self._wanted_state(server)
                if wanted != before.get(server.name, wanted):
                    state = self._first_state() if wanted == "up" else STATE_NAMES.index(wanted)
                    self.set_state(server, state, "configuration")

    def _wanted_state(self, server: Server) -> str:
        return next(item.state for item in self.config.servers if str(item.address) == server.name)

    def populate(self) -> None:
        """Make the servers be those of the configuration, each by its address."""
        wanted = {str(server.address): server for server in self.config.servers}
        known: dict[str, list[Server]] = {}
        for server in list(self.servers):
            if server.name in wanted:
                known.setdefault(server.name, []).append(server)
            else:
                self._remove(server)
        for name, config in wanted.items():
            for server in known.get(name, ()):
                self._reconfigure(server, config.weight, config.backup, config.max_connections)
            if name not in known:
                self._add(config)
        self._rebuild()
        self._servers_changed()

    def retire(self) -> None:
        """The pool is gone from the configuration: whoever is in it, or waits, goes on; nothing is kept."""
        self.retired = True
        for server in self.servers:
            server.removed = True
            self.keepalive.drop_all(server)
        if self.queue.size == 0:
            self.sweep.remove(self)

    def _add(self, config: ServerConfig) -> None:
        bind = config.address
        if bind.kind == "unix":
            self._new_server(config, Endpoint(bind.path, 0), self._first_state())
        elif is_name(bind):
            self._placeholder(config, "not resolved yet")
        else:
            self._new_server(config, Endpoint(bind.host, bind.port), self._first_state())

    def _first_state(self) -> int:
        return UP if self.config.health is None else CHECKING

    def _new_server(self, config: ServerConfig, endpoint: Endpoint, state: int) -> Server:
        if config.state != "up":
            state = STATE_NAMES.index(config.state)
        server = Server(
            self.name, str(config.address), endpoint.host, endpoint.port,
            endpoint.weight or config.weight, endpoint.backup or config.backup, config.max_connections, state,
        )  # fmt: skip
        server.state_since = time.time()
        self._join(server)
        return server

    def _placeholder(self, config: ServerConfig, reason: str) -> None:
        server = self._new_server(config, Endpoint("", config.address.port), DOWN)
        server.state = DOWN
        server.state_reason = reason

    def _join(self, server: Server) -> None:
        self.servers.append(server)
        if self.on_server_added is not None:
            self.on_server_added(server)

    def _remove(self, server: Server) -> None:
        """Exchanges in flight go on; nothing new is sent, nothing is kept."""
        server.removed = True
        self.servers.remove(server)
        self.slow_start.forget(server)
        self._leaving.pop(server, None)
        self.keepalive.drop_all(server)

    def _reconfigure(self, server: Server, weight: int, backup: bool, max_connections: int) -> None:
        if weight != server.weight:
            server.weight = weight
            if server not in self.slow_start:
                server.effective_weight = float(weight)
        server.backup = backup
        server.max_connections = max_connections

    def replace_addresses(self, name: str, endpoints: Sequence[Endpoint]) -> None:
        """What the configured `name` stands for now; nothing: it does not resolve, and is down.

        A new address is CHECKING while the name has others: it gets traffic once it was found to be good.
        """
        config = next((item for item in self.config.servers if str(item.address) == name), None)
        if config is None:
            return
        current = {(server.host, server.port): server for server in self.servers if server.name == name}
        before = {server.address for server in current.values() if server.host and server not in self._leaving}
        placeholder = current.pop(("", config.address.port), None)
        first_state = CHECKING if current else self._first_state()
        wanted = {(endpoint.host, endpoint.port): endpoint for endpoint in endpoints}
        for endpoint in wanted.values():
            server = current.pop((endpoint.host, endpoint.port), None)
            if server is None:
                self._new_server(config, endpoint, first_state)
            else:
                self._leaving.pop(server, None)
                self._reconfigure(
                    server, endpoint.weight or config.weight, endpoint.backup or config.backup, config.max_connections
                )
        self._replaced(current.values(), bool(wanted))
        if wanted and placeholder is not None:
            self._remove(placeholder)
        if not wanted:
            if placeholder is None:
                self._placeholder(config, "does not resolve")
            else:
                placeholder.state_reason = "does not resolve"
        addresses = {str(Bind("tcp", host, port)) for host, port in wanted}
        if addresses != before:
            logger.info("pool %s: %s is now %s", self.name, name, ", ".join(sorted(addresses)) or "unresolvable")
        self._rebuild()
        self._servers_changed()

    def _replaced(self, vanished: Iterable[Server], by_others: bool) -> None:
        """Remove what a name no longer stands for; but not the last that are good, before others were found to be."""
        stays = {server for server in self.servers if server.state == UP} - {*vanished, *self._leaving}
        for server in vanished:
            if by_others and not stays and server.state == UP:
                self._leaving.setdefault(server, time.monotonic() + LEAVING_TIME)
            else:
                self._remove(server)
        self._set_deadline()

    def _see_off(self, leaving: Iterable[Server]) -> None:
        """Those that had vanished are no more needed, or no more good, or have had their time."""
        leaving = tuple(leaving)
        for server in leaving:
            self._remove(server)
        if leaving:
            self._rebuild()
            self._servers_changed()

    def _servers_changed(self) -> None:
        if self._held:
            self._due = True
            return
        if self.on_servers_changed is not None:
            self.on_servers_changed()
        self._changed()
        self.wake()

    def _changed(self) -> None:
        if self.on_changed is not None and not self._held:
            self.on_changed()

    # States

    def set_state(self, server: Server, state: int, reason: str) -> None:
        """Put `server` into `state`, and whoever is concerned is told."""
        if server.state == state or server.removed:
            server.state_reason = reason
            return
        self._change(server, state, reason, logging.WARNING if state == DOWN else logging.INFO)
        self._rebuild()
        self._tell_down(server)
        self._changed()
        self.wake()
        if server in self._leaving:
            self._see_off([server])
        elif state == UP:
            self._see_off(self._leaving)

    def _change(self, server: Server, state: int, reason: str, level: int) -> None:
        """The one place where a state changes."""
        logger.log(
            level, "pool %s: server %s (%s) is %s, was %s: %s",
            self.name, server.name, server.address, STATE_NAMES[state], server.state_name, reason,
        )  # fmt: skip
        if state == UP and server.state != CHECKING:
            self.begin_slow_start(server, 0.0)
        server.state = state
        server.state_reason = reason
        server.state_since = time.time()
        server.changes[state] += 1
        if state in (DOWN, DRAIN, MAINT):
            self.keepalive.drop_all(server)

    def _tell_down(self, server: Server) -> None:
        if self._held:
            # Whoever moves on has to find the others as they will be.
            self._fallen.append(server)
        elif server.state in (DOWN, MAINT) and self.on_down is not None:
            self.on_down(server)

    def _rebuild(self) -> None:
        if self._held:
            self._due = True
            return
        up = [server for server in self.servers if server.state == UP]
        if not up:
            # Better a server of which nothing is known than none.
            up = [server for server in self.servers if server.state == CHECKING]
        self.up_count = len(up)
        self.balancer.rebuild(up)

    def begin_slow_start(self, server: Server, elapsed: float) -> None:
        """Let `server` grow to its weight, on a way that began `elapsed` seconds ago."""
        self.slow_start.begin(server, self.config.slow_start, elapsed)
        self._set_deadline()

    def on_failure(self, server: Server, kind: str) -> None:
        """Traffic met a failure of `server`: connect, timeout, reset or bad_response."""
        server.count_failure(kind)
        if self.judge is not None:
            self.judge(server, kind)

    # Choice

    def key_of(self, head: RequestHead, client: str) -> int:
        """What `balance = "hash"` hashes of a request."""
        return key_of(self.config.hash_key or "client", head, client)

    def enqueue(self, exchange: Waiting) -> bool:
        """Let `exchange` wait for a server; False if nothing can come of it."""
        if self.up_count == 0 or self.queue.size >= self.config.queue_size or self.config.queue_timeout <= 0:
            return False
        self.queue.join(exchange, time.monotonic() + self.config.queue_timeout)
        # A retired pool has left the sweep, if nobody waited.
        self.sweep.add(self)
        self._set_deadline()
        return True

    def wake(self) -> None:
        """Hand free servers to those who wait, in order."""
        while self.queue.size and not self._held:
            if self.up_count == 0:
                self.queue.next().on_no_server("no_server")
                continue
            first = self.queue.first()
            server = self.balancer.pick(first.key, first.tried)
            if server is None:
                return
            self.queue.next().on_server(server)

    @property
    def secure(self) -> bool:
        """Whether TLS is spoken to its servers."""
        return self.tls is not None

    @property
    def queued(self) -> int:
        """Exchanges that wait for a server."""
        return self.queue.size

    # Timed interface

    def _set_deadline(self) -> None:
        self.deadline = min(self.queue.until(), self.slow_start.next_step(), *self._leaving.values())

    def on_deadline(self, now: float) -> None:
        """Time for those who waited too long, and for the next step of a slow start."""
        if self.slow_start.step(now, self.config.slow_start):
            self._rebuild()
        while (exchange := self.queue.take_overdue(now)) is not None:
            self.queue_timeouts += 1
            exchange.on_no_server("queue_timeout")
        self._see_off([server for server, until in self._leaving.items() if until <= now])
        self._set_deadline()
        if self.retired and self.queue.size == 0:
            self.sweep.remove(self)
