"""What was counted beside what was counted once, and what follows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

#: A workload may become dearer by this many percent; and cheaper, before the baseline should follow.
LIMIT = 5.0


@dataclass(frozen=True)
class Row:
    """One workload, in instructions per request; None for one that is not in the baseline, or no longer counted."""

    name: str
    counted: int | None
    baseline: int | None

    @property
    def change(self) -> float | None:
        """In percent of the baseline, above 0 for more; None if there is nothing to compare."""
        if self.counted is None or not self.baseline:
            return None
        return (self.counted - self.baseline) / self.baseline * 100

    @property
    def grown(self) -> bool:
        """Whether it is dearer than the limit allows."""
        return self.change is not None and self.change > LIMIT

    @property
    def shrunk(self) -> bool:
        """Whether it is cheaper by so much that the baseline hides what may be lost again."""
        return self.change is not None and self.change < -LIMIT


@dataclass(frozen=True)
class Comparison:
    """`known`: there are figures under `key` to compare with."""

    key: str
    known: bool
    rows: tuple[Row, ...]

    @property
    def grown(self) -> list[Row]:
        """The workloads that fail the check."""
        return [row for row in self.rows if row.grown]

    @property
    def shrunk(self) -> list[Row]:
        """The workloads whose baseline should be made anew."""
        return [row for row in self.rows if row.shrunk]


def compare(key: str, counted: Mapping[str, int], figures: Mapping[str, int] | None) -> Comparison:
    """Beside `figures`, the baseline under `key`; None: there is none, and nothing can have grown."""
    baseline = figures or {}
    names = [*counted, *(name for name in baseline if name not in counted)]
    rows = tuple(Row(name, counted.get(name), baseline.get(name)) for name in names)
    return Comparison(key, figures is not None, rows)
