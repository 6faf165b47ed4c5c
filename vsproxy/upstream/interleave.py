"""The order in which weighted servers take turns: computed once per change, so that a pick is a lookup."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence

# The longest period: whole weights are exact up to it. Fractions are a slow start, recomputed again and
# again, and need no more than a fair share.
WHOLE_LIMIT = 4096
FRACTION_LIMIT = 1024
LIMIT_PER_ITEM = 8
# Release times are sums of floats; a turn that is due by less than this is due.
_SLACK = 1e-9


def interleave(weights: Sequence[float]) -> list[int]:
    """One period of indices into `weights`, each as often as its weight says and as evenly as possible.

    Whole weights are reduced by their common divisor and honoured exactly; fractions, and sums above
    the limit, are rounded to about `FRACTION_LIMIT`, `WHOLE_LIMIT` or `LIMIT_PER_ITEM` per item turns,
    each weight to at least one. All weights must be above 0.

    The order is that of worst-case-fair queueing: turn j of an item with weight w in a period of T is
    released at j*T/w and due at (j+1)*T/w; each slot goes to the released turn that is due first. No
    item is ever a whole turn ahead or behind.
    """
    counts = turns_per_period(weights)
    period = sum(counts)
    if period == len(counts):
        return list(range(period))

    order: list[int] = []
    released: list[tuple[float, int, int]] = []
    coming = [(0.0, index, 0) for index in range(len(counts))]
    for slot in range(period):
        while coming and (coming[0][0] <= slot + _SLACK or not released):
            _, index, turn = heapq.heappop(coming)
            heapq.heappush(released, ((turn + 1) * period / counts[index], index, turn))
        due, index, turn = heapq.heappop(released)
        order.append(index)
        if turn + 1 < counts[index]:
            heapq.heappush(coming, (due, index, turn + 1))
    return order


def turns_per_period(weights: Sequence[float]) -> list[int]:
    """How many turns each item has in one period: at least 1, in the proportion of `weights`."""
    limit = FRACTION_LIMIT
    if all(float(weight).is_integer() for weight in weights):
        limit = WHOLE_LIMIT
        whole = reduced([int(weight) for weight in weights])
        if sum(whole) <= max(limit, LIMIT_PER_ITEM * len(weights)):
            return whole
    share = max(limit, LIMIT_PER_ITEM * len(weights)) / sum(weights)
    return reduced([max(1, round(weight * share)) for weight in weights])


def reduced(counts: list[int]) -> list[int]:
    """`counts` divided by their greatest common divisor."""
    divisor = math.gcd(*counts)
    return [count // divisor for count in counts] if divisor > 1 else counts
