"""What Prometheus may scrape: read from the live objects at the moment of the scrape, nothing is kept here.

Labels are pools, servers, addresses and listeners, so the number of series is bounded by the configuration
(and by the addresses that its names resolve to). Counters of an address start again from 0 when it has gone
and come back. Each `Metrics` has a registry of its own: two proxies in one process do not meet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Protocol

from prometheus_client import CollectorRegistry, ProcessCollector, exposition
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from vsproxy import timers

FAILURE_KINDS = ("connect", "timeout", "reset", "bad_response")
MAX_REASONS = 64
_OPENMETRICS = "application/openmetrics-text"
_TEXT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_generate_openmetrics: Callable[[Collector], bytes] = openmetrics.generate_latest
_CLASSES = ("1xx", "2xx", "3xx", "4xx", "5xx")
_STATES = ("up", "down", "checking", "drain", "maint")
_SERVER_LABELS = ("pool", "server", "address")


class ServerSource(Protocol):
    """What is read of a server; `vsproxy.upstream.server.Server` is one.

    `statuses` counts responses by the first digit of their status. `check_successes` and `check_failures`
    count the results of active checks.
    """

    name: str
    active: int
    idle: list[object]
    requests: int
    retries: int
    connect_count: int
    connect_seconds: float
    bytes_sent: int
    bytes_received: int
    statuses: list[int]
    failures: dict[str, int]
    check_successes: int
    check_failures: int

    @property
    def address(self) -> str:
        """`host:port`, `[v6]:port` or `unix:/path`."""

    @property
    def state_name(self) -> str:
        """up, down, checking, drain or maint."""


class PoolSource(Protocol):
    """What is read of a pool."""

    @property
    def servers(self) -> Sequence[ServerSource]:
        """Its servers as they are now."""

    @property
    def queued(self) -> int:
        """Exchanges that wait for a server."""

    @property
    def queue_timeouts(self) -> int:
        """Exchanges that waited in vain."""

    @property
    def no_server(self) -> int:
        """Exchanges answered 503 because no server was available."""


class ListenerCounts(Protocol):
    """What a listener counts; `bad_requests` by reason, all but `active` and `paused` only grow."""

    accepted: int
    active: int
    tls_failures: int
    plain_on_tls: int
    bad_requests: dict[str, int]
    paused: bool


class ListenerSource(Protocol):
    """What is read of a listener."""

    @property
    def address(self) -> str:
        """The bound address."""

    @property
    def stats(self) -> ListenerCounts:
        """Its live counts."""


class AccessLogSource(Protocol):
    """What is read of the access log, in lines."""

    @property
    def written(self) -> int:
        """Lines written."""

    @property
    def lost(self) -> int:
        """Lines that could not be written."""


class MetricsSource(Protocol):
    """Where the numbers come from: a proxy."""

    @property
    def pools(self) -> Mapping[str, PoolSource]:
        """By name."""

    @property
    def listeners(self) -> Sequence[ListenerSource]:
        """In the order of the configuration."""

    @property
    def access_log(self) -> AccessLogSource | None:
        """None: nothing is logged."""


class Metrics:
    """The metrics of one proxy. `registry` is open for an embedder's own collectors."""

    def __init__(self, source: MetricsSource) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.registry.register(LiveCollector(source))

    def render(self, accept: str) -> tuple[bytes, str]:
        """The text of a scrape and its content type: OpenMetrics if `accept` (the field's value) names it.

        Only reads, so it may run in another thread than the loop's.
        """
        kinds = [part.partition(";")[0].strip().lower() for part in accept.split(",")]
        if _OPENMETRICS in kinds:
            return _generate_openmetrics(self.registry), openmetrics.CONTENT_TYPE_LATEST
        return exposition.generate_latest(self.registry), _TEXT_TYPE


