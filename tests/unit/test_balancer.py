"""Choosing a server: shares, order, limits, backups, least load, stable hashing, and what a pick costs."""

from __future__ import annotations

import time
from collections import Counter, deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.balancing import KEYS, balancer_of, make_servers, owners
from vsproxy.upstream.balancer import Balancer, make_balancer
from vsproxy.upstream.interleave import interleave
from vsproxy.upstream.least_conn import Bucket, LeastConn
from vsproxy.upstream.server import Server

POLICIES = [("round_robin", True), ("least_conn", True), ("random", True), ("hash", True), ("hash", False)]

every_policy = pytest.mark.parametrize(("balance", "consistent"), POLICIES)
weights_of_a_pool = st.lists(st.integers(1, 20), min_size=1, max_size=8)


def picks(balancer: Balancer, count: int) -> list[str]:
    """The names of `count` picks in a row, each finished before the next."""
    names = []
    for number in range(count):
        server = balancer.pick(KEYS[number % len(KEYS)], None)
        assert server is not None
        balancer.acquire(server)
        balancer.release(server)
        names.append(server.name)
    return names


# The order of turns


def test_five_one_one_is_interleaved() -> None:
    order = interleave([5, 1, 1])
    assert Counter(order) == {0: 5, 1: 1, 2: 1}
    twice = order + order
    assert all(twice[i : i + 4] != [0, 0, 0, 0] for i in range(len(twice) - 3)), order


@given(weights_of_a_pool)
def test_an_order_is_exact_over_a_period_and_smooth_inside_it(weights: list[int]) -> None:
    order = interleave(weights)
    counts = Counter(order)
    scale = sum(weights) / len(order)
    assert all(counts[index] * scale == weight for index, weight in enumerate(weights))
    seen: Counter[int] = Counter()
    for slot, index in enumerate(order, start=1):
        seen[index] += 1
        for other, weight in enumerate(weights):
            assert abs(seen[other] - slot * weight / sum(weights)) < 1


def test_an_order_is_bounded_and_leaves_nobody_out() -> None:
    weights = [1000 - n % 2 for n in range(1000)] + [1]
    order = interleave(weights)
    assert len(order) < 9 * len(weights)
    assert set(order) == set(range(len(weights)))


@given(st.lists(st.floats(0.05, 20), min_size=2, max_size=6))
def test_fractions_of_a_weight_are_honoured(weights: list[float]) -> None:
    order = interleave(weights)
    counts = Counter(order)
    for index, weight in enumerate(weights):
        assert counts[index] / len(order) == pytest.approx(weight / sum(weights), abs=0.005)


# Shares


@pytest.mark.parametrize("balance", ["round_robin", "least_conn"])
@given(weights=weights_of_a_pool)
def test_sequential_requests_are_shared_exactly_by_weight(balance: str, weights: list[int]) -> None:
    # least_conn sees only ties here; beyond the length of its look along the order it is still close.
    servers = make_servers(weights)
    period = len(interleave(weights))
    counts = Counter(picks(balancer_of(balance, servers), 3 * period))
    for server in servers:
        assert counts[server.name] == 3 * period * server.weight / sum(weights)


@pytest.mark.parametrize(
    ("balance", "consistent", "tolerance"), [("random", True, 0.05), ("hash", False, 0.03)]
)
def test_random_and_modulo_share_by_weight(balance: str, consistent: bool, tolerance: float) -> None:
    counts = Counter(picks(balancer_of(balance, make_servers([5, 3, 2]), consistent), 8000))
    for name, share in [("s0:80", 0.5), ("s1:80", 0.3), ("s2:80", 0.2)]:
        assert counts[name] / 8000 == pytest.approx(share, abs=tolerance)


@pytest.mark.parametrize("balance", ["round_robin", "least_conn"])
def test_a_starting_server_gets_a_fraction(balance: str) -> None:
    servers = make_servers([1, 1])
    servers[1].effective_weight = 0.25
    counts = Counter(picks(balancer_of(balance, servers), 1000))
    assert counts["s1:80"] == pytest.approx(200, abs=5)
    servers[1].effective_weight = 1.0
    balancer = balancer_of(balance, servers)
    assert Counter(picks(balancer, 1000)) == {"s0:80": 500, "s1:80": 500}


def test_random_takes_the_less_loaded_of_two() -> None:
    servers = make_servers([1, 1])
    balancer = balancer_of("random", servers)
    balancer.acquire(servers[0])
    assert set(picks(balancer, 50)) == {"s1:80"}
    balancer.acquire(servers[1])
    balancer.acquire(servers[1])
    assert set(picks(balancer, 50)) == {"s0:80"}


# Changes


@pytest.mark.parametrize("balance", ["round_robin", "least_conn"])
def test_the_turn_survives_a_rebuild(balance: str) -> None:
    servers = make_servers([1, 1, 1, 1])
    balancer = balancer_of(balance, servers)
    counts: Counter[str] = Counter()
    for _ in range(40):
        counts.update(picks(balancer, 1))
        balancer.rebuild(servers)
    assert set(counts.values()) == {10}


