# cython: annotation_typing=False
"""Durations counted into fixed buckets: what a latency histogram is made of."""

from __future__ import annotations

from bisect import bisect_left

#: Upper bounds of the buckets in seconds, inclusive; above the last one counts as infinite.
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_BOUNDS = BOUNDS


class Histogram:
    """`counts` holds one number per bucket (not cumulated), the last one for what is above all bounds.

    `total` is the sum of all durations in seconds. Both only grow.
    """

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self.counts[bisect_left(_BOUNDS, seconds)] += 1
        self.total += seconds
