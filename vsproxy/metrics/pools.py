"""The metrics of pools: what clients saw of them, and who has to wait."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from vsproxy.metrics.families import Family, Table, label_text
from vsproxy.metrics.servers import by_class
from vsproxy.metrics.sources import PoolSource
from vsproxy.upstream.server import STATE_NAMES


def pool_families(pools: Mapping[str, PoolSource]) -> Iterator[Family]:
    """Every metric with the label pool and none of a server."""
    table = Table[PoolSource]("vsproxy_pool", [(label_text(pool=name), pool) for name, pool in pools.items()])
    yield table.counter_by(
        "code", "responses", "Exchanges that are over by the class of status that clients got.",
        lambda pool: by_class(pool.statuses),
    )  # fmt: skip
    yield table.histogram(
        "exchange_duration_seconds", "Exchanges that are no tunnels, from head to last byte.",
        lambda pool: pool.duration, empty=True,
    )  # fmt: skip
    yield table.gauge("queued_exchanges", "Exchanges that wait for a server.", lambda pool: pool.queued)
    yield table.counter(
        "queue_timeouts", "Exchanges that waited longer than queue_timeout.", lambda pool: pool.queue_timeouts
    )
    yield table.counter(
        "no_server", "Exchanges answered 503: no server, a full queue, or too long in it.", lambda pool: pool.no_server
    )
    yield table.gauge_by("state", "servers", "Servers by state.", servers_by_state)


def servers_by_state(pool: PoolSource) -> dict[str, int]:
    """How many servers are in each state; all states."""
    found = dict.fromkeys(STATE_NAMES, 0)
    for server in tuple(pool.servers):
        found[server.state_name] += 1
    return found
