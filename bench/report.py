"""The report in Markdown, and `python -m bench.report results.json` to make it and the plots again."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median

from bench.errors import BenchError
from bench.peers.vsproxy import NAME as OURS
from bench.plots import plot_all
from bench.results import ProxyResult, Results, Sample, ScenarioResult, load
from bench.statistics import Spread, best, ratios, spread
from bench.verdicts import lines_of, points_of, values, verdicts

_BUSY = 0.95
_COLUMNS = (
    ("CPU µs", "cpu_us", ",.2f"),
    ("user µs", "user_us", ",.2f"),
    ("system µs", "system_us", ",.2f"),
    ("p50 µs", "p50_us", ",.0f"),
    ("p99 µs", "p99_us", ",.0f"),
    ("p99.9 µs", "p999_us", ",.0f"),
)
_LAST_COLUMNS = ("per second", "busy", "memory MiB", "errors")
_EXPLAINED = """\
Each row is the median of the rounds. *Ratio* is the figure over that of the best proxy other than vsproxy, round by
round: median, and least to most in brackets. CPU is user and system time of all the proxy's processes, from the
scheduler's nanoseconds; its split is the kernel's estimate. *Busy* is the processor time over wall time of the proxy's
core: below 95 % (marked !) it had waited for load or servers, and an idle proxy does less per wake-up. Memory is the
most that its processes had, what they share counted once. Every byte of every answer and of every upload was compared
with what it had to be (of HTTP/2: every status and length); where one was wrong or missing, the row is void.
"""


def render(results: Results, plots: Sequence[Path] = ()) -> str:
    """The whole report; `plots` are linked by name."""
    parts = ["# Benchmark", _about(results), _EXPLAINED, "## Targets", _targets(results)]
    parts += ["## All figures", overview(results)]
    named = {path.stem: path.name for path in plots}
    parts.append("## Scenarios")
    for scenario in results.scenarios:
        if scenario.line is None:
            parts += [f"### {scenario.title}", _scenario(scenario), *_link(named, scenario.name)]
    for line in lines_of(results):
        parts += [f"### Growth: {line}", _line(results, line), *_link(named, f"growth-{line}")]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def overview(results: Results) -> str:
    """One row for each scenario: the figure of each proxy, and our ratio to the best of the others."""
    names = list(dict.fromkeys(name for scenario in results.scenarios for name in scenario.proxies))
    rows = []
    for scenario in results.scenarios:
        figures = values(scenario)
        rival = best({name: found for name, found in figures.items() if name != OURS})
        ratio = spread(ratios(figures[OURS], figures[rival])) if rival and OURS in figures else None
        cells = [f"{median(figures[name]):,.2f}" if name in figures else "-" for name in names]
        rows.append([f"{scenario.title}: {scenario.heading}", *cells, _ratio(ratio)])
    return table(("scenario", *names, "ratio"), rows)


def write_report(results: Results, directory: Path) -> Path:
    """`report.md` with its plots, in `directory`; the path of the report."""
    path = directory / "report.md"
    path.write_text(render(results, plot_all(results, directory)))
    return path


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """In Markdown; all columns but the first are numbers."""
    rule = ["---", *("---:" for _ in head[1:])]
    escaped = ([cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows)
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, rule, *escaped))


def _about(results: Results) -> str:
    rows = [*results.machine.items(), *results.versions.items(), *results.settings.items()]
    return table(("", ""), rows)


def _targets(results: Results) -> str:
    rows = [
        (
            verdict.scenario,
            verdict.what,
            "-" if verdict.value is None else f"{verdict.value:.2f}",
            f"{verdict.gate:.2f}",
            f"{verdict.aim:.2f}",
            str(verdict.mark),
        )
        for verdict in verdicts(results)
    ]
    return table(("scenario", "vsproxy's", "found", "gate", "aim", ""), rows)


def _scenario(scenario: ScenarioResult) -> str:
    figures = values(scenario)
    rival = best({name: found for name, found in figures.items() if name != OURS})
    columns = [column for column in _COLUMNS if _has(scenario, column[1]) and column[0] not in scenario.heading]
    head = ["", scenario.heading, "ratio", *(title for title, _, _ in columns), *_LAST_COLUMNS]
    rows = []
    for name, result in scenario.proxies.items():
        cells = ["-"] * (len(head) - 2)
        if result.counts:
            ratio = spread(ratios(figures[name], figures[rival])) if rival else None
            cells = [f"{median(figures[name]):,.2f}", _ratio(ratio), *_cells(result.samples, columns)]
        rows.append([name, *cells, _errors(result)])
    text = table(head, rows)
    return f"{scenario.note}.\n\n{text}" if scenario.note else text


def _has(scenario: ScenarioResult, field: str) -> bool:
    return any(getattr(one, field) is not None for result in scenario.proxies.values() for one in result.samples)


def _cells(samples: Sequence[Sample], columns: Sequence[tuple[str, str, str]]) -> list[str]:
    cells = [_median(samples, field, form) for _, field, form in columns]
    idle = samples[0].busy is None
    rate = "-" if idle else f"{median(one.units / one.seconds for one in samples):,.0f}"
    memory = max((one.peak_kib or 0) for one in samples) / 1024
    return [*cells, rate, _busy(samples), f"{memory:.1f}"]


def _median(samples: Sequence[Sample], field: str, form: str) -> str:
    found = [value for one in samples if (value := getattr(one, field)) is not None]
    return format(median(found), form) if found else "-"


def _busy(samples: Sequence[Sample]) -> str:
    found = [one.busy for one in samples if one.busy is not None]
    if not found:
        return "-"
    share = median(found)
    return f"{share:.0%}" + ("" if share >= _BUSY else " !")


def _ratio(found: Spread | None) -> str:
    return f"{found.median:.2f} ({found.low:.2f}-{found.high:.2f})" if found else "-"


def _errors(result: ProxyResult) -> str:
    """One would be the end of it: the first has made a result void."""
    if result.void is not None:
        return f"VOID: {result.void}"
    if result.skipped is not None:
        return result.skipped
    return "none" if result.counts else "did not run"


def _line(results: Results, line: str) -> str:
    points = points_of(results, line)
    xs = sorted({x for found in points.values() for x, _ in found})
    rows = []
    for name, found in points.items():
        at = dict(found)
        grown = f"{found[-1][1] / found[0][1]:.2f}" if len(found) > 1 else "-"
        rows.append([name, *(f"{at[x]:.2f}" if x in at else "-" for x in xs), grown])
    heading = next(scenario.heading for scenario in results.scenarios if scenario.line == line)
    text = table([heading, *(f"{x:,}" for x in xs), "last / first"], rows)
    missing = [
        f"- {scenario.title}, {name}: {_errors(result)}"
        for scenario in results.scenarios
        for name, result in scenario.proxies.items()
        if scenario.line == line and not result.counts
    ]
    return "\n\n".join(part for part in (text, "\n".join(missing), _line_note(line)) if part)


def _line_note(line: str) -> str:
    if line != "workers":
        return ""
    return (
        "Two workers share the second core with load and servers: "
        "the time per request can be compared, the rate cannot."
    )


def _link(named: dict[str, str], stem: str) -> list[str]:
    return [f"![{stem}]({named[stem]})"] if stem in named else []


def main(arguments: Sequence[str] | None = None) -> int:
    """Renders again what was measured."""
    parser = argparse.ArgumentParser(prog="python -m bench.report", description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("--out", type=Path, help="folder of report and plots; default: that of the results")
    given = parser.parse_args(arguments)
    out = given.out or given.results.parent
    try:
        results = load(given.results)
        out.mkdir(parents=True, exist_ok=True)
        print(write_report(results, out))
    except (BenchError, OSError) as error:
        print(f"bench.report: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
