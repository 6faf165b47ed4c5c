"""Bars of scenarios, lines of what grows; SVG, so that they can be read at any size and compared as text."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import matplotlib as mpl
from matplotlib.figure import Figure

from bench.results import Results, ScenarioResult
from bench.verdicts import lines_of, points_of, values

_COLORS = {"vsproxy": "#d1495b", "nginx": "#2e8b57", "haproxy": "#30638e", "envoy": "#8e6bbf", "caddy": "#c9a227"}
_OTHER = "#777777"
# The same results give the same file.
_STEADY = {"svg.hashsalt": "bench", "svg.fonttype": "none"}


def plot_all(results: Results, directory: Path) -> list[Path]:
    """One file per scenario and line that has something to show, named after it."""
    found = []
    with mpl.rc_context(_STEADY):  # type: ignore[arg-type]
        for scenario in results.scenarios:
            if scenario.line is None and values(scenario):
                found.append(_save(_bars(scenario), directory / f"{scenario.name}.svg"))
        for line in lines_of(results):
            if points_of(results, line):
                found.append(_save(_lines(results, line), directory / f"growth-{line}.svg"))
    return found


def _save(figure: Figure, path: Path) -> Path:
    figure.savefig(path, metadata={"Date": None})
    return path


def _bars(scenario: ScenarioResult) -> Figure:
    figures = values(scenario)
    names = list(figures)
    middle = [median(figures[name]) for name in names]
    below = [value - min(figures[name]) for name, value in zip(names, middle, strict=True)]
    above = [max(figures[name]) - value for name, value in zip(names, middle, strict=True)]
    figure = Figure(figsize=(7, 0.45 * len(names) + 1.1), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(names, middle, xerr=[below, above], color=[_COLORS.get(name, _OTHER) for name in names])
    axes.bar_label(bars, fmt="{:,.2f}", padding=6)
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.set_title(scenario.title, fontsize=11)
    axes.set_xlabel(f"{scenario.heading}; least to most of the rounds")
    return figure


def _lines(results: Results, line: str) -> Figure:
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    ticks: set[int] = set()
    for name, points in points_of(results, line).items():
        xs = [x for x, _ in points]
        ticks.update(xs)
        axes.plot(xs, [y for _, y in points], marker="o", label=name, color=_COLORS.get(name, _OTHER))
    axes.set_xscale("log")
    axes.set_xticks(sorted(ticks), [f"{tick:,}" for tick in sorted(ticks)])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set_xlabel(line)
    axes.set_ylabel(next(scenario.heading for scenario in results.scenarios if scenario.line == line))
    axes.set_title(f"Growth: {line}", fontsize=11)
    axes.legend()
    return figure
