"""The committed figures: a JSON file of {key: {workload: instructions per request}}."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from bench.instructions.errors import CannotCount

COMMITTED = Path(__file__).with_name("baseline.json")

Figures = dict[str, int]


def read(path: Path) -> dict[str, Figures]:
    """All figures by key; none if there is no file yet. Raises `CannotCount` for another kind of file."""
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text())
    except ValueError as error:
        raise CannotCount(f"{path} is not JSON: {error}") from error
    if not is_baseline(found):
        raise CannotCount(f"{path} is not a baseline: it has to be {{key: {{workload: instructions}}}}")
    baseline: dict[str, Figures] = found
    return baseline


def is_baseline(found: object) -> bool:
    """Whether what was read has the shape of a baseline."""
    return isinstance(found, dict) and all(
        isinstance(figures, dict) and all(type(count) is int and count > 0 for count in figures.values())
        for figures in found.values()
    )


def write(path: Path, key: str, counted: Mapping[str, int]) -> None:
    """Put `counted` in place of what is there under `key`; other keys stay."""
    baseline = read(path)
    baseline[key] = dict(counted)
    path.write_text(json.dumps(baseline, indent=2, sort_keys=True) + "\n")
