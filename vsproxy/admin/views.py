"""What the admin port says about live objects, as plain data for JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Protocol

from vsproxy.config.model import PoolConfig
from vsproxy.metrics.servers import by_class, failures_by_kind
from vsproxy.metrics.sources import PoolSource, ServerSource

Json = dict[str, object]


class ServerView(ServerSource, Protocol):
    """What is shown of a server beyond its metrics."""

    state_reason: str
    state_since: float
    weight: int
    backup: bool
    max_connections: int
    last_check: str


class PoolView(PoolSource, Protocol):
    """What is shown of a pool beyond its metrics."""

    @property
    def name(self) -> str:
        """Its name in the configuration."""

    @property
    def config(self) -> PoolConfig:
        """Its configuration."""

    @property
    def servers(self) -> Sequence[ServerView]:
        """Its servers as they are now."""


def pools_view(pools: Mapping[str, PoolView]) -> Json:
    """All pools, by name."""
    return {"pools": {name: pool_view(pool) for name, pool in pools.items()}}


def pool_view(pool: PoolView) -> Json:
    """One pool with its servers."""
    return {
        "name": pool.name,
        "balance": pool.config.balance,
        "responses": by_class(pool.statuses),
        "queued": pool.queued,
        "queue_timeouts": pool.queue_timeouts,
        "no_server": pool.no_server,
        "servers": [server_view(server) for server in pool.servers],
    }


def server_view(server: ServerView) -> Json:
    """One server: what it is, its state, what it does, what it has counted."""
    return {
        "name": server.name,
        "address": server.address,
        "state": server.state_name,
        "state_reason": server.state_reason,
        "state_since": rfc3339(server.state_since),
        "last_check": server.last_check,
        "weight": server.weight,
        "backup": server.backup,
        "max_connections": server.max_connections,
        "active": server.active,
        "idle_connections": len(server.idle),
        "requests": server.requests,
        "responses": by_class(server.statuses),
        "failures": failures_by_kind(server),
        "retries": server.retries,
        "checks": {"passed": server.check_successes, "failed": server.check_failures},
        "bytes_sent": server.bytes_sent,
        "bytes_received": server.bytes_received,
    }


def rfc3339(seconds: float) -> str | None:
    """Seconds since 1970 as UTC with milliseconds; None for 0, which is how "never" is kept."""
    if not seconds:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
