"""What servers are told of a client's connection, what goes with it, and that nothing goes on in nobody's name."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from vsproxy.config.model import PoolConfig, RouteConfig
from vsproxy.exchange import new_exchange
from vsproxy.headers import Forwarding
from vsproxy.introduction import Introduction, client_ends, make_introduction
from vsproxy.routing import Route
from vsproxy.stream import Downstream
from vsproxy.timers import Sweep
from vsproxy.upstream.pool import Pool
from vsproxy.wire.proxy_header import ends_of
from vsproxy.wire.request import RequestParser


class Transport:
    """Knows of its connection what it is given."""

    def __init__(self, family: int, peer: Any, own: Any) -> None:
        with socket.socket(family) as sock:
            self._known = {"socket": sock, "peername": peer, "sockname": own}

    def get_extra_info(self, name: str) -> Any:
        return self._known[name]


class Kept:
    """A connection to a server."""

    def __init__(self, idle: bool) -> None:
        self.idle = idle
        self.lost = False
        self.closed = False

    def leave_idle(self) -> bool:
        idle, self.idle = self.idle, False
        return idle

    def close(self) -> None:
        self.closed = True


def test_the_ends_of_a_connection() -> None:
    tcp = Transport(socket.AF_INET, ("203.0.113.7", 4711), ("192.0.2.1", 80))
    assert client_ends(tcp) == ends_of("203.0.113.7", 4711, "192.0.2.1", 80)  # type: ignore[arg-type]
    tcp6 = Transport(socket.AF_INET6, ("fe80::7%lo", 4711, 0, 1), ("fe80::1%lo", 80, 0, 1))
    assert client_ends(tcp6) == ends_of("fe80::7", 4711, "fe80::1", 80)  # type: ignore[arg-type]
    assert client_ends(Transport(socket.AF_UNIX, "", "/run/lb.sock")) is None  # type: ignore[arg-type]
    for peer, own in ((None, ("192.0.2.1", 80)), (("203.0.113.7", 4711), None)):
        with pytest.raises(ConnectionError):
            client_ends(Transport(socket.AF_INET, peer, own))  # type: ignore[arg-type]


def test_the_versions() -> None:
    ends = ends_of("203.0.113.7", 4711, "192.0.2.1", 80)
    assert make_introduction("v1", ends).header == b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 80\r\n"
    assert make_introduction("v2", ends).header.startswith(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xcb\x00\x71\x07")


def test_at_the_end_the_idle_are_closed() -> None:
    introduction = Introduction(b"header")
    idle, busy, lost = Kept(True), Kept(False), Kept(False)
    introduction.hold(lost)
    lost.lost = True
    for kept in (idle, busy):
        introduction.hold(kept)
    introduction.end()
    assert (idle.closed, busy.closed, lost.closed) == (True, False, False)
    idle.closed = False
    introduction.end()
    assert not idle.closed


def test_what_names_nobody_is_anybodys() -> None:
    for version in ("v1", "v2"):
        introduction = make_introduction(version, None)
        kept = Kept(True)
        introduction.hold(kept)
        introduction.end()
        assert (kept.idle, kept.closed) == (True, False)


class GoneDownstream(Downstream):
    """A client that is no more, as its connection finds out when it is asked who it was."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def introduction(self, version: str) -> Introduction | None:
        self.calls.append(f"asked by {version}")
        return None

    def abort(self) -> None:
        self.calls.append("aborted")

    def on_exchange_over(self, exchange: Any) -> None:
        self.calls.append(exchange.outcome)


async def test_nothing_goes_on_in_nobodys_name() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        config = PoolConfig.model_validate(
            {"servers": [{"address": f"127.0.0.1:{listening.getsockname()[1]}"}], "proxy_protocol": "v2"}
        )
        sweep = Sweep(asyncio.get_running_loop())
        pool = Pool("main", config, sweep)
        pool.populate()
        head = RequestParser(65536, 100, 16384, False).parse(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 0)
        assert head is not None
        downstream = GoneDownstream()
        route = Route(RouteConfig(pool="main"), pool)
        exchange = new_exchange(downstream, head, route, Forwarding("", b"http", (), False, False), b"id", sweep)
        exchange.request_done = True
        exchange.start()
        assert downstream.calls == ["asked by v2", "client_gone", "aborted"]
        assert (exchange.over, exchange.status, exchange.connecting) == (True, 499, None)
        (server,) = pool.servers
        assert (server.active, server.requests) == (0, 0)
        # Nobody was connected to.
        await asyncio.sleep(0)
        with pytest.raises(BlockingIOError):
            listening.accept()
