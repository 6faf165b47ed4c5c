"""The metrics of servers. Labels: the pool, the server as configured, the address that it stands for now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from vsproxy.metrics.families import Family, Table, label_text
from vsproxy.metrics.sources import PoolSource, ServerSource
from vsproxy.upstream.server import FAILURE_KINDS, STATE_NAMES

CLASSES = ("1xx", "2xx", "3xx", "4xx", "5xx")


def server_families(pools: Mapping[str, PoolSource]) -> Iterator[Family]:
    """Every metric with the labels pool, server and address."""
    table = _table(pools)
    yield from _traffic(table)
    yield from _state(table)
    yield from _durations(table)
    secure = {name: pool for name, pool in pools.items() if pool.secure}
    if secure:
        yield from _tls(_table(secure))


def _table(pools: Mapping[str, PoolSource]) -> Table[ServerSource]:
    return Table[ServerSource](
        "vsproxy_server",
        [
            (label_text(pool=name, server=server.name, address=server.address), server)
            for name, pool in pools.items()
            for server in tuple(pool.servers)
        ],
    )


def _traffic(table: Table[ServerSource]) -> Iterator[Family]:
    yield table.counter("requests", "Requests sent to the server.", lambda server: server.requests)
    yield table.counter_by(
        "code",
        "responses",
        "Responses of the server by class of status.",
        lambda server: by_class(server.statuses),
    )
    yield table.counter(
        "retries", "Requests that failed here and looked for another server.", lambda server: server.retries
    )
    yield table.counter_by("kind", "failures", "Failures that traffic met, by kind.", failures_by_kind)
    yield table.counter("sent_bytes", "Bytes sent to the server.", lambda server: server.bytes_sent)
    yield table.counter(
        "received_bytes", "Bytes received from the server.", lambda server: server.bytes_received
    )
    yield table.gauge("active_exchanges", "Exchanges and tunnels in progress.", lambda server: server.active)
    yield table.gauge(
        "idle_connections", "Connections kept for the next request.", lambda server: len(server.idle)
    )


def _state(table: Table[ServerSource]) -> Iterator[Family]:
    yield table.gauge(
        "up", "1 if the server is in state up, else 0.", lambda server: server.state_name == "up"
    )
    yield table.gauge_by(
        "state", "state", "1 for the state that the server is in, 0 for the others.",
        lambda server: {name: name == server.state_name for name in STATE_NAMES},
    )  # fmt: skip
    yield table.counter_by(
        "state", "state_changes", "How often the server entered the state.",
        lambda server: dict(zip(STATE_NAMES, server.changes, strict=True)),
    )  # fmt: skip
    yield table.counter_by(
        "result", "checks", "Active checks by result.",
        lambda server: {"passed": server.check_successes, "failed": server.check_failures},
    )  # fmt: skip


def _durations(table: Table[ServerSource]) -> Iterator[Family]:
    """Where nothing was measured there is no histogram: its zeros would be most of a scrape."""
    yield table.histogram(
        "first_byte_duration_seconds", "From the sending of a request to the head of its response.",
        lambda server: server.first_byte, empty=False,
    )  # fmt: skip
    yield table.histogram(
        "connect_duration_seconds", "Opening a connection.",
        lambda server: server.connect_time, empty=False,
    )  # fmt: skip
    yield table.histogram(
        "check_duration_seconds", "Active checks, whatever their result.",
        lambda server: server.check_time, empty=False,
    )  # fmt: skip


def _tls(table: Table[ServerSource]) -> Iterator[Family]:
    """Of pools that speak TLS to their servers."""
    yield table.counter(
        "tls_handshakes", "TLS handshakes with the server that were completed.", lambda server: server.tls_handshakes
    )
    yield table.counter(
        "tls_resumed", "Those of them that went on with an earlier session.", lambda server: server.tls_resumed
    )
    yield table.counter(
        "tls_failures",
        "Connections that did not come to TLS, such as for a bad certificate, or that broke its rules.",
        lambda server: server.tls_failures,
    )


def by_class(statuses: Sequence[int]) -> dict[str, int]:
    """`{"2xx": 17, ...}`, all five classes, from counts whose index is the class."""
    return dict(zip(CLASSES, statuses[1:6], strict=True))


def failures_by_kind(server: ServerSource) -> dict[str, int]:
    """By kind; the known kinds are there from the start, at 0."""
    return dict.fromkeys(FAILURE_KINDS, 0) | server.failures
