"""Servers and balancers for the tests about choosing."""

from __future__ import annotations

import random

from vsproxy.upstream.balancer import Balancer, RandomOfTwo, hash_key, make_balancer
from vsproxy.upstream.server import Server

KEYS = [hash_key(b"%d" % number) for number in range(2000)]


def make_servers(weights: list[int], backup: bool = False, limit: int = 0) -> list[Server]:
    letter = "z" if backup else "s"
    return [
        Server("pool", f"{letter}{n}:80", f"10.0.0.{n}", 80, weight, backup, limit)
        for n, weight in enumerate(weights)
    ]


def balancer_of(balance: str, servers: list[Server], consistent: bool = True) -> Balancer:
    balancer = make_balancer(balance, consistent)
    for group in (balancer.primaries, balancer.backups):
        if isinstance(group, RandomOfTwo):
            group.random = random.Random(4)
    balancer.rebuild(servers)
    return balancer


def owners(balancer: Balancer) -> list[Server | None]:
    return [balancer.pick(key, None) for key in KEYS]
