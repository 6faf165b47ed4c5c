"""Workloads: choosing a server, with the count of what it has in progress before and after the exchange."""

from __future__ import annotations

from collections import deque

from bench.instructions.workload import Step
from vsproxy.upstream.balancer import make_balancer
from vsproxy.upstream.server import Server

#: Exchanges in progress at any time, as with as many busy clients.
IN_PROGRESS = 64
WEIGHTS = (1, 2, 3, 5, 8)


def least_conn_2() -> Step:
    """As small as pools get."""
    return picking("least_conn", [1] * 2)


def least_conn_100() -> Step:
    """More servers than exchanges."""
    return picking("least_conn", [1] * 100)


def least_conn_1000() -> Step:
    """A pick has to cost the same among a thousand."""
    return picking("least_conn", [1] * 1000)


def weighted_round_robin() -> Step:
    """A hundred servers of five weights."""
    return picking("round_robin", [WEIGHTS[n % len(WEIGHTS)] for n in range(100)])


def picking(balance: str, weights: list[int]) -> Step:
    """Picks and acquires a server, and releases the one that was acquired `IN_PROGRESS` exchanges ago."""
    balancer = make_balancer(balance, False)
    balancer.rebuild(
        [
            Server("pool", f"10.0.{n >> 8}.{n & 255}:80", f"10.0.{n >> 8}.{n & 255}", 80, weight)
            for n, weight in enumerate(weights)
        ]
    )
    busy: deque[Server] = deque()

    def take() -> None:
        server = balancer.pick(0, None)
        assert server is not None
        balancer.acquire(server)
        busy.append(server)

    for _ in range(IN_PROGRESS):
        take()

    def step() -> None:
        take()
        balancer.release(busy.popleft())

    return step
