"""Medians and ratios."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which that share of them lies, one that occurs. Raises ValueError if there are none."""
    if not values:
        raise ValueError("a quantile of nothing")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


@dataclass(frozen=True)
class Spread:
    """Of one figure over the rounds."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread | None:
    """None of none."""
    return Spread(median(values), min(values), max(values)) if values else None


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Round by round: what disturbs the machine for a while disturbs both.

    A round that one of them has not is left out, and so is one in which theirs is nothing: memory may not have grown.
    """
    return [our / their for our, their in zip(ours, theirs, strict=False) if their > 0]


def best(figures: dict[str, Sequence[float]]) -> str | None:
    """Whose median is the least; None of none."""
    return min(figures, key=lambda name: median(figures[name]), default=None)
