"""What a scrape says, read back with the parsers of prometheus_client."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import pytest
from prometheus_client import REGISTRY, Counter, Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from vsproxy.certificate_files import ChangeCounts
from vsproxy.histogram import BOUNDS, Histogram
from vsproxy.metrics import Metrics
from vsproxy.metrics.listeners import MAX_REASONS, bounded
from vsproxy.metrics.sources import ProcessSource, ReloadSource
from vsproxy.upstream.server import CHECKING, DOWN, DRAIN, MAINT, UP, Server

NO_RELOADS = ReloadSource(0, 0, True, 1700000000.0)


@dataclass
class FakePool:
    servers: Sequence[Server]
    secure: bool = False
    queued: int = 0
    queue_timeouts: int = 0
    no_server: int = 0
    statuses: list[int] = field(default_factory=lambda: [0] * 6)
    duration: Histogram = field(default_factory=Histogram)


@dataclass
class FakeStats:
    accepted: int = 0
    active: int = 0
    turned_away: int = 0
    handshakes: int = 0
    tls_failures: int = 0
    plain_on_tls: int = 0
    proxy_failures: int = 0
    bad_requests: dict[str, int] = field(default_factory=dict)
    paused: bool = False
    http2_connections: int = 0
    http2_events: dict[str, int] = field(default_factory=dict)
    certificates_refused: dict[str, int] = field(default_factory=dict)
    tls_cuts: dict[str, int] = field(default_factory=dict)


@dataclass
class FakeListener:
    address: str
    stats: FakeStats = field(default_factory=FakeStats)
    certificate_expiry: float | None = None
    crl_expiry: float | None = None
    certificates: dict[str, float] = field(default_factory=dict)


@dataclass
class FakeLog:
    written: int
    lost: int


@dataclass
class FakeProxy:
    pools: dict[str, FakePool] = field(default_factory=dict)
    listeners: list[FakeListener] = field(default_factory=list)
    access_log: FakeLog | None = None
    processes: list[ProcessSource] = field(default_factory=list)
    reloads: ReloadSource = NO_RELOADS
    certificates: dict[str, ChangeCounts] = field(default_factory=dict)


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


def by_label(samples: Samples, name: str, label: str, **labels: str) -> dict[str, float]:
    """The values of the series of `name` with `labels`, by the value of one more label."""
    found = {}
    for (metric, items), count in samples.items():
        rest = dict(items)
        if metric == name and rest.pop(label, None) is not None and rest == labels:
            found[dict(items)[label]] = count
    return found


def make_server(state: int = UP) -> Server:
    return Server("web", "app1:8080", "10.0.0.1", 8080, state=state)


def make_busy_server() -> Server:
    server = make_server()
    server.requests, server.retries, server.active = 10, 2, 3
    server.bytes_sent, server.bytes_received = 1000, 2**53 + 1
    server.statuses = [0, 1, 2, 3, 4, 5]
    server.failures = {"reset": 1}
    server.check_successes, server.check_failures = 7, 1
    server.changes = [1, 2, 3, 4, 5]
    server.idle = [object(), object()]
    return server


def test_everything_a_server_counts_is_there() -> None:
    samples = scrape(FakeProxy({"web": FakePool([make_busy_server()])}))
    expected = {
        "requests_total": 10, "retries_total": 2, "sent_bytes_total": 1000, "received_bytes_total": 2**53 + 1,
        "active_exchanges": 3, "idle_connections": 2, "up": 1,
    }  # fmt: skip
    assert {name: value(samples, f"vsproxy_server_{name}", **SERVER) for name in expected} == expected
    by_kind = {
        ("responses_total", "code"): {"1xx": 1, "2xx": 2, "3xx": 3, "4xx": 4, "5xx": 5},
        ("failures_total", "kind"): {"connect": 0, "timeout": 0, "reset": 1, "bad_response": 0},
        ("checks_total", "result"): {"passed": 7, "failed": 1},
        ("state_changes_total", "state"): {"up": 1, "down": 2, "checking": 3, "drain": 4, "maint": 5},
    }
    for (name, label), counts in by_kind.items():
        assert by_label(samples, f"vsproxy_server_{name}", label, **SERVER) == counts


@pytest.mark.parametrize(
    ("state", "name"),
    [(UP, "up"), (DOWN, "down"), (CHECKING, "checking"), (DRAIN, "drain"), (MAINT, "maint")],
)
def test_a_server_is_in_exactly_one_state(state: int, name: str) -> None:
    samples = scrape(FakeProxy({"web": FakePool([make_server(state)])}))
    one = {"up": 0, "down": 0, "checking": 0, "drain": 0, "maint": 0} | {name: 1}
    assert by_label(samples, "vsproxy_server_state", "state", **SERVER) == one
    assert by_label(samples, "vsproxy_pool_servers", "state", pool="web") == one
    assert value(samples, "vsproxy_server_up", **SERVER) == (state == UP)


# Histograms


@pytest.mark.parametrize(
    ("attribute", "name"),
    [
        ("first_byte", "vsproxy_server_first_byte_duration_seconds"),
        ("connect_time", "vsproxy_server_connect_duration_seconds"),
        ("check_time", "vsproxy_server_check_duration_seconds"),
    ],
)
def test_durations_of_a_server_are_cumulated_and_there_once_measured(attribute: str, name: str) -> None:
    server = make_server()
    proxy = FakeProxy({"web": FakePool([server])})
    assert not [metric for metric, _ in scrape(proxy) if metric.startswith(name)]
    for seconds in (0.001, 0.002, 0.3, 100.0):
        getattr(server, attribute).observe(seconds)
    samples = scrape(proxy)
    buckets = by_label(samples, f"{name}_bucket", "le", **SERVER)
    assert list(buckets) == [*(str(float(bound)) for bound in BOUNDS), "+Inf"]
    assert list(buckets.values()) == [1, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 4]
    assert value(samples, f"{name}_count", **SERVER) == 4
    assert value(samples, f"{name}_sum", **SERVER) == pytest.approx(100.303)


def test_the_durations_of_a_pool_are_there_from_the_start() -> None:
    samples = scrape(FakeProxy({"web": FakePool([])}))
    name = "vsproxy_pool_exchange_duration_seconds"
    assert set(by_label(samples, f"{name}_bucket", "le", pool="web").values()) == {0}
    assert value(samples, f"{name}_count", pool="web") == value(samples, f"{name}_sum", pool="web") == 0


# Pools, listeners


def test_pools() -> None:
    pool = FakePool([], queued=5, queue_timeouts=6, no_server=7, statuses=[0, 0, 3, 0, 0, 1])
    pool.duration.observe(0.2)
    samples = scrape(FakeProxy({"web": pool}))
    assert value(samples, "vsproxy_pool_queued_exchanges", pool="web") == 5
    assert value(samples, "vsproxy_pool_queue_timeouts_total", pool="web") == 6
    assert value(samples, "vsproxy_pool_no_server_total", pool="web") == 7
    assert value(samples, "vsproxy_pool_exchange_duration_seconds_bucket", pool="web", le="0.1") == 0
    assert value(samples, "vsproxy_pool_exchange_duration_seconds_bucket", pool="web", le="0.25") == 1
    codes = {"1xx": 0, "2xx": 3, "3xx": 0, "4xx": 0, "5xx": 1}
    assert by_label(samples, "vsproxy_pool_responses_total", "code", pool="web") == codes


def test_listeners() -> None:
    stats = FakeStats(
        9, 4, 3, 5, 1, 2, 6, {"missing Host": 3}, True, 6, {"stalled": 2}, {"expired": 6}, {"no_data": 7}
    )
    samples = scrape(
        FakeProxy(
            listeners=[FakeListener("127.0.0.1:80", stats, 1800000000.5, 1700000000.5), FakeListener("unix:/run/x")],
        )
    )
    expected = {
        "connections_total": 9, "active_connections": 4, "turned_away_connections_total": 3,
        "tls_handshakes_total": 5, "tls_failures_total": 1, "plain_on_tls_total": 2, "accept_paused": 1,
        "http2_connections_total": 6, "proxy_protocol_failures_total": 6,
        "certificate_expiry_timestamp_seconds": 1800000000.5,
        "client_crl_expiry_timestamp_seconds": 1700000000.5,
    }  # fmt: skip
    for name, count in expected.items():
        assert value(samples, f"vsproxy_listener_{name}", listener="127.0.0.1:80") == count
    reasons = by_label(samples, "vsproxy_listener_bad_requests_total", "reason", listener="127.0.0.1:80")
    assert reasons == {"missing Host": 3}
    events = by_label(samples, "vsproxy_listener_http2_events_total", "event", listener="127.0.0.1:80")
    assert events == {"stalled": 2}
    refused = by_label(samples, "vsproxy_listener_client_certificates_refused_total", "reason", listener="127.0.0.1:80")
    assert refused == {"expired": 6}
    cuts = by_label(samples, "vsproxy_listener_tls_cuts_total", "reason", listener="127.0.0.1:80")
    assert cuts == {"no_data": 7}
    assert value(samples, "vsproxy_listener_accept_paused", listener="unix:/run/x") == 0
    expiries = by_label(samples, "vsproxy_listener_certificate_expiry_timestamp_seconds", "listener")
    assert list(expiries) == ["127.0.0.1:80"]


def test_reasons_are_bounded() -> None:
    reasons = {f"reason {number}": 1 for number in range(MAX_REASONS + 10)}
    kept = bounded(reasons)
    assert len(kept) == MAX_REASONS + 1
    assert kept["other"] == 10
    assert bounded({"other": 2}) == {"other": 2}


# Processes, operation


def test_processes() -> None:
    before = time.time()
    samples = scrape(
        FakeProxy(
            processes=[
                ProcessSource("control", os.getpid(), restarts=2, heartbeat_age=30.0),
                ProcessSource("worker0", 0, restarts=5),
            ]
        )
    )
    assert by_label(samples, "vsproxy_process_up", "process") == {"control": 1, "worker0": 0}
    assert by_label(samples, "vsproxy_process_restarts_total", "process") == {"control": 2, "worker0": 5}
    (beat,) = by_label(samples, "vsproxy_process_heartbeat_timestamp_seconds", "process").values()
    assert before - 30 <= beat <= time.time() - 30
    for name in ("resident_memory_bytes", "proportional_memory_bytes", "open_fds", "max_fds"):
        figures = by_label(samples, f"vsproxy_process_{name}", "process")
        assert list(figures) == ["control"]
        assert figures["control"] > 0
    times = by_label(samples, "vsproxy_process_cpu_seconds_total", "mode", process="control")
    assert set(times) == {"user", "system"}
    assert times["user"] > 0
    started = value(samples, "vsproxy_process_start_time_seconds", process="control")
    assert before - 24 * 3600 < started < before


def test_reloads_and_the_log_and_the_build() -> None:
    proxy = FakeProxy(access_log=FakeLog(written=11, lost=12), reloads=ReloadSource(3, 1, False, 1700000000.25))
    samples = scrape(proxy)
    assert by_label(samples, "vsproxy_config_reloads_total", "result") == {"ok": 3, "refused": 1}
    assert value(samples, "vsproxy_config_last_reload_successful") == 0
    assert value(samples, "vsproxy_config_last_reload_timestamp_seconds") == 1700000000.25
    assert value(samples, "vsproxy_access_log_lines_total") == 11
    assert value(samples, "vsproxy_access_log_lost_lines_total") == 12
    (build,) = [dict(labels) for (name, labels) in samples if name == "vsproxy_build_info"]
    assert set(build) == {"version", "compiled"}
    assert build["compiled"] in ("true", "false")


def test_without_a_log_its_counts_are_zero() -> None:
    samples = scrape(FakeProxy())
    assert value(samples, "vsproxy_access_log_lines_total") == 0
    assert value(samples, "vsproxy_access_log_lost_lines_total") == 0


# The scrape as a whole


def make_full_proxy() -> FakeProxy:
    server = make_busy_server()
    for histogram in (server.first_byte, server.connect_time, server.check_time):
        histogram.observe(0.004)
    return FakeProxy(
        {"web": FakePool([server])},
        [FakeListener("[::1]:443", FakeStats(bad_requests={"chunk size": 1}), 1800000000.0)],
        FakeLog(1, 0),
        [ProcessSource("proxy", os.getpid(), 0, 0.1)],
    )


@pytest.mark.parametrize(
    "accept",
    [
        "application/openmetrics-text",
        "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.1",
        "text/html, Application/OpenMetrics-Text; version=nonsense",
    ],
)
def test_openmetrics_when_asked_for(accept: str) -> None:
    body, content_type = Metrics(make_full_proxy()).render(accept)
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    families = list(parse_openmetrics(body.decode()))
    samples = samples_of(families)
    assert value(samples, "vsproxy_server_requests_total", **SERVER) == 10
    kinds = {family.name: family.type for family in families}
    assert kinds["vsproxy_server_requests"] == "counter"
    assert kinds["vsproxy_build"] == "info"


def test_both_formats_say_the_same() -> None:
    """All but what the machine says anew each time."""
    proxy = make_full_proxy()
    plain = samples_of(parse_text(Metrics(proxy).render("")[0].decode()))
    opened = samples_of(parse_openmetrics(Metrics(proxy).render("application/openmetrics-text")[0].decode()))
    assert plain.keys() == opened.keys()
    for key in plain:
        if "process" not in key[0]:
            assert plain[key] == opened[key]


def test_every_family_says_what_it_is() -> None:
    for family in parse_text(Metrics(make_full_proxy()).render("")[0].decode()):
        assert family.type in ("counter", "gauge", "histogram"), family.name
        assert family.documentation.endswith(".") or not family.name.startswith("vsproxy_")


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


def test_two_proxies_do_not_meet_and_the_global_registry_stays_clean() -> None:
    first, second = make_server(), make_server()
    first.requests, second.requests = 1, 2
    for server in (first, second):
        samples = scrape(FakeProxy({"web": FakePool([server])}))
        assert value(samples, "vsproxy_server_requests_total", **SERVER) == server.requests
    assert not [family.name for family in REGISTRY.collect() if family.name.startswith("vsproxy")]


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text"])
def test_an_embedder_can_add_metrics_of_its_own(accept: str) -> None:
    metrics = Metrics(FakeProxy())
    Counter("shop_orders", "Orders.", registry=metrics.registry).inc(5)
    body = metrics.render(accept)[0].decode()
    samples = samples_of(parse_openmetrics(body) if accept else parse_text(body))
    assert value(samples, "shop_orders_total") == 5
    assert value(samples, "vsproxy_config_last_reload_successful") == 1


def test_names_from_the_configuration_are_escaped() -> None:
    name = "unix:/run/a\"b\\c\nd\\n"
    server = Server("p", name, name.removeprefix("unix:"), 0)
    proxy = FakeProxy({"p\\": FakePool([server])})
    labels = {"pool": "p\\", "server": name, "address": server.address}
    assert value(scrape(proxy), "vsproxy_server_up", **labels) == 1
    body = Metrics(proxy).render("application/openmetrics-text")[0].decode()
    assert value(samples_of(parse_openmetrics(body)), "vsproxy_server_up", **labels) == 1


def test_a_scrape_of_many_servers_takes_no_seconds() -> None:
    """2,000 servers with everything there is to say of them: a tenth of a second on an idle machine."""
    server = make_full_proxy().pools["web"].servers[0]
    servers = []
    for number in range(2000):
        one = Server("web", f"app{number}:80", f"10.0.{number // 256}.{number % 256}", 80)
        one.first_byte = one.connect_time = one.check_time = server.first_byte
        servers.append(one)
    metrics = Metrics(FakeProxy({"web": FakePool(servers)}))
    began = time.process_time()
    body, _ = metrics.render("application/openmetrics-text")
    assert time.process_time() - began < 1.0
    assert body.count(b"\n") > 2000 * 70


def test_certificates() -> None:
    listeners = [
        FakeListener("127.0.0.1:80"),
        FakeListener("127.0.0.1:443", certificates={"a.pem": 1800000000.5, 'b".pem': 1900000000.0}),
        FakeListener("127.0.0.1:444", certificates={"a.pem": 1800000000.5}),
    ]
    samples = scrape(
        FakeProxy(
            listeners=listeners,
            certificates={"a.pem": ChangeCounts(3, 2, "0123"), 'b".pem': ChangeCounts(1, 4)},
        )
    )
    name = "vsproxy_certificate_expiry_timestamp_seconds"
    assert by_label(samples, name, "certificate", listener="127.0.0.1:443") == {
        "a.pem": 1800000000.5,
        'b".pem': 1900000000.0,
    }
    assert by_label(samples, name, "listener", certificate="a.pem").keys() == {"127.0.0.1:443", "127.0.0.1:444"}
    name = "vsproxy_certificate_changes_total"
    assert by_label(samples, name, "result", certificate="a.pem") == {"ok": 3, "refused": 2}
    assert by_label(samples, name, "result", certificate='b".pem') == {"ok": 1, "refused": 4}
    assert by_label(samples, "vsproxy_certificate_up_to_date", "certificate") == {"a.pem": 0, 'b".pem': 1}
