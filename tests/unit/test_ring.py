"""Choosing by hash: stable over processes and restarts, and over servers that come and go."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.balancing import KEYS, balancer_of, make_servers, owners
from vsproxy.upstream.balancer import Ring, hash_key


def test_a_hash_is_the_same_in_every_process() -> None:
    assert hash_key(b"192.0.2.1") == 0x11288B28CEFA74C8
    assert len({key >> 56 for key in KEYS}) == 256


@given(size=st.integers(2, 30), gone=st.integers(0, 29), weight=st.integers(1, 5))
@settings(max_examples=20, deadline=None)
def test_a_server_that_leaves_the_ring_moves_only_its_own_keys(size: int, gone: int, weight: int) -> None:
    servers = make_servers([1 + n % weight for n in range(size)])
    balancer = balancer_of("hash", servers)
    before = owners(balancer)
    leaving = servers[gone % size]
    balancer.rebuild([server for server in servers if server is not leaving])
    for old, new in zip(before, owners(balancer), strict=True):
        assert new is old or old is leaving
    balancer.rebuild(servers)
    assert owners(balancer) == before


def test_a_server_that_joins_the_ring_takes_only_its_share() -> None:
    servers = make_servers([1] * 10)
    balancer = balancer_of("hash", servers[:9])
    before = owners(balancer)
    balancer.rebuild(servers)
    moved = [(old, new) for old, new in zip(before, owners(balancer), strict=True) if old is not new]
    assert {new for _, new in moved} == {servers[9]}
    assert len(moved) / len(KEYS) == pytest.approx(0.1, abs=0.04)


def test_rings_built_in_another_order_agree() -> None:
    servers = make_servers([2, 1, 3, 1])
    one = [server and server.name for server in owners(balancer_of("hash", servers))]
    other = [server and server.name for server in owners(balancer_of("hash", servers[::-1]))]
    assert sum(a != b for a, b in zip(one, other, strict=True)) <= 2


def test_all_down_but_one_and_back_leaves_the_ring_as_it_was() -> None:
    servers = make_servers([1] * 900 + [1000] * 5)
    balancer = balancer_of("hash", servers)
    before = owners(balancer)
    for few in (servers[900:], servers[:1], []):
        balancer.rebuild(few)
    balancer.rebuild(servers)
    assert owners(balancer) == before


def test_a_ring_that_outgrows_its_bound_is_thinned() -> None:
    servers = make_servers([1] * 300)
    balancer = balancer_of("hash", servers[:1])
    balancer.rebuild(servers)
    ring = balancer.primaries
    assert isinstance(ring, Ring)
    assert len(ring.points) <= 2 * ring.bound
    assert ring.points == sorted(ring.points)
    assert len(set(owners(balancer))) > 250


def test_small_keys_are_spread_too() -> None:
    balancer = balancer_of("hash", make_servers([1, 1, 1]))
    counts = Counter(balancer.pick(key, None) for key in range(300))
    assert all(50 < count < 150 for count in counts.values())
    assert len(counts) == 3


def test_a_key_returns_to_the_same_stand_in() -> None:
    servers = make_servers([1, 1, 1], limit=1)
    balancer = balancer_of("hash", servers)
    owner = balancer.pick(KEYS[0], None)
    assert owner is not None
    balancer.acquire(owner)
    stand_in = balancer.pick(KEYS[0], None)
    assert stand_in is not owner
    assert balancer.pick(KEYS[0], [owner]) is stand_in
    balancer.rebuild([server for server in servers if server is not owner])
    assert balancer.pick(KEYS[0], None) is stand_in


@given(weights=st.lists(st.integers(1, 5), min_size=2, max_size=6))
@settings(max_examples=20, deadline=None)
def test_the_ring_shares_by_weight(weights: list[int]) -> None:
    counts = Counter(server.name for server in owners(balancer_of("hash", make_servers(weights))) if server)
    for index, weight in enumerate(weights):
        assert counts[f"s{index}:80"] / len(KEYS) == pytest.approx(weight / sum(weights), abs=0.07)
