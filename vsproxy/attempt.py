# cython: annotation_typing=False
"""Getting a request to a server: choose one, connect, send, and decide whether to try another.

Whether a request may be sent again is decided here and nowhere else: a failed connect always moves on;
anything later only if the method is idempotent, no byte of the body went out and no byte of an answer
went on to the client.
"""

from __future__ import annotations

import asyncio
import time

from vsproxy.headers import Forwarding, request_lines
from vsproxy.introduction import Introduction
from vsproxy.routing import Route
from vsproxy.spliced import Download, Upload
from vsproxy.stream import Downstream, ExchangeEvents
from vsproxy.timers import Sweep
from vsproxy.tunnel import Tunnel
from vsproxy.upstream.connect import connect
from vsproxy.upstream.http1 import UpstreamConnection
from vsproxy.upstream.pool_traffic import PoolTraffic
from vsproxy.upstream.server import Server
from vsproxy.wire.message import RequestHead

IDEMPOTENT = frozenset((b"GET", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"TRACE"))
_IDEMPOTENT = IDEMPOTENT


class Attempt(ExchangeEvents):
    """The upstream half of an exchange: which server, which connection, how often. See the module.

    `began`, `assigned` (a server), `sent` (to it) and `first_byte` (of its answer) are moments of
    `time.monotonic()`, `connected` is how long that took, in seconds; 0.0 for what did not happen.
    """

    __slots__ = (
        "assigned",
        "began",
        "body_consumed",
        "bytes_in",
        "bytes_out",
        "connected",
        "connecting",
        "download",
        "downstream",
        "downstream_full",
        "first_byte",
        "forwarding",
        "fresh",
        "head",
        "key",
        "last_server",
        "outcome",
        "over",
        "pending",
        "pool",
        "queued",
        "request_done",
        "request_id",
        "response_begun",
        "route",
        "sent",
        "server",
        "started",
        "status",
        "sweep",
        "trailers",
        "tried",
        "tries",
        "tunnel",
        "upgrade",
        "upload",
        "upstream",
    )

    def prepare(
        self,
        downstream: Downstream,
        head: RequestHead,
        route: Route | None,
        forwarding: Forwarding,
        request_id: bytes,
        sweep: Sweep,
    ) -> None:
        """Set everything to what it is at the beginning. `route` is None only if no server is to be asked."""
        self.downstream = downstream
        self.head = head
        self.route: Route = route  # type: ignore[assignment]
        # None only for an exchange that is answered here: no route, or a redirect.
        self.pool: PoolTraffic = route.pool if route is not None else None  # type: ignore[assignment]
        self.forwarding = forwarding
        self.request_id = request_id
        self.sweep = sweep
        self.began = time.monotonic()
        self.assigned = 0.0
        self.connected = 0.0
        self.sent = 0.0
        self.first_byte = 0.0

        # Where it goes
        self.key: int = 0
        self.server: Server | None = None
        self.last_server: Server | None = None
        self.upstream: UpstreamConnection | None = None
        self.downstream_full = False
        self.connecting: asyncio.Task[None] | None = None
        self.tunnel: Tunnel | None = None
        self.download: Download | None = None
        self.upload: Upload | None = None
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

    def reject(self, kind: str) -> None:
        """Answer for a server that did not."""
        raise NotImplementedError

    # Choosing a server

    def dispatch(self) -> None:
        """Pick a server, or wait for one, or give up."""
        pool = self.pool
        server = None
        if pool.queue.size == 0:
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
        if self.assigned == 0.0:
            # Who did not have to wait got it in the same turn of the loop.
            self.assigned = time.monotonic() if self.queued else self.began
        self.queued = False
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
        introduction = None
        if self.pool.introduces:
            introduction = self.downstream.introduction(self.pool.introduces)
            if introduction is None:
                # Broken, though the loop has not told us yet. In nobody's name, a request must not go on.
                self.on_client_gone()
                self.downstream.abort()
                return
        if not self.fresh and not self.upgrade:
            connection = self.pool.keepalive.take(
                self.server, self.sweep.now, self.is_repeatable(), introduction  # type: ignore[arg-type]
            )
        if connection is None:
            self.connecting = asyncio.get_running_loop().create_task(self.connect(introduction))
            if self.pending is not None and not self.request_done:
                self.downstream.pause_reading()
        else:
            self.send(connection)

    async def connect(self, introduction: Introduction | None) -> None:
        """Open a new connection; every way this can fail moves the exchange on."""
        server = self.server
        assert server is not None
        began = time.monotonic()
        try:
            connection = await connect(server, self.sweep, self.pool.connect_timeout, self.pool.tls, introduction)
        except OSError:
            # TimeoutError is one of them.
            self.connecting = None
            if not self.over and self.server is server:
                self.on_connect_failed()
            return
        self.connecting = None
        self.connected = time.monotonic() - began
        self.fresh = True
        self.send(connection)

    def send(self, connection: UpstreamConnection) -> None:
        """Send the request's head and what is there of its body."""
        head = self.head
        pool = self.pool
        server = self.server
        self.upstream = connection
        server.requests += 1  # type: ignore[union-attr]
        self.sent = time.monotonic()
        connection.begin(self, pool.read_timeout, pool.send_timeout)
        if not self.upgrade:
            head.upgrade = b""
        lines = request_lines(head, self.upstream_host(), self.forwarding, self.request_id, self.upgrade)
        if self.pending is not None:
            self.send_pending(connection, lines)
        else:
            connection.send_head(head, lines, self.request_done)
            if self.request_done:
                connection.send_end(self.trailers)
            else:
                connection.expect_nothing()
        if self.downstream_full:
            connection.pause_reading()

    def send_pending(self, connection: UpstreamConnection, lines: bytes) -> None:
        """Send the head and what arrived of the body before there was a connection."""
        pending: list[bytes] = self.pending  # type: ignore[assignment]
        data = pending[0] if len(pending) == 1 else b"".join(pending)
        self.pending = None
        self.body_consumed = True
        self.server.bytes_sent += len(data)  # type: ignore[union-attr]
        connection.send_first(self.head, lines, data, self.request_done, self.trailers)
        if not self.request_done and not connection.writing_paused:
            self.downstream.resume_reading()

    def upstream_host(self) -> bytes:
        """The Host that the server sees."""
        route = self.route
        if route.preserve_host and self.head.host:
            return self.head.host
        return route.fixed_host or self.server.host_field()  # type: ignore[union-attr]

    def is_repeatable(self) -> bool:
        """Whether the request may be sent a second time after a server may have read it."""
        return not self.body_consumed and self.pending is None and self.head.method in _IDEMPOTENT

    # Trying again

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
            and time.monotonic() - self.began < self.pool.retry_timeout
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
            self.pool.queue.leave(self)
        if self.connecting is not None:
            self.connecting.cancel()
            self.connecting = None
        if self.download is not None:
            self.download.stop()
        if self.upload is not None:
            self.upload.stop()
        if self.upstream is not None:
            self.upstream.abort()
            self.upstream = None
        if self.server is not None:
            server = self.server
            self.server = None
            self.release(server)

    def release(self, server: Server) -> None:
        """An exchange has left `server`: somebody else may have waited for that."""
        pool = self.pool
        pool.balancer.release(server)
        if pool.queue.size > 0:
            pool.wake()
