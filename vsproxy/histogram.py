# cython: annotation_typing=False
"""Durations counted into fixed buckets: what a latency histogram is made of."""

from __future__ import annotations

from array import array
from collections.abc import Iterable

#: Upper bounds of the buckets in seconds, inclusive; above the last one counts as infinite.
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_BOUNDS, _LAST = array("d", BOUNDS), len(BOUNDS)


class Histogram:
    """`counts` holds one number per bucket (not cumulated), the last one for what is above all bounds.

    `total` is the sum of all durations in seconds. Both only grow.
    """

    __slots__ = ("_counts", "total")

    def __init__(self) -> None:
        # Whole numbers of the machine: Python's would be made anew with every request.
        self._counts = array("q", [0]) * (len(BOUNDS) + 1)
        self.total = 0.0

    @property
    def counts(self) -> list[int]:
        """How many there are in each bucket."""
        return list(self._counts)

    @counts.setter
    def counts(self, counts: Iterable[int]) -> None:
        self._counts = array("q", counts)

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        index = 0
        # One after the other: most of what is counted belongs to the first.
        while index < _LAST and seconds > _BOUNDS[index]:
            index += 1
        self._counts[index] += 1
        self.total += seconds
