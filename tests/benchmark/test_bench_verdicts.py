"""Targets, met and missed."""

from __future__ import annotations

import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.catalogue import all_scenarios, full_scale, quick_scale
from bench.results import ProxyResult, Results
from bench.targets import ABSOLUTES, RATIOS
from bench.verdicts import Mark, Verdict, mark, verdicts
from support.bench_results import measured, results, scenario

positive = st.floats(min_value=0.01, max_value=100)


def only(found: Results, what: str = "") -> Verdict:
    (verdict,) = [one for one in verdicts(found) if fnmatch.fnmatch(one.what, what or "*")]
    return verdict


@given(positive, positive, positive)
def test_less_is_better_and_equal_is_met(value: float, one: float, other: float) -> None:
    aim, gate = sorted((one, other))
    found = mark(value, gate, aim)
    assert (found in (Mark.AIM, Mark.GATE)) == (value <= gate)
    assert (found is Mark.AIM) == (value <= aim)
    assert mark(gate, gate, aim) is not Mark.MISSED


def test_the_rival_is_the_better_one_of_the_two() -> None:
    found = only(
        results(
            scenario(
                "tls-full",
                vsproxy=measured(12, 12, 12),
                nginx=measured(20, 20, 20),
                haproxy=measured(10, 10, 10),
                envoy=measured(1, 1, 1),
            )
        )
    )
    assert found.what == "ratio to haproxy"
    assert found.value == pytest.approx(1.2)
    assert found.mark is Mark.GATE


def test_a_disturbed_round_does_not_decide() -> None:
    """Twice as slow for both in one round, and for one of them in another."""
    found = only(results(scenario("tls-keepalive", vsproxy=measured(10, 20, 10), nginx=measured(10, 20, 5))))
    assert found.value == pytest.approx(1.0)
    assert found.mark is Mark.GATE


@pytest.mark.parametrize("missing", [ProxyResult(skipped="not installed"), ProxyResult(void="a wrong byte")])
def test_what_is_missing_or_void_is_not_measured(missing: ProxyResult) -> None:
    without_rival = only(results(scenario("upload", vsproxy=measured(1), nginx=missing, haproxy=missing)))
    assert (without_rival.value, without_rival.mark) == (None, Mark.OPEN)
    without_us = only(results(scenario("upload", vsproxy=missing, nginx=measured(1))))
    assert (without_us.value, without_us.mark) == (None, Mark.OPEN)


def test_a_void_result_with_samples_does_not_count() -> None:
    void = measured(0.1, 0.1)
    void.void = "a wrong byte"
    assert only(results(scenario("upload", vsproxy=void, nginx=measured(1, 1)))).mark is Mark.OPEN


def test_envoy_and_caddy_have_targets_of_their_own() -> None:
    found = verdicts(
        results(
            scenario(
                "keepalive-browser", vsproxy=measured(10), nginx=measured(9), envoy=measured(30), caddy=measured(15)
            )
        )
    )
    assert [(one.what, one.mark) for one in found] == [
        ("ratio to nginx", Mark.MISSED),
        ("ratio to envoy", Mark.AIM),
        ("ratio to caddy", Mark.MISSED),
    ]


def test_memory_is_held_against_a_figure() -> None:
    assert only(results(scenario("idle-keepalive", vsproxy=measured(2.9)))).mark is Mark.GATE
    assert only(results(scenario("idle-keepalive", vsproxy=measured(3.1)))).mark is Mark.MISSED


def line(**ends: tuple[float, float]) -> Results:
    first = {name: measured(low) for name, (low, _) in ends.items()}
    last = {name: measured(high) for name, (_, high) in ends.items()}
    return results(scenario("servers-2", "servers", 2, **first), scenario("servers-9", "servers", 9, **last))


@pytest.mark.parametrize(
    ("ours", "value", "expected"),
    [((50, 60), 1.2 / 1.5, Mark.GATE), ((50, 51), 1.02 / 1.5, Mark.AIM), ((10, 17), 1.7 / 1.5, Mark.MISSED)],
)
def test_steepness_is_relative_to_the_flattest_rival(ours: tuple[float, float], value: float, expected: Mark) -> None:
    found = only(line(vsproxy=ours, nginx=(10, 30), haproxy=(10, 15), envoy=(10, 10)))
    assert found.value == pytest.approx(value)
    assert found.mark is expected


def test_a_machine_that_is_slower_at_one_end_makes_no_line_steeper() -> None:
    first = {"vsproxy": measured(10, 10, 20), "nginx": measured(10, 10, 20)}
    last = {"vsproxy": measured(24, 12, 24), "nginx": measured(20, 10, 20)}
    found = results(scenario("servers-2", "servers", 2, **first), scenario("servers-9", "servers", 9, **last))
    assert only(found).value == pytest.approx(1.2)


def test_half_a_line_is_not_compared() -> None:
    found = line(vsproxy=(10, 20), nginx=(10, 20))
    found.scenarios.insert(1, scenario("servers-5", "servers", 5, vsproxy=measured(10), nginx=measured(20)))
    del found.scenarios[2].proxies["vsproxy"]
    assert only(found).mark is Mark.OPEN


@pytest.mark.parametrize("scale", [full_scale(30_000), quick_scale(30_000)])
def test_every_target_has_its_scenario(scale: object) -> None:
    scenarios = all_scenarios(scale)  # type: ignore[arg-type]
    names = [one.name for one in scenarios]
    assert len(set(names)) == len(names)
    assert {*RATIOS, *ABSOLUTES} <= set(names)
    assert {one.line.name for one in scenarios if one.line} == {"servers", "routes", "connections", "workers"}
    assert all(target.aim <= target.gate for targets in RATIOS.values() for target in targets)
