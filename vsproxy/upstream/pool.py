"""A pool: its servers, their states, who is chosen, who has to wait. Decides; exchanges do the I/O."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from vsproxy.config.model import PoolConfig, ServerConfig
from vsproxy.timers import NEVER, Sweep, Timed
from vsproxy.upstream.balancer import hash_key, make_balancer
from vsproxy.upstream.keepalive import Keepalive
from vsproxy.upstream.resolve import is_name
from vsproxy.upstream.server import CHECKING, DOWN, DRAIN, MAINT, STATE_NAMES, UP, Server
from vsproxy.wire.message import RequestHead, field_value

#: Seconds between two steps of a server's slow start.
RAMP_STEP = 0.5
#: The share of its weight with which a slow start begins.
RAMP_START = 0.1

logger = logging.getLogger("vsproxy.pool")


class Waiting(Protocol):
    """An exchange in the queue."""

    key: int
    tried: list[Server] | None

    def on_server(self, server: Server) -> None:
        """A server is free: the wait is over."""

    def on_no_server(self, reason: str) -> None:
        """The wait was in vain: `queue_timeout` or `no_server`."""


class Pool(Timed):
    """The live side of a `PoolConfig`; lives on over a reload."""

    def __init__(self, name: str, config: PoolConfig, sweep: Sweep) -> None:
        super().__init__()
        self.name = name
        self.sweep = sweep
        self.servers: list[Server] = []
        self.queue: deque[tuple[Waiting, float]] = deque()
        self.queue_timeouts = 0
        self.no_server = 0
        self.up_count = 0
        self.on_down: Callable[[Server], None] | None = None
        self.on_ejected: Callable[[Server], None] | None = None
        self.on_servers_changed: Callable[[], None] | None = None
        self._failures: dict[Server, deque[float]] = {}
        self._ramping: list[Server] = []
        self.balancer = make_balancer(config.balance, config.consistent)
        self.config = config
        self._apply(config)
        sweep.add(self)

    # Configuration

    def _apply(self, config: PoolConfig) -> None:
        """Take over `config`: what data-path code reads is copied into plain attributes."""
        if (config.balance, config.consistent) != (self.config.balance, self.config.consistent):
            self.balancer = make_balancer(config.balance, config.consistent)
        self.config = config
        self.keepalive = Keepalive(
            config.keepalive, config.keepalive_timeout, config.keepalive_requests, config.keepalive_age
        )
        self.hashing = config.balance == "hash"
        self.connect_timeout = config.timeouts.connect
        self.send_timeout = config.timeouts.send
        self.read_timeout = config.timeouts.read
        self.tries = config.retry.tries
        self.retry_timeout = config.retry.timeout
        self.retry_causes = frozenset(config.retry.on)
        self.retry_statuses = frozenset(int(cause) for cause in config.retry.on if cause.isdecimal())
        wanted = {str(server.address): server for server in config.servers}
        for server in [server for server in self.servers if server.name not in wanted]:
            self._remove(server)
        for name, server_config in wanted.items():
            known = [server for server in self.servers if server.name == name]
            for server in known:
                server.weight = server_config.weight
                server.effective_weight = float(server_config.weight)
                server.backup = server_config.backup
                server.max_connections = server_config.max_connections
            if not known:
                self._add(server_config)
        self._rebuild()

    def update(self, config: PoolConfig) -> None:
        """Reload: servers that stay keep their state, counters and connections."""
        if config != self.config:
            self._apply(config)
            self._servers_changed()

    def retire(self) -> None:
        """The pool is gone from the configuration: exchanges in flight end, nothing is kept."""
        self.sweep.remove(self)
        for server in list(self.servers):
            self._remove(server)
        self._rebuild()

    def _add(self, config: ServerConfig) -> None:
        bind = config.address
        if bind.kind == "unix":
            self._new_server(config, bind.path, 0)
        elif is_name(bind):
            self._placeholder(config, "not resolved yet")
        else:
            self._new_server(config, bind.host, bind.port)

    def _new_server(self, config: ServerConfig, host: str, port: int) -> Server:
        if config.state != "up":
            state = STATE_NAMES.index(config.state)
        else:
            state = UP if self.config.health is None else CHECKING
        server = Server(
            self.name, str(config.address), host, port,
            config.weight, config.backup, config.max_connections, state,
        )  # fmt: skip
        server.state_since = time.time()
        self.servers.append(server)
        return server

    def _placeholder(self, config: ServerConfig, reason: str) -> None:
        server = self._new_server(config, "", config.address.port)
        server.state = DOWN
        server.state_reason = reason

    def _remove(self, server: Server) -> None:
        server.removed = True
        self.servers.remove(server)
        self._failures.pop(server, None)
        if server in self._ramping:
            self._ramping.remove(server)
        self.keepalive.drop_all(server)

    def replace_addresses(self, name: str, addresses: list[tuple[str, int]]) -> None:
        """The addresses that the configured `name` has now; none: it does not resolve, and is down."""
        config = next((item for item in self.config.servers if str(item.address) == name), None)
        if config is None:
            return
        current = {(server.host, server.port): server for server in self.servers if server.name == name}
        if addresses and set(addresses) == set(current):
            return
        for key, server in current.items():
            if key not in addresses:
                self._remove(server)
        for host, port in addresses:
            if (host, port) not in current:
                self._new_server(config, host, port)
        if not addresses:
            self._placeholder(config, "does not resolve")
        logger.info("pool %s: %s is now %s", self.name, name, addresses or "unresolvable")
        self._rebuild()
        self._servers_changed()

    def _servers_changed(self) -> None:
        if self.on_servers_changed is not None:
            self.on_servers_changed()
        self.wake()

    # States

    def set_state(self, server: Server, state: int, reason: str) -> None:
        """Put `server` into `state`; the one place where a state changes."""
        if server.state == state or server.removed:
            server.state_reason = reason
            return
        level = logging.WARNING if state == DOWN else logging.INFO
        logger.log(
            level, "pool %s: server %s (%s) is %s, was %s: %s",
            self.name, server.name, server.address, STATE_NAMES[state], server.state_name, reason,
        )  # fmt: skip
        if state == UP:
            self._begin_ramp(server)
            self._failures.pop(server, None)
        server.state = state
        server.state_reason = reason
        server.state_since = time.time()
        self._rebuild()
        if state in (DOWN, DRAIN, MAINT):
            self.keepalive.drop_all(server)
        if state in (DOWN, MAINT) and self.on_down is not None:
            self.on_down(server)
        self.wake()

    def _rebuild(self) -> None:
        up = [server for server in self.servers if server.state == UP]
        if not up:
            # Better a server of which nothing is known than none.
            up = [server for server in self.servers if server.state == CHECKING]
        self.up_count = len(up)
        self.balancer.rebuild(up)

    def _begin_ramp(self, server: Server) -> None:
        slow_start = self.config.slow_start
        server.up_since = time.monotonic()
        if slow_start <= 0 or server.state == CHECKING:
            return
        server.effective_weight = server.weight * RAMP_START
        if server not in self._ramping:
            self._ramping.append(server)
        self._set_deadline()

    def _ramp(self, now: float) -> None:
        for server in list(self._ramping):
            share = (now - server.up_since) / self.config.slow_start if self.config.slow_start > 0 else 1.0
            server.effective_weight = server.weight * min(1.0, max(RAMP_START, share))
            if share >= 1.0 or server.state != UP:
                server.effective_weight = float(server.weight)
                self._ramping.remove(server)
        self._rebuild()

    # Passive checks

    def on_failure(self, server: Server, kind: str) -> None:
        """Traffic met a failure of `server`: connect, timeout, reset or bad_response."""
        server.count_failure(kind)
        config = self.config
        if config.max_fails == 0 or server.state not in (UP, CHECKING) or server.removed:
            return
        if kind != "connect" and self.up_count <= 1:
            # The last server that still accepts connections is better than none at all.
            return
        now = time.monotonic()
        window = self._failures.setdefault(server, deque())
        window.append(now)
        while window[0] < now - config.fail_window:
            window.popleft()
        if len(window) >= config.max_fails:
            self.set_state(
                server, DOWN, f"passive: {len(window)} failures in {config.fail_window:g} s, last: {kind}"
            )
            if self.on_ejected is not None:
                self.on_ejected(server)

    # Choice

    def key_of(self, head: RequestHead, client: str) -> int:
        """What `balance = "hash"` hashes of a request."""
        source = self.config.hash_key or "client"
        kind, _, name = source.partition(":")
        if kind == "uri":
            return hash_key(head.target)
        if kind == "header":
            return hash_key(field_value(head.fields, name.encode("latin-1")) or b"")
        if kind == "cookie":
            return hash_key(_cookie(field_value(head.fields, b"Cookie") or b"", name.encode("latin-1")))
        return hash_key(client.encode())

    def release(self, server: Server) -> None:
        """An exchange has left `server`."""
        self.balancer.release(server)
        if self.queue:
            self.wake()

    def enqueue(self, exchange: Waiting) -> bool:
        """Let `exchange` wait for a server; False if nothing can come of it."""
        if self.up_count == 0 or len(self.queue) >= self.config.queue_size or self.config.queue_timeout <= 0:
            return False
        self.queue.append((exchange, time.monotonic() + self.config.queue_timeout))
        self._set_deadline()
        return True

    def leave_queue(self, exchange: Waiting) -> None:
        """A client that waits no longer."""
        self.queue = deque(item for item in self.queue if item[0] is not exchange)

    def wake(self) -> None:
        """Hand free servers to those who wait, in order."""
        while self.queue:
            exchange = self.queue[0][0]
            if self.up_count == 0:
                self.queue.popleft()
                exchange.on_no_server("no_server")
                continue
            server = self.balancer.pick(exchange.key, exchange.tried)
            if server is None:
                return
            self.queue.popleft()
            exchange.on_server(server)

    @property
    def queued(self) -> int:
        """Exchanges that wait for a server."""
        return len(self.queue)

    # Timed interface

    def _set_deadline(self) -> None:
        deadline = self.queue[0][1] if self.queue else NEVER
        if self._ramping:
            deadline = min(deadline, time.monotonic() + RAMP_STEP)
        self.deadline = deadline

    def on_deadline(self, now: float) -> None:
        """Time for those who waited too long, and for the next step of a slow start."""
        if self._ramping:
            self._ramp(now)
        while self.queue and self.queue[0][1] <= now:
            exchange, _ = self.queue.popleft()
            self.queue_timeouts += 1
            exchange.on_no_server("queue_timeout")
        self._set_deadline()


def _cookie(value: bytes, name: bytes) -> bytes:
    for pair in value.split(b";"):
        key, _, content = pair.strip(b" \t").partition(b"=")
        if key == name:
            return content
    return b""
