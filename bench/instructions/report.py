"""A comparison in words, and as JSON."""

from __future__ import annotations

from bench.instructions.comparison import LIMIT, Comparison, Row


def table(comparison: Comparison) -> str:
    """Lines of workload, instructions per request, baseline and change in percent."""
    width = max([len("workload"), *(len(row.name) for row in comparison.rows)])
    lines = [f"{'workload':{width}} {'instructions':>12} {'baseline':>12} {'change':>9}"]
    for row in comparison.rows:
        change = "" if row.change is None else f"{row.change:+.1f} %"
        lines.append(f"{row.name:{width}} {number(row.counted):>12} {number(row.baseline):>12} {change:>9}".rstrip())
    return "\n".join(lines)


def number(count: int | None) -> str:
    """1,234; a dash for none."""
    return "-" if count is None else f"{count:,}"


def verdict(comparison: Comparison, accept: str) -> str:
    """What follows from it. `accept` is the command that makes what was counted the baseline."""
    if not comparison.known:
        return (
            f"There is no baseline for {comparison.key}: nothing was compared.\n"
            f"To compare with this from now on, commit what `{accept}` writes."
        )
    lines = [f"Compared with the baseline for {comparison.key}."]
    lines += [f"FAILED: {moved(row)}, more than {LIMIT:g} % up." for row in comparison.grown]
    if comparison.grown:
        lines.append(f"If that is what it has to cost, commit what `{accept}` writes, and say why.")
    lines += [f"Better: {moved(row)}." for row in comparison.shrunk]
    if comparison.shrunk:
        lines.append(f"So that it is not lost unnoticed, commit what `{accept}` writes.")
    lines += [f"New: {row.name} has no baseline yet; `{accept}` writes it." for row in comparison.rows if is_new(row)]
    lines += [f"Gone: {row.name} has a baseline and was not counted." for row in comparison.rows if row.counted is None]
    return "\n".join(lines)


def is_new(row: Row) -> bool:
    """Whether it was counted for the first time."""
    return row.baseline is None


def moved(row: Row) -> str:
    """`forward-get went from 1,000 to 1,100 instructions per request (+10.0 %)`."""
    return (
        f"{row.name} went from {number(row.baseline)} to {number(row.counted)} instructions per request "
        f"({row.change:+.1f} %)"
    )


def as_json(comparison: Comparison) -> dict[str, object]:
    """The same for programs; `change` is in percent."""
    return {
        "key": comparison.key,
        "known": comparison.known,
        "limit": LIMIT,
        "workloads": {
            row.name: {"instructions": row.counted, "baseline": row.baseline, "change": row.change}
            for row in comparison.rows
        },
        "grown": [row.name for row in comparison.grown],
    }
