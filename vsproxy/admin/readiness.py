"""Whether the proxy should be given traffic, and why not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from vsproxy.config.model import Config
from vsproxy.metrics.sources import PoolSource

_USABLE_STATES = ("up", "checking")


class ReadinessSource(Protocol):
    """What readiness is made of: a proxy."""

    @property
    def ready(self) -> bool:
        """Its listeners are bound."""

    @property
    def draining(self) -> bool:
        """It is stopping."""

    @property
    def config(self) -> Config:
        """The configuration in force: its routes say which pools are needed."""

    @property
    def pools(self) -> Mapping[str, PoolSource]:
        """By name."""


def not_ready_reasons(source: ReadinessSource) -> list[str]:
    """Why no traffic should be sent here; empty when the proxy is ready.

    A pool that no route uses does not count. A server in state checking does: it is tried when none is up.
    """
    reasons = []
    if not source.ready:
        reasons.append("the listeners are not bound")
    if source.draining:
        reasons.append("the proxy is stopping")
    pools = source.pools  # once: it may be a sum over many processes, made when asked for
    for name in dict.fromkeys(route.pool for route in source.config.routes):
        pool = pools.get(name)
        if pool is None or not any(server.state_name in _USABLE_STATES for server in pool.servers):
            reasons.append(f"pool {name}: no server is up or checking")
    return reasons
