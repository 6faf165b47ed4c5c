"""What was found, and its JSON."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bench.errors import BenchError

FORMAT = 1


@dataclass(frozen=True)
class Sample:
    """One round of one proxy. `value` is what is compared; what was not looked at is None."""

    value: float
    units: float
    seconds: float
    cpu_us: float | None = None
    user_us: float | None = None
    system_us: float | None = None
    busy: float | None = None
    p50_us: float | None = None
    p99_us: float | None = None
    p999_us: float | None = None
    peak_kib: int | None = None


@dataclass
class ProxyResult:
    """The rounds of one proxy, or why they count for nothing, or why there are none."""

    samples: list[Sample] = field(default_factory=list)
    void: str | None = None
    skipped: str | None = None

    @property
    def counts(self) -> bool:
        """Whether there is something to compare."""
        return bool(self.samples) and self.void is None and self.skipped is None


@dataclass
class ScenarioResult:
    """One scenario, of all proxies by name. `note`: what has to be known to read it."""

    name: str
    title: str
    heading: str
    unit: str
    line: str | None = None
    x: int | None = None
    note: str | None = None
    proxies: dict[str, ProxyResult] = field(default_factory=dict)


@dataclass
class Results:
    """A whole run, or what there is of it yet."""

    machine: dict[str, str]
    versions: dict[str, str]
    settings: dict[str, str]
    scenarios: list[ScenarioResult] = field(default_factory=list)

    @property
    def voids(self) -> list[tuple[str, str, str]]:
        """Scenario, proxy and reason of each that is void."""
        return [
            (scenario.name, name, result.void)
            for scenario in self.scenarios
            for name, result in scenario.proxies.items()
            if result.void is not None
        ]


def save(results: Results, path: Path) -> None:
    """As JSON; a reader finds the old file or the new one, never half of it."""
    text = json.dumps({"format": FORMAT, **asdict(results)}, indent=1, ensure_ascii=False)
    beside = path.with_suffix(".part")
    beside.write_text(text + "\n")
    os.replace(beside, path)


def load(path: Path) -> Results:
    """Raises BenchError if it is not one of these files, OSError if it cannot be read."""
    try:
        found = json.loads(path.read_text())
        if found.pop("format") != FORMAT:
            raise BenchError(f"{path} is of another format")
        scenarios = [_scenario(one) for one in found.pop("scenarios")]
        return Results(scenarios=scenarios, **found)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BenchError(f"{path} does not hold results: {error!r}") from error


def _scenario(found: dict[str, object]) -> ScenarioResult:
    proxies = found.pop("proxies")
    if not isinstance(proxies, dict):
        raise TypeError("proxies")
    results = {name: _proxy(one) for name, one in proxies.items()}
    return ScenarioResult(proxies=results, **found)  # type: ignore[arg-type]


def _proxy(found: dict[str, object]) -> ProxyResult:
    samples = found.pop("samples")
    if not isinstance(samples, list):
        raise TypeError("samples")
    return ProxyResult(samples=[Sample(**one) for one in samples], **found)  # type: ignore[arg-type]
