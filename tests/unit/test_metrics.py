"""What a scrape says, read back with the parsers of prometheus_client."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest
from prometheus_client import REGISTRY, Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from vsproxy.metrics import MAX_REASONS, Metrics, bounded
from vsproxy.upstream.server import CHECKING, DOWN, DRAIN, MAINT, UP, Server


@dataclass
class FakePool:
    servers: list[Server]
    queued: int = 0
    queue_timeouts: int = 0
    no_server: int = 0


@dataclass
class FakeStats:
    accepted: int = 0
    active: int = 0
    tls_failures: int = 0
    plain_on_tls: int = 0
    bad_requests: dict[str, int] = field(default_factory=dict)
    paused: bool = False


@dataclass
class FakeListener:
    address: str
    stats: FakeStats


@dataclass
class FakeLog:
    written: int
    lost: int


@dataclass
class FakeProxy:
    pools: dict[str, FakePool] = field(default_factory=dict)
    listeners: list[FakeListener] = field(default_factory=list)
    access_log: FakeLog | None = None


Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]
SERVER = {"pool": "web", "server": "app1:8080", "address": "10.0.0.1:8080"}


def samples_of(families: Iterable[Metric]) -> Samples:
    """Every sample by name and labels; no series may occur twice."""
    found: Samples = {}
    for family in families:
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found
            found[key] = sample.value
    return found


def scrape(proxy: FakeProxy) -> Samples:
    body, content_type = Metrics(proxy).render("")
    assert content_type == "text/plain; version=0.0.4; charset=utf-8"
    return samples_of(parse_text(body.decode()))


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, frozenset(labels.items())]


def make_server(state: int = UP) -> Server:
    return Server("web", "app1:8080", "10.0.0.1", 8080, state=state)


def test_everything_a_server_counts_is_there() -> None:
    server = make_server()
    server.requests, server.retries, server.active = 10, 2, 3
    server.connect_count, server.connect_seconds = 4, 0.5
    server.bytes_sent, server.bytes_received = 1000, 2**40
    server.statuses = [0, 1, 2, 3, 4, 5]
    server.count_failure("reset")
    server.count_failure("flood")
    server.check_successes, server.check_failures = 7, 1
    server.idle = [object(), object()]
    samples = scrape(FakeProxy({"web": FakePool([server])}))
    expected = {
        "requests_total": 10, "retries_total": 2, "active_exchanges": 3, "connects_total": 4,
        "connect_seconds_total": 0.5, "sent_bytes_total": 1000, "received_bytes_total": 2**40,
        "idle_connections": 2, "up": 1,
    }  # fmt: skip
    assert {name: value(samples, f"vsproxy_server_{name}", **SERVER) for name in expected} == expected
    for code in range(1, 6):
        assert value(samples, "vsproxy_server_responses_total", code=f"{code}xx", **SERVER) == code
    kinds = {"connect": 0, "timeout": 0, "reset": 1, "bad_response": 0, "flood": 1}
    for kind, count in kinds.items():
        assert value(samples, "vsproxy_server_failures_total", kind=kind, **SERVER) == count
    assert value(samples, "vsproxy_server_checks_total", result="passed", **SERVER) == 7
    assert value(samples, "vsproxy_server_checks_total", result="failed", **SERVER) == 1


@pytest.mark.parametrize(
    ("state", "name"),
    [(UP, "up"), (DOWN, "down"), (CHECKING, "checking"), (DRAIN, "drain"), (MAINT, "maint")],
)
def test_a_server_is_in_exactly_one_state(state: int, name: str) -> None:
    samples = scrape(FakeProxy({"web": FakePool([make_server(state)])}))
    states = {
        dict(labels)["state"]: count
        for (metric, labels), count in samples.items()
        if metric == "vsproxy_server_state"
    }
    assert states == {"up": 0, "down": 0, "checking": 0, "drain": 0, "maint": 0} | {name: 1}
    assert value(samples, "vsproxy_server_up", **SERVER) == (state == UP)


def test_one_address_twice_in_a_pool_is_one_series() -> None:
    first, second = make_server(), make_server()
    first.requests, second.requests = 3, 4
    first.count_failure("reset")
    second.count_failure("reset")
    samples = scrape(FakeProxy({"web": FakePool([first, second])}))
    assert value(samples, "vsproxy_server_requests_total", **SERVER) == 7
    assert value(samples, "vsproxy_server_failures_total", kind="reset", **SERVER) == 2


def test_pools_and_listeners() -> None:
    stats = FakeStats(9, 4, 1, 2, {"missing Host": 3}, True)
    samples = scrape(
        FakeProxy(
            {"web": FakePool([], queued=5, queue_timeouts=6, no_server=7)},
            [FakeListener("127.0.0.1:80", stats), FakeListener("unix:/run/x", FakeStats())],
        )
    )
    assert value(samples, "vsproxy_pool_queued_exchanges", pool="web") == 5
    assert value(samples, "vsproxy_pool_queue_timeouts_total", pool="web") == 6
    assert value(samples, "vsproxy_pool_no_server_total", pool="web") == 7
    listener = {"listener": "127.0.0.1:80"}
    assert value(samples, "vsproxy_listener_connections_total", **listener) == 9
    assert value(samples, "vsproxy_listener_active_connections", **listener) == 4
    assert value(samples, "vsproxy_listener_tls_failures_total", **listener) == 1
    assert value(samples, "vsproxy_listener_plain_on_tls_total", **listener) == 2
    assert value(samples, "vsproxy_listener_bad_requests_total", reason="missing Host", **listener) == 3
    assert value(samples, "vsproxy_listener_accept_paused", **listener) == 1
    assert value(samples, "vsproxy_listener_accept_paused", listener="unix:/run/x") == 0


def test_the_process_the_build_and_the_log() -> None:
    samples = scrape(FakeProxy(access_log=FakeLog(written=11, lost=12)))
    assert value(samples, "vsproxy_access_log_lines_total") == 11
    assert value(samples, "vsproxy_access_log_lost_lines_total") == 12
    for name in ("cpu_seconds_total", "resident_memory_bytes", "open_fds", "max_fds"):
        assert value(samples, f"process_{name}") > 0
    (build,) = [dict(labels) for (name, labels) in samples if name == "vsproxy_build_info"]
    assert set(build) == {"version", "compiled"}
    assert build["compiled"] in ("true", "false")


def test_values_are_those_of_the_moment() -> None:
    server = make_server()
    proxy = FakeProxy({"web": FakePool([server])})
    metrics = Metrics(proxy)
    metrics.render("")
    server.requests = 42
    proxy.pools["api"] = FakePool([], queued=1)
    samples = samples_of(parse_text(metrics.render("")[0].decode()))
    assert value(samples, "vsproxy_server_requests_total", **SERVER) == 42
    assert value(samples, "vsproxy_pool_queued_exchanges", pool="api") == 1


@pytest.mark.parametrize(
    "accept",
    [
        "application/openmetrics-text",
        "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.1",
        "text/html, Application/OpenMetrics-Text; version=nonsense",
    ],
)
def test_openmetrics_when_asked_for(accept: str) -> None:
    proxy = FakeProxy({"web": FakePool([make_server()])}, [FakeListener("[::1]:80", FakeStats())])
    body, content_type = Metrics(proxy).render(accept)
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    samples = samples_of(parse_openmetrics(body.decode()))
    assert value(samples, "vsproxy_server_requests_total", **SERVER) == 0


def test_two_proxies_do_not_meet_and_the_global_registry_stays_clean() -> None:
    first, second = make_server(), make_server()
    first.requests, second.requests = 1, 2
    for server in (first, second):
        samples = scrape(FakeProxy({"web": FakePool([server])}))
        assert value(samples, "vsproxy_server_requests_total", **SERVER) == server.requests
    assert not [family.name for family in REGISTRY.collect() if family.name.startswith("vsproxy")]


def test_reasons_are_bounded() -> None:
    reasons = {f"reason {number}": 1 for number in range(MAX_REASONS + 10)}
    kept = bounded(reasons)
    assert len(kept) == MAX_REASONS + 1
    assert kept["other"] == 10
    assert bounded({"other": 2}) == {"other": 2}


def test_names_from_the_configuration_are_escaped() -> None:
    server = Server("p", "unix:/run/a\"b\\c\n", '/run/a"b\\c\n', 0)
    samples = scrape(FakeProxy({"p": FakePool([server])}))
    labels = {"pool": "p", "server": "unix:/run/a\"b\\c\n", "address": server.address}
    assert value(samples, "vsproxy_server_up", **labels) == 1
