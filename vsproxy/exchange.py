# cython: annotation_typing=False
"""ONE request and its response: copy both ways, hold back, answer where no server does, finish.

The same object serves whatever protocols its two sides speak. Back-pressure is two booleans per
direction: a side that cannot write pauses the other side's reading. How a server is chosen and tried
again is in `vsproxy.attempt`.
"""

from __future__ import annotations

import time

from vsproxy.attempt import Attempt
from vsproxy.headers import Forwarding
from vsproxy.routing import Route
from vsproxy.spliced import splice_request, splice_response
from vsproxy.stream import Downstream
from vsproxy.timers import Sweep
from vsproxy.tunnel import Tunnel
from vsproxy.wire.message import RequestHead, ResponseHead, make_response

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


class Exchange(Attempt):
    """See the module. `downstream` is told what to send, and once, by `finish`, that the exchange is over."""

    __slots__ = ()

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

    def on_request_rest(self, rest: int) -> None:
        """Let the kernel move the rest of the body, if it can."""
        upstream = self.upstream
        if upstream is not None and not upstream.lost:
            self.upload = splice_request(self.downstream, upstream, self, rest)

    def on_request_spliced(self, count: int) -> None:
        """Count what went past."""
        self.bytes_in += count
        self.server.bytes_sent += count  # type: ignore[union-attr]
        self.upstream.expect_nothing()  # type: ignore[union-attr]

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
        server = self.server
        pool = self.pool
        now = time.monotonic()
        if self.first_byte == 0.0:
            self.first_byte = now
        server.statuses[status // 100] += 1  # type: ignore[union-attr]
        server.first_byte.observe(now - self.sent)  # type: ignore[union-attr]
        if status == 101:
            self.open_tunnel(head)
            return
        if pool.retry_statuses[status] and self.may_move_on():
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

    def on_response_rest(self) -> None:
        """Let the kernel move the rest of the body, if it can."""
        self.download = splice_response(self.upstream, self.downstream, self)  # type: ignore[arg-type]

    def on_response_spliced(self, count: int) -> None:
        """Count what went past."""
        self.bytes_out += count
        self.server.bytes_received += count  # type: ignore[union-attr]

    def on_response_end(self, trailers: bytes) -> None:
        """The response is complete."""
        if self.upload is not None:
            self.upload.stop()
        upstream = self.upstream
        server = self.server
        self.upstream = None
        self.server = None
        if self.request_done:
            self.pool.keepalive.put(upstream, self.sweep.now)  # type: ignore[arg-type]
        else:
            # An early answer: the rest of the request will not be sent.
            upstream.abort()  # type: ignore[union-attr]
        self.release(server)  # type: ignore[arg-type]
        # Over before the end is sent: the downstream side may begin the next exchange inside the call.
        self.finish_with(trailers)

    def finish_with(self, trailers: bytes) -> None:
        """Log, and let the downstream side end its message."""
        self.finish()
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
            self.break_off()
        elif kind in self.pool.retry_causes and self.is_repeatable():
            self.move_on_from(server, kind)  # type: ignore[arg-type]
        else:
            self.reject(kind)

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
            self.break_off()
        else:
            self.reject(kind)

    def break_off(self) -> None:
        """End a response that has begun, visibly before its end."""
        self.finish()
        self.downstream.abort()

    def refuse(self, status: int, reason: str) -> None:
        """The client broke the protocol, or stalled, in the middle of its body."""
        self.leave_server()
        self.outcome = "bad_request"
        if self.response_begun:
            self.break_off()
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
        pool = self.pool
        if pool is not None:
            pool.statuses[self.status // 100] += 1
            if self.tunnel is None:
                pool.duration.observe(time.monotonic() - self.began)
        self.downstream.on_exchange_over(self)

    # Back-pressure

    def on_downstream_full(self, full: bool) -> None:
        """The client's side has (no) room."""
        self.downstream_full = full
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
        if head.upgrade.lower() != self.upgrade.lower() or not self.downstream.accepts_switch(head):
            upstream.fail("bad_response")  # type: ignore[union-attr]
            return
        self.status = 101
        self.response_begun = True
        self.outcome = "tunnel"
        self.upstream = None
        upstream.detach()  # type: ignore[union-attr]
        transport, early, relay = self.downstream.hand_over(head)
        self.tunnel = Tunnel(
            transport,
            upstream.transport,  # type: ignore[union-attr, arg-type]
            self.route.tunnel_timeout,
            self.sweep,
            self.on_tunnel_closed,
            relay,
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
        self.release(server)  # type: ignore[arg-type]
        self.finish()
        self.downstream.on_tunnel_closed()


def new_exchange(
    downstream: Downstream,
    head: RequestHead,
    route: Route | None,
    forwarding: Forwarding,
    request_id: bytes,
    sweep: Sweep,
) -> Exchange:
    """An exchange for `head`, not begun; `route` None: it is going to be answered here."""
    # Not by a call of the class, which takes the way through Python.
    exchange = Exchange.__new__(Exchange)
    exchange.prepare(downstream, head, route, forwarding, request_id, sweep)
    return exchange


def wanted_upgrade(head: RequestHead, allowed: frozenset[bytes]) -> bytes:
    """The protocol that may become a tunnel: exactly one, a GET, without a body, and allowed; else empty."""
    if head.method != b"GET" or head.chunked or head.content_length > 0:
        return b""
    return head.upgrade if head.upgrade.lower() in allowed else b""
