# cython: annotation_typing=False
"""ONE request and its response: choose a server, send, copy both ways, hold back, retry, finish.

The same object serves whatever protocols its two sides speak. Back-pressure is two booleans per
direction: a side that cannot write pauses the other side's reading. Whether a request may be sent again
is decided here and nowhere else: a failed connect always moves on; anything later only if the method is
idempotent, no byte of the body went out and no byte of an answer went on to the client.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from vsproxy.headers import Forwarding, request_lines
from vsproxy.stream import Downstream, ExchangeEvents
from vsproxy.timers import Sweep
from vsproxy.tunnel import Tunnel
from vsproxy.upstream.connect import connect
from vsproxy.upstream.http1 import UpstreamConnection
from vsproxy.upstream.server import Server
from vsproxy.wire.message import RequestHead, ResponseHead, make_response

if TYPE_CHECKING:
    from vsproxy.upstream.pool import Pool

IDEMPOTENT = frozenset((b"GET", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"TRACE"))
_IDEMPOTENT = IDEMPOTENT

REASONS = {
    "no_route": (404, "nothing is served here"),
    "connect": (502, "no server could be reached"),
    "timeout": (504, "the server did not answer in time"),
    "reset": (502, "the server closed the connection without an answer"),
    "bad_response": (502, "the server sent an invalid answer"),
    "no_server": (503, "no server is available"),
    "queue_timeout": (503, "all servers are busy"),
    "queue_full": (503, "all servers are busy"),
    "502": (502, "no server gave a good answer"),
    "503": (503, "no server gave a good answer"),
    "504": (504, "no server gave a good answer"),
    "body_too_large": (413, "the body is larger than this route allows"),
}


class Timings:
    """When things happened, in seconds of `time.monotonic()`; 0.0 for what did not."""

    __slots__ = ("assigned", "began", "connected", "first_byte", "wall")

    def __init__(self) -> None:
        self.wall = time.time()
        self.began = time.monotonic()
        self.assigned = 0.0
        self.connected = 0.0
        self.first_byte = 0.0


class Exchange(ExchangeEvents):
    """See the module. `downstream` is told what to send, and told `on_exchange_over` by `finish`."""

    __slots__ = (
        "body_consumed",
        "bytes_in",
        "bytes_out",
        "connecting",
        "downstream",
        "forwarding",
        "fresh",
        "head",
        "key",
        "last_server",
        "on_over",
        "outcome",
        "over",
        "pending",
        "pool",
        "queued",
        "request_done",
        "request_id",
        "response_begun",
        "route",
        "server",
        "status",
        "started",
        "sweep",
        "timings",
        "trailers",
        "tried",
        "tries",
        "tunnel",
        "upgrade",
        "upstream",
    )

    def __init__(
        self,
        downstream: Downstream,
        head: RequestHead,
        route: Any,
        forwarding: Forwarding,
        request_id: bytes,
        sweep: Sweep,
        on_over: Any,
    ) -> None:
        self.downstream = downstream
        self.head = head
        self.route = route
        # None only for an exchange that is answered here: no route, or a redirect.
        self.pool: Pool = route.pool if route is not None else None  # type: ignore[assignment]
        self.forwarding = forwarding
        self.request_id = request_id
        self.sweep = sweep
        self.on_over = on_over
        self.timings = Timings()

        # Where it goes
        self.key: int = 0
        self.server: Server | None = None
        self.last_server: Server | None = None
        self.upstream: UpstreamConnection | None = None
        self.connecting: asyncio.Task[None] | None = None
        self.tunnel: Tunnel | None = None
        self.tried: list[Server] | None = None
        self.tries = 0
        self.fresh = False
        self.queued = False
        self.upgrade = b""

        # How far it is
        self.started = False
        self.pending: list[bytes] | None = None
        self.trailers = b""
        self.request_done = False
        self.body_consumed = False
        self.response_begun = False
        self.over = False

        # What is logged
        self.status = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.outcome = "ok"

    # Choosing a server

    def start(self) -> None:
        """Begin: the head is there, and what came with it of the body."""
        self.started = True
        if self.over:
            return
        head = self.head
        route = self.route
        if route.max_body >= 0 and head.content_length > route.max_body:
            self.reject("body_too_large")
            return
        if head.upgrade:
            self.upgrade = wanted_upgrade(head, route.upgrades)
        if self.pool.hashing:
            self.key = self.pool.key_of(head, self.forwarding.client(head))
        self.dispatch()

    def dispatch(self) -> None:
        """Pick a server, or wait for one, or give up."""
        pool = self.pool
        server = None
        if not pool.queue:
            server = pool.balancer.pick(self.key, self.tried)
        if server is not None:
            self.on_server(server)
        elif self.tried is not None:
            self.reject(self.outcome)
        elif pool.enqueue(self):
            self.queued = True
        else:
            pool.no_server += 1
            self.reject("no_server" if pool.up_count == 0 else "queue_full")

    def on_server(self, server: Server) -> None:
        """A server is chosen, at once or from the queue."""
        self.queued = False
        if self.timings.assigned == 0.0:
            self.timings.assigned = time.monotonic()
        self.pool.balancer.acquire(server)
        self.server = server
        self.last_server = server
        self.tries += 1
        self.fresh = False
        self.reach()

    def on_no_server(self, reason: str) -> None:
        """The wait in the queue was in vain."""
        self.queued = False
        self.pool.no_server += 1
        self.reject(reason)

    def reach(self) -> None:
        """Get a connection to the server: an idle one, or a new one."""
        connection = None
        if not self.fresh and not self.upgrade:
            connection = self.pool.keepalive.take(
                self.server, self.sweep.now, self.is_repeatable()  # type: ignore[arg-type]
            )
        if connection is None:
            self.connecting = asyncio.get_running_loop().create_task(self.connect())
            if self.pending is not None and not self.request_done:
                self.downstream.pause_reading()
        else:
            self.send(connection)

    async def connect(self) -> None:
        """Open a new connection; every way this can fail moves the exchange on."""
        server = self.server
        assert server is not None
        began = time.monotonic()
        try:
            connection = await connect(server, self.sweep, self.pool.connect_timeout)
        except OSError:
            # TimeoutError is one of them.
            self.connecting = None
            if not self.over and self.server is server:
                self.on_connect_failed()
            return
        self.connecting = None
        self.timings.connected = time.monotonic() - began
        self.fresh = True
        self.send(connection)

    def send(self, connection: UpstreamConnection) -> None:
        """Send the request's head and what is there of its body."""
        head = self.head
        pool = self.pool
        server = self.server
        self.upstream = connection
        server.requests += 1  # type: ignore[union-attr]
        connection.begin(self, pool.read_timeout, pool.send_timeout)
        if not self.upgrade:
            head.upgrade = b""
        connection.send_head(
            head, request_lines(head, self.upstream_host(), self.forwarding, self.request_id, self.upgrade)
        )
        if self.pending is not None:
            self.send_pending(connection)
        elif self.request_done:
            connection.send_end(self.trailers)
        else:
            connection.expect_nothing()

    def send_pending(self, connection: UpstreamConnection) -> None:
        """Send what arrived of the body before there was a connection."""
        pending = self.pending
        self.pending = None
        self.body_consumed = True
        for data in pending:  # type: ignore[union-attr]
            self.server.bytes_sent += len(data)  # type: ignore[union-attr]
            connection.send_body(data)
        if self.request_done:
            connection.send_end(self.trailers)
        else:
            connection.expect_nothing()
            if not connection.writing_paused:
                self.downstream.resume_reading()

    def upstream_host(self) -> bytes:
        """The Host that the server sees."""
        wanted: str = self.route.upstream_host
        if wanted == "preserve":
            if self.head.host:
                return self.head.host
            wanted = "server"
        if wanted == "server":
            name = self.server.name  # type: ignore[union-attr]
            return b"localhost" if name.startswith("unix:") else name.encode("latin-1")
        return wanted.encode("latin-1")

    def is_repeatable(self) -> bool:
        """Whether the request may be sent a second time after a server may have read it."""
        return not self.body_consumed and self.pending is None and self.head.method in _IDEMPOTENT

    # From the downstream side

    def on_request_body(self, data: bytes) -> None:
        """Pass body bytes on, or keep them while there is no connection yet."""
        self.bytes_in += len(data)
        if self.route.max_body >= 0 and self.bytes_in > self.route.max_body:
            self.give_up("body_too_large")
            return
        upstream = self.upstream
        if upstream is None:
            if self.pending is None:
                self.pending = []
            self.pending.append(data)
            if self.started:
                self.downstream.pause_reading()
            return
        self.body_consumed = True
        self.server.bytes_sent += len(data)  # type: ignore[union-attr]
        upstream.send_body(data)
        upstream.expect_nothing()

    def on_request_end(self, trailers: bytes) -> None:
        """The request is complete."""
        self.request_done = True
        self.trailers = trailers
        if self.upstream is not None:
            self.upstream.send_end(trailers)

    def on_client_gone(self) -> None:
        """Stop everything that was done for a client that is no more."""
        if not self.over:
            self.outcome = "client_gone"
            if self.status == 0:
                self.status = 499
            self.leave_server()
            self.finish()

    # From the upstream side

    def on_interim(self, head: ResponseHead) -> None:
        """Pass a 1xx on."""
        self.downstream.send_interim(head)

    def on_response_head(self, head: ResponseHead, more: bool) -> None:
        """Pass the head on, unless its status sends the request to another server."""
        status = head.status
        if self.timings.first_byte == 0.0:
            self.timings.first_byte = time.monotonic()
        self.server.statuses[status // 100] += 1  # type: ignore[union-attr]
        if status == 101:
            self.open_tunnel(head)
            return
        if status in self.pool.retry_statuses and self.may_move_on():
            server = self.server
            self.leave_server()
            self.move_on_from(server, str(status))  # type: ignore[arg-type]
            return
        self.status = status
        self.response_begun = True
        self.downstream.send_head(head, more)

    def on_response_body(self, data: bytes) -> None:
        """Pass body bytes on."""
        self.bytes_out += len(data)
        self.server.bytes_received += len(data)  # type: ignore[union-attr]
        self.downstream.send_body(data)

    def on_response_end(self, trailers: bytes) -> None:
        """The response is complete."""
        upstream = self.upstream
        server = self.server
        self.upstream = None
        self.server = None
        if self.request_done:
            self.pool.keepalive.put(upstream, self.sweep.now)  # type: ignore[arg-type]
        else:
            # An early answer: the rest of the request will not be sent.
            upstream.abort()  # type: ignore[union-attr]
        self.pool.release(server)  # type: ignore[arg-type]
        # Over before the end is sent: the downstream side may begin the next exchange inside the call.
        self.finish_with(trailers)

    def finish_with(self, trailers: bytes) -> None:
        """Log, and let the downstream side end its message."""
        self.over = True
        self.on_over(self)
        self.downstream.send_end(trailers)

    def on_upstream_failed(self, kind: str) -> None:
        """The server broke off: try another, answer for it, or break off as visibly."""
        upstream = self.upstream
        server = self.server
        stale = kind == "reset" and not self.fresh and not upstream.response_started  # type: ignore[union-attr]
        self.upstream = None
        self.connecting = None
        if stale:
            # The keepalive race says nothing about the server's health.
            server.note_idle_close(self.sweep.now - upstream.idle_since)  # type: ignore[union-attr]
            if self.is_repeatable():
                self.fresh = True
                self.reach()
                return
        self.leave_server()
        if not stale:
            self.pool.on_failure(server, kind)  # type: ignore[arg-type]
        if self.over:
            return
        if self.response_begun and self.downstream.withdraw_head():
            # The head has not left yet: the client has seen nothing.
            self.response_begun = False
        if self.response_begun:
            self.outcome = "upstream_" + kind
            self.over = True
            self.on_over(self)
            self.downstream.abort()
        elif kind in self.pool.retry_causes and self.is_repeatable():
            self.move_on_from(server, kind)  # type: ignore[arg-type]
        else:
            self.reject(kind)

    def on_connect_failed(self) -> None:
        """No connection to the server: always safe to go to the next."""
        server = self.server
        self.leave_server()
        self.pool.on_failure(server, "connect")  # type: ignore[arg-type]
        if self.over:
            return
        if "connect" in self.pool.retry_causes:
            self.move_on_from(server, "connect")  # type: ignore[arg-type]
        else:
            self.reject("connect")

    def on_server_down(self, server: Server) -> None:
        """The server was found to be bad while this exchange waits for it: do not wait on."""
        if self.server is not server or self.over or self.response_begun or self.tunnel is not None:
            return
        if self.connecting is not None:
            kind = "connect"
        elif self.upstream is not None and self.is_repeatable() and not self.upstream.response_started:
            kind = "timeout"
        else:
            return
        self.leave_server()
        self.move_on_from(server, kind)

    # Trying again

    def may_move_on(self) -> bool:
        """Whether an answer may be thrown away in favour of another server's."""
        if not self.is_repeatable() or not self.has_tries():
            return False
        tried = [self.server] if self.tried is None else [*self.tried, self.server]
        return self.pool.balancer.pick(self.key, tried) is not None  # type: ignore[arg-type]

    def has_tries(self) -> bool:
        """Whether neither the tries nor the time for them are used up."""
        return (
            self.tries < self.pool.tries
            and time.monotonic() - self.timings.began < self.pool.retry_timeout
        )

    def move_on_from(self, server: Server, kind: str) -> None:
        """Go on with another server after `server` failed."""
        self.outcome = kind
        if self.tried is None:
            self.tried = []
        self.tried.append(server)
        if self.has_tries():
            server.retries += 1
            self.dispatch()
        else:
            self.reject(kind)

    def leave_server(self) -> None:
        """Let go of the server and of whatever connects us to it."""
        if self.queued:
            self.queued = False
            self.pool.leave_queue(self)
        if self.connecting is not None:
            self.connecting.cancel()
            self.connecting = None
        if self.upstream is not None:
            self.upstream.abort()
            self.upstream = None
        if self.server is not None:
            server = self.server
            self.server = None
            self.pool.release(server)

    # The end

    def reject(self, kind: str) -> None:
        """Answer for a server that did not."""
        status, reason = REASONS[kind]
        self.outcome = kind
        self.answer(status, reason)

    def give_up(self, kind: str) -> None:
        """Stop in the middle of a request: answer if nothing was answered yet, else break off."""
        self.leave_server()
        if self.response_begun:
            self.outcome = kind
            self.over = True
            self.on_over(self)
            self.downstream.abort()
        else:
            self.reject(kind)

    def refuse(self, status: int, reason: str) -> None:
        """The client broke the protocol, or stalled, in the middle of its body."""
        self.leave_server()
        self.outcome = "bad_request"
        if self.response_begun:
            self.over = True
            self.on_over(self)
            self.downstream.abort()
        else:
            self.answer(status, reason)

    def redirect(self, location: bytes) -> None:
        """Answer 308: the same method and target, elsewhere."""
        self.outcome = "redirect"
        self.answer(308, "moved", b"Location: " + location + b"\r\n")

    def answer(self, status: int, reason: str, fields: bytes = b"") -> None:
        """Send an answer of our own."""
        self.status = status
        self.response_begun = True
        fields += b"Content-Type: text/plain; charset=utf-8\r\n"
        if status == 503:
            fields += b"Retry-After: 1\r\n"
        body = reason.encode() + b"\n"
        self.downstream.send_head(make_response(status, fields, body), True)
        if self.head.method != b"HEAD":
            self.bytes_out += len(body)
            self.downstream.send_body(body)
        self.finish_with(b"")

    def finish(self) -> None:
        """The exchange is over and nothing more is to be sent."""
        self.over = True
        self.on_over(self)

    # Back-pressure

    def on_downstream_full(self, full: bool) -> None:
        """The client's side has (no) room."""
        if self.upstream is not None:
            if full:
                self.upstream.pause_reading()
            else:
                self.upstream.resume_reading()

    def on_upstream_full(self, full: bool) -> None:
        """The server's side has (no) room."""
        if full:
            self.downstream.pause_reading()
        else:
            self.downstream.resume_reading()

    # Tunnels

    def open_tunnel(self, head: ResponseHead) -> None:
        """Turn both connections into byte pipes, if the server agreed to what was asked."""
        upstream = self.upstream
        if head.upgrade.lower() != self.upgrade.lower():
            upstream.fail("bad_response")  # type: ignore[union-attr]
            return
        self.status = 101
        self.response_begun = True
        self.outcome = "tunnel"
        self.upstream = None
        upstream.detach()  # type: ignore[union-attr]
        transport, early = self.downstream.hand_over(head)  # type: ignore[attr-defined]
        self.tunnel = Tunnel(
            transport, upstream.transport, self.route.tunnel_timeout, self.sweep, self.on_tunnel_closed  # type: ignore
        )
        self.tunnel.open(early, upstream.leftover)  # type: ignore[union-attr]

    def on_tunnel_closed(self, tunnel: Tunnel) -> None:
        """Both ends are gone."""
        server = self.server
        self.server = None
        self.bytes_in += tunnel.downstream.moved
        self.bytes_out += tunnel.upstream.moved
        server.bytes_sent += tunnel.downstream.moved  # type: ignore[union-attr]
        server.bytes_received += tunnel.upstream.moved  # type: ignore[union-attr]
        if tunnel.timed_out:
            self.outcome = "tunnel_timeout"
        self.pool.release(server)  # type: ignore[arg-type]
        self.finish()
        self.downstream.on_tunnel_closed()  # type: ignore[attr-defined]


def wanted_upgrade(head: RequestHead, allowed: frozenset[bytes]) -> bytes:
    """The protocol that may become a tunnel: exactly one, a GET, without a body, and allowed; else empty."""
    if head.method != b"GET" or head.chunked or head.content_length > 0:
        return b""
    return head.upgrade if head.upgrade.lower() in allowed else b""