def test_when_the_next_leaves_its_successor_is_next() -> None:
    servers = make_servers([1, 1, 1, 1])
    balancer = balancer_of("round_robin", servers)
    assert picks(balancer, 1) == ["s0:80"]
    balancer.rebuild([servers[0], servers[2], servers[3]])
    assert picks(balancer, 3) == ["s2:80", "s3:80", "s0:80"]


@every_policy
def test_a_server_that_left_may_be_counted_and_come_back(balance: str, consistent: bool) -> None:
    servers = make_servers([1, 1], limit=1)
    balancer = balancer_of(balance, servers, consistent)
    for server in servers:
        balancer.acquire(server)
    balancer.rebuild(servers[:1])
    assert servers[1].position == -1
    balancer.release(servers[1])
    balancer.acquire(servers[1])
    balancer.release(servers[1])
    assert balancer.pick(KEYS[0], None) is None
    balancer.rebuild(servers)
    assert balancer.pick(KEYS[0], None) is servers[1]
    balancer.release(servers[0])
    assert [server.active for server in servers] == [0, 0]
    assert {server.name for server in owners(balancer) if server} == {"s0:80", "s1:80"}


@every_policy
def test_counting_for_a_server_that_left_does_not_bring_it_back(balance: str, consistent: bool) -> None:
    servers = make_servers([1, 1], limit=9)
    balancer = balancer_of(balance, servers, consistent)
    balancer.rebuild(servers[:1])
    balancer.acquire(servers[1])
    assert balancer.pick(KEYS[0], servers[:1]) is None
    balancer.release(servers[1])
    assert balancer.pick(KEYS[0], servers[:1]) is None


@every_policy
def test_an_empty_pool_has_nothing(balance: str, consistent: bool) -> None:
    balancer = make_balancer(balance, consistent)
    assert balancer.pick(KEYS[0], None) is None
    balancer.rebuild([])
    assert balancer.pick(KEYS[0], []) is None


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(ValueError, match="no balancing policy is named 'fastest'"):
        make_balancer("fastest", True)


# Whatever happens: full, tried, backups


@every_policy
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_pick_is_never_full_nor_tried_and_fails_only_if_all_are(
    balance: str, consistent: bool, data: st.DataObject
) -> None:
    servers = make_servers(data.draw(weights_of_a_pool), limit=2)
    servers += make_servers(data.draw(st.lists(st.integers(1, 20), max_size=3)), backup=True, limit=2)
    balancer = balancer_of(balance, servers, consistent)
    present = list(servers)
    held: list[Server] = []
    for _ in range(data.draw(st.integers(5, 60))):
        action = data.draw(st.sampled_from(["pick", "pick", "pick", "release", "rebuild"]))
        if action == "pick":
            tried = data.draw(st.lists(st.sampled_from(servers), max_size=4, unique_by=id))
            server = balancer.pick(data.draw(st.sampled_from(KEYS)), tried or None)
            allowed = [one for one in present if not one.is_full() and one not in tried]
            primaries = [one for one in allowed if not one.backup]
            assert (server is None) == (not allowed)
            if server is not None:
                assert server in (primaries or allowed)
                balancer.acquire(server)
                held.append(server)
        elif action == "release" and held:
            balancer.release(held.pop(data.draw(st.integers(0, len(held) - 1))))
        elif action == "rebuild":
            present = [server for server in servers if data.draw(st.booleans())]
            balancer.rebuild(present)
    assert sum(server.active for server in servers) == len(held)


@every_policy
def test_one_open_server_among_a_thousand_full_ones_is_found(balance: str, consistent: bool) -> None:
    servers = make_servers([3] * 1000, limit=1)
    balancer = balancer_of(balance, servers, consistent)
    for server in servers:
        balancer.acquire(server)
    assert balancer.pick(KEYS[0], None) is None
    balancer.release(servers[617])
    assert owners(balancer)[:50] == [servers[617]] * 50
    assert balancer.pick(KEYS[0], [servers[617]]) is None


@every_policy
def test_backups_stand_in_and_give_back(balance: str, consistent: bool) -> None:
    primary = make_servers([1, 1])
    backup = make_servers([1, 1], backup=True)
    balancer = balancer_of(balance, primary + backup, consistent)
    assert set(picks(balancer, 100)) == {"s0:80", "s1:80"}
    tried = balancer.pick(KEYS[0], primary)
    assert tried is not None
    assert tried.backup
    balancer.rebuild(backup)
    assert set(picks(balancer, 100)) == {"z0:80", "z1:80"}
    balancer.rebuild(primary + backup)
    assert set(picks(balancer, 100)) == {"s0:80", "s1:80"}


# least_conn


