"""Medians and ratios."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.statistics import best, quantile, ratios, spread

figures = st.floats(min_value=1e-3, max_value=1e9)
rounds = st.lists(figures, min_size=1, max_size=9)


@given(rounds)
def test_a_spread_holds_every_round(values: list[float]) -> None:
    found = spread(values)
    assert found is not None
    assert found.low == min(values)
    assert found.high == max(values)
    assert sum(value <= found.median for value in values) >= len(values) / 2
    assert sum(value >= found.median for value in values) >= len(values) / 2


@given(rounds, st.floats(min_value=0.01, max_value=100), st.lists(figures, min_size=9, max_size=9))
def test_what_disturbs_both_leaves_their_ratio(values: list[float], factor: float, disturbance: list[float]) -> None:
    theirs = [value * by for value, by in zip(values, disturbance, strict=False)]
    ours = [their * factor for their in theirs]
    assert ratios(ours, theirs) == pytest.approx([factor] * len(values))


@given(st.lists(figures, min_size=1, max_size=200), st.floats(min_value=0, max_value=1))
def test_a_quantile_has_its_share_below_it(values: list[float], share: float) -> None:
    found = quantile(values, share)
    assert found in values
    assert sum(value < found for value in values) <= share * len(values)
    assert sum(value <= found for value in values) >= share * len(values)


def test_what_did_not_grow_has_no_ratio() -> None:
    assert ratios([1.0, 2.0, 3.0], [0.0, 4.0, -1.0]) == [0.5]
    assert spread(ratios([1.0], [0.0])) is None


def test_a_quantile_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing"):
        quantile([], 0.5)


def test_the_best_has_the_least_median() -> None:
    assert best({"a": [1.0, 9.0, 9.0], "b": [5.0, 5.0, 6.0]}) == "b"
    assert best({}) is None
