"""Targets beside what was found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from statistics import median

from bench.peers.vsproxy import NAME as OURS
from bench.results import Results, ScenarioResult
from bench.statistics import best, ratios, spread
from bench.targets import ABSOLUTES, RATIOS, RIVALS, STEEPNESS, Absolute, Steepness, Target


class Mark(StrEnum):
    """How a target stands."""

    AIM = "aim met"
    GATE = "met"
    MISSED = "missed"
    OPEN = "not measured"


@dataclass(frozen=True)
class Verdict:
    """`value` is None where it was not measured."""

    scenario: str
    what: str
    value: float | None
    gate: float
    aim: float
    mark: Mark


def mark(value: float | None, gate: float, aim: float) -> Mark:
    """Less is better; equal is met."""
    if value is None:
        return Mark.OPEN
    if value <= aim:
        return Mark.AIM
    return Mark.GATE if value <= gate else Mark.MISSED


def verdicts(results: Results) -> list[Verdict]:
    """Of every target whose scenario is in `results`."""
    found: list[Verdict] = []
    for scenario in results.scenarios:
        found += [_ratio(scenario, target) for target in RATIOS.get(scenario.name, ())]
        if scenario.name in ABSOLUTES:
            found.append(_absolute(scenario, ABSOLUTES[scenario.name]))
    for name in lines_of(results):
        found.append(_steepness(results, name, STEEPNESS))
    return found


def values(scenario: ScenarioResult) -> dict[str, list[float]]:
    """Round by round, of the proxies that count."""
    return {
        name: [sample.value for sample in result.samples] for name, result in scenario.proxies.items() if result.counts
    }


def lines_of(results: Results) -> list[str]:
    """Names of the lines, in order."""
    return list(dict.fromkeys(scenario.line for scenario in results.scenarios if scenario.line))


def points_of(results: Results, line: str) -> dict[str, list[tuple[int, float]]]:
    """Of each proxy: x and the median, by x."""
    found: dict[str, list[tuple[int, float]]] = {}
    for scenario in results.scenarios:
        if scenario.line == line and scenario.x is not None:
            for name, figures in values(scenario).items():
                found.setdefault(name, []).append((scenario.x, median(figures)))
    return {name: sorted(points) for name, points in found.items()}


def _ratio(scenario: ScenarioResult, target: Target) -> Verdict:
    figures = values(scenario)
    rival = best({name: found for name, found in figures.items() if name in target.against})
    found = spread(ratios(figures[OURS], figures[rival])) if rival and OURS in figures else None
    value = found.median if found else None
    against = rival or " or ".join(target.against)
    return _verdict(scenario.name, f"ratio to {against}", value, target)


def _absolute(scenario: ScenarioResult, target: Absolute) -> Verdict:
    figures = values(scenario)
    value = median(figures[OURS]) if OURS in figures else None
    return _verdict(scenario.name, scenario.heading, value, target)


def _verdict(scenario: str, what: str, value: float | None, target: Target | Absolute) -> Verdict:
    return Verdict(scenario, what, value, target.gate, target.aim, mark(value, target.gate, target.aim))


def _steepness(results: Results, line: str, target: Steepness) -> Verdict:
    """Of those who were measured at both ends: half a line may look flat."""
    first, last = (values(scenario) for scenario in _ends(results, line))
    steeper = [more for rival in RIVALS if (more := _steeper(first, last, rival)) is not None]
    what = "growth, over that of the flattest of nginx and HAProxy"
    if not steeper:
        return Verdict(f"{line} (line)", what, None, target.gate, target.aim, Mark.OPEN)
    value = max(steeper)
    met = Mark.GATE if value <= target.gate else Mark.MISSED
    ours = median(last[OURS]) / median(first[OURS])
    verdict = Mark.AIM if met is Mark.GATE and ours <= target.aim else met
    return Verdict(f"{line} (line)", what, value, target.gate, target.aim, verdict)


def _steeper(first: Mapping[str, list[float]], last: Mapping[str, list[float]], rival: str) -> float | None:
    """Our growth over the rival's, None if one was not measured at both ends.

    Of ratios round by round, like all others: both ends are minutes apart, and the machine may be another by then.
    """
    if not all(figures.get(name) for figures in (first, last) for name in (OURS, rival)):
        return None
    before, after = (spread(ratios(figures[OURS], figures[rival])) for figures in (first, last))
    return after.median / before.median if before and after else None


def _ends(results: Results, line: str) -> tuple[ScenarioResult, ScenarioResult]:
    points = {one.x: one for one in results.scenarios if one.line == line and one.x is not None}
    return points[min(points)], points[max(points)]