def servers_in(bucket: Bucket) -> list[Server]:
    """From the first to the last, and the same backwards."""
    found = []
    before, server = None, bucket.first
    while server is not None:
        assert server.before is before
        assert server.bucket is bucket
        found.append(server)
        before, server = server, server.after
    assert bucket.last is before
    return found


def assert_sound(group: LeastConn) -> None:
    """Every member that is not full is in the one bucket of its score, and every bucket in use on the heap."""
    placed = [server for bucket in group.buckets.values() for server in servers_in(bucket)]
    assert sorted(map(id, placed)) == sorted(id(server) for server in group.members if not server.is_full())
    for score, bucket in group.buckets.items():
        assert bucket.score == score
        assert all(score == server.active / server.effective_weight for server in servers_in(bucket))
        assert bucket.place >= 0 or bucket.first is None
        for hint in (bucket.above, bucket.below):
            assert hint is None or group.buckets[hint.score] is hint
    assert all(bucket.place == place for place, bucket in enumerate(group.heap))
    scores = [bucket.score for bucket in group.heap]
    assert all(scores[(index - 1) // 2] <= score for index, score in enumerate(scores) if index)


@given(data=st.data(), weights=weights_of_a_pool, limit=st.sampled_from([0, 0, 3]))
@settings(max_examples=80, deadline=None)
def test_least_conn_is_always_minimal(data: st.DataObject, weights: list[int], limit: int) -> None:
    servers = make_servers(weights, limit=limit)
    balancer = balancer_of("least_conn", servers)
    group = balancer.primaries
    assert isinstance(group, LeastConn)
    held: list[Server] = []
    for release in data.draw(st.lists(st.booleans(), max_size=60)):
        if release and held:
            balancer.release(held.pop(data.draw(st.integers(0, len(held) - 1))))
        else:
            tried = data.draw(st.lists(st.sampled_from(servers), max_size=2, unique_by=id))
            server = balancer.pick(0, tried)
            rest = [one.active / one.weight for one in servers if not one.is_full() and one not in tried]
            assert (server is None) == (not rest)
            if server is not None:
                assert server.active / server.weight == min(rest)
                balancer.acquire(server)
                held.append(server)
        assert_sound(group)


def test_least_conn_does_not_grow_with_time() -> None:
    servers = make_servers([7, 11, 13])
    balancer = balancer_of("least_conn", servers)
    group = balancer.primaries
    assert isinstance(group, LeastConn)
    for depth in range(1, 300):
        for _ in range(depth):
            balancer.acquire(servers[1])
        for _ in range(depth):
            balancer.release(servers[1])
    assert len(group.buckets) <= 4 * len(servers) + 65
    assert_sound(group)


def test_a_slow_server_is_spared() -> None:
    servers = make_servers([1, 1, 1])
    balancer = balancer_of("least_conn", servers)
    for _ in range(10):
        balancer.acquire(servers[0])
    assert Counter(picks(balancer, 20)) == {"s1:80": 10, "s2:80": 10}


# What it costs


def seconds_per_turn(balancer: Balancer, in_flight: int) -> float:
    """The quickest of many rounds of pick, acquire and release, with `in_flight` exchanges held."""
    held: deque[Server] = deque()

    def take(key: int) -> None:
        server = balancer.pick(key, None)
        assert server is not None
        balancer.acquire(server)
        held.append(server)

    for key in KEYS[:in_flight]:
        take(key)
    best = float("inf")
    keys = KEYS[:200]
    for _ in range(40):
        begin = time.perf_counter()
        for key in keys:
            take(key)
            balancer.release(held.popleft())
        best = min(best, time.perf_counter() - begin)
    return best


@every_policy
@pytest.mark.parametrize("in_flight", [0, 1500])
def test_a_thousand_servers_cost_what_two_cost(balance: str, consistent: bool, in_flight: int) -> None:
    ratios = []
    for _ in range(4):
        few = seconds_per_turn(balancer_of(balance, make_servers([5, 4]), consistent), in_flight)
        many = seconds_per_turn(balancer_of(balance, make_servers([5, 4] * 500), consistent), in_flight)
        ratios.append(many / few)
        if ratios[-1] <= 2.0:
            break
    assert min(ratios) <= 2.0, ratios


@pytest.mark.parametrize("policy", ["round_robin", "least_conn", "random", "hash"])
def test_a_backup_that_becomes_a_primary_has_its_place(policy: str) -> None:
    balancer = make_balancer(policy, True)
    servers = [Server("p", f"s{number}:80", f"10.0.0.{number}", 80, max_connections=1) for number in range(3)]
    servers[2].backup = True
    balancer.rebuild(servers)
    for backup in (False, True, False):
        servers[2].backup = backup
        balancer.acquire(servers[2])
        balancer.rebuild(servers)
        assert all(group.holds(s) for s in servers for group in [balancer.backups if s.backup else balancer.primaries])
        balancer.release(servers[2])
        # Free again: it can be chosen when the others are tried.
        assert balancer.pick(1, servers[:2]) is servers[2]
