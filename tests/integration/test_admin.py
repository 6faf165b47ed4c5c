"""The admin port on real sockets: what each resource answers, and to whom."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from vsproxy.admin.server import AdminServer
from vsproxy.binding import ADMIN_BACKLOG, open_address
from vsproxy.config.model import Bind, Config, PoolConfig
from vsproxy.errors import VsproxyError
from vsproxy.histogram import Histogram
from vsproxy.log_writer import LogWriter
from vsproxy.metrics import Metrics
from vsproxy.metrics.sources import ProcessSource, ReloadSource
from vsproxy.upstream.server import CHECKING, DOWN, DRAIN, MAINT, UP, Server

LOOPBACK = Bind("tcp", "127.0.0.1", 0)
NO_RELOADS = ReloadSource(0, 0, True, 1700000000.0)


@dataclass
class FakePool:
    name: str
    config: PoolConfig
    servers: list[Server]
    secure: bool = False
    queued: int = 0
    queue_timeouts: int = 0
    no_server: int = 0
    statuses: list[int] = field(default_factory=lambda: [0] * 6)
    duration: Histogram = field(default_factory=Histogram)


@dataclass
class FakeProxy:
    config: Config
    pools: dict[str, FakePool] = field(default_factory=dict)
    ready: bool = True
    draining: bool = False
    listeners: list[Any] = field(default_factory=list)
    access_log: LogWriter | None = None
    processes: list[ProcessSource] = field(default_factory=list)
    reloads: ReloadSource = NO_RELOADS
    certificates: dict[str, Any] = field(default_factory=dict)


def make_proxy() -> FakeProxy:
    servers = [{"address": "app1:8080", "weight": 5}, {"address": "app2:8080"}]
    pool = {"balance": "least_conn", "servers": servers}
    config = Config.model_validate(
        {
            "listeners": [{"bind": "127.0.0.1:0"}],
            "routes": [{"path": "/", "pool": "web"}],
            "pools": {"web": pool, "unused": pool},
        }
    )
    proxy = FakeProxy(config)
    for name, pool_config in config.pools.items():
        first = Server(name, "app1:8080", "10.0.0.1", 8080, 5)
        second = Server(name, "app2:8080", "10.0.0.2", 8080)
        proxy.pools[name] = FakePool(name, pool_config, [first, second])
    return proxy


Start = Callable[..., Awaitable[AdminServer]]


@pytest.fixture
def proxy() -> FakeProxy:
    return make_proxy()


@pytest.fixture
async def start(proxy: FakeProxy) -> AsyncIterator[Start]:
    """Starts admin servers for `proxy`, and stops them."""
    started: list[AdminServer] = []

    async def start(bind: Bind = LOOPBACK) -> AdminServer:
        server = AdminServer(open_address(bind, ADMIN_BACKLOG), proxy, Metrics(proxy))
        started.append(server)
        await server.start()
        return server

    yield start
    for server in started:
        await server.stop()


@dataclass
class Answer:
    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        assert self.headers["Content-Type"] == "application/json; charset=utf-8"
        return json.loads(self.body)


async def fetch(admin: AdminServer, path: str, method: str = "GET", **headers: str) -> Answer:
    assert admin.address is not None
    connector, authority = None, admin.address
    if admin.address.startswith("unix:"):
        connector, authority = aiohttp.UnixConnector(admin.address.removeprefix("unix:")), "localhost"
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.request(method, f"http://{authority}{path}", headers=headers) as response,
    ):
        return Answer(response.status, response.headers, await response.read())


async def test_healthz_says_ok_even_when_not_ready(start: Start, proxy: FakeProxy) -> None:
    proxy.ready, proxy.draining = False, True
    answer = await fetch(await start(), "/healthz")
    assert (answer.status, answer.body) == (200, b"ok\n")


# Readiness


async def test_ready(start: Start) -> None:
    answer = await fetch(await start(), "/readyz")
    assert (answer.status, answer.json) == (200, {"ready": True, "reasons": []})


async def test_not_ready_before_the_start_and_while_stopping(start: Start, proxy: FakeProxy) -> None:
    admin = await start()
    proxy.ready = False
    before = await fetch(admin, "/readyz")
    proxy.ready, proxy.draining = True, True
    after = await fetch(admin, "/readyz")
    assert (before.status, before.json["reasons"]) == (503, ["the listeners are not bound"])
    assert (after.status, after.json["reasons"]) == (503, ["the proxy is stopping"])


@pytest.mark.parametrize(
    ("states", "ready"),
    [((UP, DOWN), True), ((CHECKING, DOWN), True), ((DOWN, DOWN), False), ((DRAIN, MAINT), False)],
)
async def test_ready_needs_a_server_in_every_pool_of_a_route(
    start: Start, proxy: FakeProxy, states: tuple[int, int], ready: bool
) -> None:
    for server, state in zip(proxy.pools["web"].servers, states, strict=True):
        server.state = state
    for server in proxy.pools["unused"].servers:
        server.state = DOWN
    answer = await fetch(await start(), "/readyz")
    assert answer.status == (200 if ready else 503)
    assert answer.json["reasons"] == ([] if ready else ["pool web: no server is up or checking"])


# Metrics


async def test_metrics_in_both_formats(start: Start, proxy: FakeProxy) -> None:
    proxy.pools["web"].servers[0].requests = 17
    admin = await start()
    plain = await fetch(admin, "/metrics")
    opened = await fetch(admin, "/metrics", Accept="application/openmetrics-text;q=0.9,text/plain;q=0.5")
    assert plain.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert opened.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    for families in (parse_text(plain.body.decode()), parse_openmetrics(opened.body.decode())):
        counts = [
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == "vsproxy_server_requests_total"
        ]
        assert sorted(counts) == [0, 0, 0, 17]


async def test_lost_log_lines_are_in_the_metrics(start: Start, proxy: FakeProxy) -> None:
    proxy.access_log = LogWriter("/dev/null")
    proxy.access_log.close()
    proxy.access_log.put(b"too late\n")
    answer = await fetch(await start(), "/metrics")
    assert b"\nvsproxy_access_log_lost_lines_total 1\n" in answer.body


# The API


async def test_the_api_lists_its_resources(start: Start) -> None:
    admin = await start()
    resources = (await fetch(admin, "/api/")).json["resources"]
    assert set(resources) == {"/healthz", "/readyz", "/metrics", "/api/pools", "/api/pools/{name}"}
    for path in resources:
        assert (await fetch(admin, path.replace("{name}", "web"))).status == 200


async def test_a_pool_is_shown_with_its_servers(start: Start, proxy: FakeProxy) -> None:
    pool = proxy.pools["web"]
    pool.queued, pool.statuses = 3, [0, 0, 9, 0, 0, 2]
    server = pool.servers[0]
    server.state, server.state_reason, server.state_since = DOWN, "3 checks failed", 1700000000.5
    server.last_check = "connection refused"
    server.active, server.requests, server.retries = 2, 10, 1
    server.statuses = [0, 0, 8, 0, 1, 0]
    server.check_successes, server.check_failures = 20, 3
    server.count_failure("connect")
    server.idle = [object()]
    shown = (await fetch(await start(), "/api/pools/web")).json
    assert (shown["name"], shown["balance"], shown["queued"]) == ("web", "least_conn", 3)
    assert shown["responses"] == {"1xx": 0, "2xx": 9, "3xx": 0, "4xx": 0, "5xx": 2}
    assert shown["servers"][0] == {
        "name": "app1:8080",
        "address": "10.0.0.1:8080",
        "state": "down",
        "state_reason": "3 checks failed",
        "state_since": "2023-11-14T22:13:20.500Z",
        "last_check": "connection refused",
        "weight": 5,
        "backup": False,
        "max_connections": 0,
        "active": 2,
        "idle_connections": 1,
        "requests": 10,
        "responses": {"1xx": 0, "2xx": 8, "3xx": 0, "4xx": 1, "5xx": 0},
        "failures": {"connect": 1, "timeout": 0, "reset": 0, "bad_response": 0},
        "retries": 1,
        "checks": {"passed": 20, "failed": 3},
        "bytes_sent": 0,
        "bytes_received": 0,
    }
    assert shown["servers"][1]["state_since"] is None


async def test_all_pools_are_shown_by_name(start: Start) -> None:
    admin = await start()
    pools = (await fetch(admin, "/api/pools")).json["pools"]
    assert list(pools) == ["web", "unused"]
    assert pools["web"] == (await fetch(admin, "/api/pools/web")).json


@pytest.mark.parametrize("path", ["/", "/api", "/api/nothing", "/api/pools/nothing", "/api/pools/"])
async def test_what_is_not_there_is_a_404_in_json(start: Start, path: str) -> None:
    answer = await fetch(await start(), path)
    assert answer.status == 404
    assert answer.json["error"]


@pytest.mark.parametrize("path", ["/healthz", "/metrics", "/api/pools/web"])
async def test_only_get_and_head(start: Start, path: str) -> None:
    admin = await start()
    assert (await fetch(admin, path, "HEAD")).status == 200
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        answer = await fetch(admin, path, method)
        assert answer.status == 405
        assert answer.headers["Allow"] == "GET,HEAD"
        assert answer.json["error"]


# Who may ask


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:9900", 200),
        ("127.0.0.1:9900", 200),
        ("[::1]:9900", 200),
        ("10.1.2.3", 200),
        ("evil.example.com", 403),
        ("localhost.evil.example.com:9900", 403),
        ("127.0.0.1.evil.example.com", 403),
        ("", 403),
    ],
)
async def test_a_loopback_port_refuses_names_of_strangers(start: Start, host: str, status: int) -> None:
    answer = await fetch(await start(), "/api/pools", Host=host)
    assert answer.status == status


@pytest.mark.parametrize("host", ["10.42.0.17:9900", "localhost:9900", "vsproxy.default.svc:9900"])
async def test_a_port_on_all_addresses_answers_probes_and_scrapers(start: Start, host: str) -> None:
    admin = await start(Bind("tcp", "0.0.0.0", 0))
    assert (await fetch(admin, "/readyz", Host=host)).status == 200


async def test_a_request_without_host_is_answered(start: Start) -> None:
    admin = await start()
    assert admin.address is not None
    host, port = admin.address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /healthz HTTP/1.0\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.0 200 ")
    writer.close()
    await writer.wait_closed()


# Binding


async def test_a_unix_socket(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    admin = await start(Bind("unix", path=str(path)))
    assert admin.address == f"unix:{path}"
    assert (await fetch(admin, "/healthz", Host="any.example.com")).status == 200
    await admin.stop()
    assert not path.exists()


async def test_a_unix_socket_of_a_successor_is_left_alone(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    old = await start(Bind("unix", path=str(path)))
    kept = tmp_path / "kept.sock"
    os.rename(path, kept)  # so that the new socket cannot get the same inode
    new = await start(Bind("unix", path=str(path)))
    await old.stop()
    assert (await fetch(new, "/healthz")).status == 200


async def test_an_address_in_use_is_an_error(start: Start) -> None:
    first = await start()
    taken = Bind("tcp", "127.0.0.1", int(first.address.rpartition(":")[2]))
    with pytest.raises(VsproxyError, match=f"cannot listen on {taken}: Address already in use"):
        await start(taken)
    assert (await fetch(first, "/healthz")).status == 200


async def test_a_start_that_fails_leaves_nothing_open(proxy: FakeProxy) -> None:
    bound = open_address(LOOPBACK, ADMIN_BACKLOG)
    with socket.socket() as unusable:
        bound.sockets.append(unusable)
    server = AdminServer(bound, proxy, Metrics(proxy))
    with pytest.raises((OSError, ValueError)):
        await server.start()
    assert {sock.fileno() for sock in bound.sockets} == {-1}
    await server.stop()


async def test_stop_closes_the_port_and_does_not_wait_for_idle_clients(start: Start) -> None:
    admin = await start()
    assert admin.address is not None
    host, port = admin.address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await reader.readuntil(b"ok\n")
    async with asyncio.timeout(3):
        await admin.stop()
        assert await reader.read() == b""
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()
    with pytest.raises(ConnectionError):
        await asyncio.open_connection(host, int(port))


async def test_scrapes_are_not_logged(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="aiohttp")
    await fetch(await start(), "/healthz")
    assert not [entry for entry in caplog.records if entry.name == "aiohttp.access"]