class LiveCollector(Collector):
    """Yields every metric of a source. Registers without a first collection: the source may not be ready."""

    def __init__(self, source: MetricsSource) -> None:
        self._source = source
        self._build = build_labels()

    def describe(self) -> Iterable[Metric]:
        """Nothing, which keeps `register` from calling `collect`."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """One family after the other."""
        pools = dict(self._source.pools)
        yield from server_counters(pools)
        yield from server_gauges(pools)
        yield from pool_metrics(pools)
        yield from listener_metrics(self._source.listeners)
        yield from access_log_metrics(self._source.access_log)
        yield InfoMetricFamily("vsproxy_build", "What is running.", value=self._build)


def servers_by_label(pools: Mapping[str, PoolSource]) -> dict[tuple[str, str, str], list[ServerSource]]:
    """Servers under their label values. An address that stands twice in a pool is one series, the sum."""
    found: dict[tuple[str, str, str], list[ServerSource]] = {}
    for name, pool in pools.items():
        for server in tuple(pool.servers):
            found.setdefault((name, server.name, server.address), []).append(server)
    return found


def server_counters(pools: Mapping[str, PoolSource]) -> Iterator[Metric]:
    """What servers count."""
    rows = servers_by_label(pools)
    plain: tuple[tuple[str, str, Callable[[ServerSource], float]], ...] = (
        ("requests", "Requests sent to the server.", lambda server: server.requests),
        ("retries", "Requests that failed here and were tried again.", lambda server: server.retries),
        ("connects", "Connections opened.", lambda server: server.connect_count),
        ("connect_seconds", "Time spent opening connections.", lambda server: server.connect_seconds),
        ("sent_bytes", "Bytes sent to the server.", lambda server: server.bytes_sent),
        ("received_bytes", "Bytes received from the server.", lambda server: server.bytes_received),
    )
    for name, text, read in plain:
        family = CounterMetricFamily(f"vsproxy_server_{name}", text, labels=_SERVER_LABELS)
        for labels, group in rows.items():
            family.add_metric(labels, sum(map(read, group)))
        yield family
    kinds: tuple[tuple[str, str, str, Callable[[ServerSource], Mapping[str, int]]], ...] = (
        ("responses", "Responses by class of status.", "code", responses_by_class),
        ("failures", "Failures by kind.", "kind", failures_by_kind),
        ("checks", "Active checks by result.", "result", checks_by_result),
    )
    for name, text, label, read_kinds in kinds:
        family = CounterMetricFamily(f"vsproxy_server_{name}", text, labels=(*_SERVER_LABELS, label))
        for labels, group in rows.items():
            for kind, count in summed(map(read_kinds, group)).items():
                family.add_metric((*labels, kind), count)
        yield family


def server_gauges(pools: Mapping[str, PoolSource]) -> Iterator[Metric]:
    """What servers are doing now."""
    active = GaugeMetricFamily(
        "vsproxy_server_active_exchanges", "Exchanges and tunnels in progress.", labels=_SERVER_LABELS
    )
    idle = GaugeMetricFamily(
        "vsproxy_server_idle_connections", "Connections kept for the next request.", labels=_SERVER_LABELS
    )
    up = GaugeMetricFamily(
        "vsproxy_server_up", "Whether the server is in state up.", labels=_SERVER_LABELS
    )
    state = GaugeMetricFamily(
        "vsproxy_server_state", "1 for the state the server is in.", labels=(*_SERVER_LABELS, "state")
    )
    for labels, group in servers_by_label(pools).items():
        active.add_metric(labels, sum(server.active for server in group))
        idle.add_metric(labels, sum(len(server.idle) for server in group))
        current = group[0].state_name
        up.add_metric(labels, current == "up")
        for name in _STATES:
            state.add_metric((*labels, name), name == current)
    yield from (active, idle, up, state)


def pool_metrics(pools: Mapping[str, PoolSource]) -> Iterator[Metric]:
    """What pools count beside their servers."""
    queued = GaugeMetricFamily(
        "vsproxy_pool_queued_exchanges", "Exchanges that wait for a server.", labels=("pool",)
    )
    timeouts = CounterMetricFamily(
        "vsproxy_pool_queue_timeouts", "Exchanges that waited longer than queue_timeout.", labels=("pool",)
    )
    no_server = CounterMetricFamily(
        "vsproxy_pool_no_server", "Exchanges answered 503 since no server was available.", labels=("pool",)
    )
    for name, pool in pools.items():
        queued.add_metric((name,), pool.queued)
        timeouts.add_metric((name,), pool.queue_timeouts)
        no_server.add_metric((name,), pool.no_server)
    yield from (queued, timeouts, no_server)


def listener_metrics(listeners: Sequence[ListenerSource]) -> Iterator[Metric]:
    """What happens on the side of the clients."""
    counters: tuple[tuple[str, str, Callable[[ListenerCounts], float]], ...] = (
        ("connections", "Connections accepted.", lambda stats: stats.accepted),
        ("tls_failures", "TLS handshakes that failed.", lambda stats: stats.tls_failures),
        ("plain_on_tls", "Plain HTTP requests on a TLS port.", lambda stats: stats.plain_on_tls),
    )
    gauges: tuple[tuple[str, str, Callable[[ListenerCounts], float]], ...] = (
        ("active_connections", "Connections open now.", lambda stats: stats.active),
        ("accept_paused", "1 while accepting waits for free descriptors.", lambda stats: stats.paused),
    )
    families: list[tuple[CounterMetricFamily | GaugeMetricFamily, Callable[[ListenerCounts], float]]] = [
        (CounterMetricFamily(f"vsproxy_listener_{name}", text, labels=("listener",)), read)
        for name, text, read in counters
    ]
    families += [
        (GaugeMetricFamily(f"vsproxy_listener_{name}", text, labels=("listener",)), read)
        for name, text, read in gauges
    ]
    for family, read in families:
        for listener in listeners:
            family.add_metric((listener.address,), read(listener.stats))
        yield family
    bad = CounterMetricFamily(
        "vsproxy_listener_bad_requests", "Requests refused as malformed.", labels=("listener", "reason")
    )
    for listener in listeners:
        for reason, count in bounded(dict(listener.stats.bad_requests)).items():
            bad.add_metric((listener.address, reason), count)
    yield bad


def access_log_metrics(log: AccessLogSource | None) -> Iterator[Metric]:
    """Lines written and lost."""
    yield CounterMetricFamily(
        "vsproxy_access_log_lines", "Lines of the access log written.", value=log.written if log else 0
    )
    yield CounterMetricFamily(
        "vsproxy_access_log_lost_lines", "Lines that could not be written.", value=log.lost if log else 0
    )


def build_labels() -> dict[str, str]:
    """The version ("source": run from a tree that is not installed), and whether hot modules are compiled."""
    try:
        installed = version("vsproxy")
    except PackageNotFoundError:
        installed = "source"
    return {"version": installed, "compiled": "false" if timers.__file__.endswith(".py") else "true"}


def responses_by_class(server: ServerSource) -> dict[str, int]:
    """`{"2xx": 17, ...}`, all five classes."""
    return dict(zip(_CLASSES, server.statuses[1:6], strict=True))


def failures_by_kind(server: ServerSource) -> dict[str, int]:
    """By kind; the known kinds are there from the start, at 0."""
    return dict.fromkeys(FAILURE_KINDS, 0) | server.failures


def checks_by_result(server: ServerSource) -> dict[str, int]:
    """Active checks that passed and failed."""
    return {"passed": server.check_successes, "failed": server.check_failures}


def summed(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """The counts of all, added key by key."""
    total: dict[str, int] = {}
    for one in counts:
        for key, count in one.items():
            total[key] = total.get(key, 0) + count
    return total


def bounded(reasons: Mapping[str, int]) -> dict[str, int]:
    """The first `MAX_REASONS` reasons; what is beyond is added up as `other`, so that labels stay few."""
    kept = dict(list(reasons.items())[:MAX_REASONS])
    rest = sum(reasons.values()) - sum(kept.values())
    if rest:
        kept["other"] = kept.get("other", 0) + rest
    return kept
