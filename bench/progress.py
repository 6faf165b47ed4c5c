"""What is running and what is left, on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from bench.results import ScenarioResult
from bench.scenario import Scenario

# Seldom: drawing takes time of the load's core.
_PER_SECOND = 2


class Progress:
    """A bar over all rounds of all proxies, as a context; what is finished is printed above it."""

    def __init__(self, console: Console, scenarios: Sequence[Scenario], proxies: int, rounds: int) -> None:
        columns = (
            BarColumn(10),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
        )
        self._bar = Bar(*columns, console=console, refresh_per_second=_PER_SECOND)
        self._rounds = rounds
        self._proxies = proxies
        self._left = len(scenarios)
        self._finished = 0
        self._task = self._bar.add_task("", total=len(scenarios) * proxies * rounds)

    def show(self, scenario: Scenario, proxy: str, what: str) -> None:
        """What runs now."""
        text = f"{scenario.name}, {proxy}, {what}; {self._left - 1} more"
        self._bar.update(self._task, description=text)

    def advance(self) -> None:
        """One round of one proxy is over."""
        self._bar.advance(self._task)

    def say(self, text: str) -> None:
        """A line that stays."""
        self._bar.console.print(text, style="red", highlight=False, soft_wrap=True)

    def done(self, result: ScenarioResult) -> None:
        """A scenario is over."""
        self._left -= 1
        self._finished += self._proxies * self._rounds
        self._bar.update(self._task, completed=self._finished)
        figures = [
            f"{name} {median(sample.value for sample in one.samples):,.2f}" if one.counts else f"{name} -"
            for name, one in result.proxies.items()
        ]
        self._bar.console.print(
            f"{result.name} ({result.heading}): {', '.join(figures)}", highlight=False, soft_wrap=True
        )

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
