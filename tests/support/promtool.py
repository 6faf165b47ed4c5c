"""Prometheus's own evaluation of rules, fed with what real proxies have said.

`promtool test rules` takes series as a Prometheus would have stored them. A `History` is made of scrapes: what
happened between two of them in a moment is let go on for a while, a step per minute.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.scrape import Key, Scrape

PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed")

RULES = Path(__file__).parents[2] / "deploy" / "prometheus" / "alerts.yml"
TARGET = {"job": "vsproxy", "instance": "lb1:9900"}
GROWING = ("counter", "histogram")


def promtool(*arguments: str) -> str:
    """Run promtool; its output. Fails if it finds anything wrong."""
    assert PROMTOOL is not None
    done = subprocess.run(
        [PROMTOOL, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


class History:
    """The series of one scraped proxy, one value per minute from minute 0 on."""

    def __init__(self) -> None:
        self.minutes = 0
        self._series: dict[Key, str] = {}
        self._reached: dict[Key, float] = {}
        self._written: dict[Key, int] = {}

    def went_on(self, before: Scrape, after: Scrape, minutes: int) -> None:
        """For `minutes`, counters grow each minute as they did from `before` to `after`; the rest is as after."""
        for key, value in after.samples.items():
            if after.kinds[key[0]] in GROWING:
                step = value - before.samples.get(key, 0.0)
                start = self._reached.get(key, before.samples.get(key, 0.0)) + step
                self._reached[key] = start + step * (minutes - 1)
                self._write(key, f"{start!r}+{step!r}x{minutes - 1}", minutes)
            else:
                # A test's clock begins at 0.
                shown = value - after.at if key[0].endswith("_timestamp_seconds") else value
                self._write(key, f"{shown!r}+0x{minutes - 1}", minutes)
        self._write(_up(), f"1+0x{minutes - 1}", minutes)
        self.minutes += minutes

    def was_down(self, minutes: int) -> None:
        """For `minutes`, it did not answer."""
        self._write(_up(), f"0+0x{minutes - 1}", minutes)
        self.minutes += minutes

    def _write(self, key: Key, values: str, minutes: int) -> None:
        gap = self.minutes - self._written.get(key, 0)
        missing = f"stale _x{gap - 1} " if gap > 1 else "stale " if gap else ""
        self._series[key] = f"{self._series.get(key, '')} {missing}{values}".strip()
        self._written[key] = self.minutes + minutes

    def series(self) -> list[dict[str, str]]:
        """As promtool wants them."""
        ended = {key: " stale" if self._written[key] < self.minutes else "" for key in self._series}
        return [
            {"series": _notation(key), "values": values + ended[key]} for key, values in self._series.items()
        ]


def _up() -> Key:
    return "up", frozenset()


def _notation(key: Key) -> str:
    name, labels = key
    text = ",".join(f"{label}={json.dumps(value)}" for label, value in {**TARGET, **dict(labels)}.items())
    return f"{name}{{{text}}}"


@dataclass(frozen=True)
class Alert:
    """An alert as it stands in the rules; `shown` are the labels that its texts show."""

    name: str
    expression: str
    shown: frozenset[str]


def alerts() -> dict[str, Alert]:
    """Every alert of the rules, by name."""
    found = {}
    for block in re.split(r"^ +- (?=alert:|record:)", RULES.read_text(), flags=re.MULTILINE)[1:]:
        if name := re.match(r"alert: (\w+)\n", block):
            expression = re.search(r"^ +expr:(.*?)\n +(?:for|labels):", block, re.MULTILINE | re.DOTALL)
            assert expression is not None
            shown = frozenset(re.findall(r"\$labels\.(\w+)", block))
            found[name[1]] = Alert(name[1], expression[1].removeprefix(" >").strip(), shown)
    return found


def check_firing(directory: Path, history: History, expected: Mapping[int, Iterable[str]]) -> None:
    """Of all alerts exactly `expected` fire, by the minute, and their texts have all that they show."""
    checks = []
    known = alerts()
    for minute, names in expected.items():
        samples = [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in sorted(names)]
        expression = 'group by (alertname) (ALERTS{alertstate="firing"})'
        checks.append({"expr": expression, "eval_time": f"{minute}m", "exp_samples": samples})
        for name in names:
            for label in sorted(known[name].shown):
                blank = f'ALERTS{{alertname="{name}",{label}=""}}'
                checks.append({"expr": blank, "eval_time": f"{minute}m", "exp_samples": []})
    test = {"interval": "1m", "input_series": history.series(), "promql_expr_test": checks}
    file = directory / "alerts_test.yml"
    # JSON is YAML too.
    file.write_text(json.dumps({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": [test]}))
    promtool("test", "rules", str(file))
