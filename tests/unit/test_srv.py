"""SRV records to endpoints: who is a backup, and which weights keep the proportions."""

from __future__ import annotations

import pytest

from vsproxy.upstream.endpoint import Endpoint
from vsproxy.upstream.srv import Target, endpoints_of


def target(priority: int, weight: int, *addresses: str, port: int = 80) -> Target:
    return Target(priority, weight, port, addresses)


def weights(*records: tuple[int, ...]) -> list[int]:
    """The weights of endpoints of one priority, given (weight, number of addresses)."""
    targets = [
        target(0, weight, *(f"192.0.2.{10 * index + address}" for address in range(count)))
        for index, (weight, count) in enumerate(records)
    ]
    return [endpoint.weight for endpoint in endpoints_of(targets)]


def test_the_lowest_priority_value_is_first_and_the_rest_are_backups() -> None:
    found = endpoints_of(
        [target(20, 7, "192.0.2.3", port=83), target(10, 3, "192.0.2.1"), target(30, 9, "192.0.2.4")]
    )
    assert found == (
        Endpoint("192.0.2.1", 80, 3, False),
        Endpoint("192.0.2.3", 83, 7, True),
        Endpoint("192.0.2.4", 80, 9, True),
    )


def test_a_target_without_an_address_leaves_its_priority_to_the_next() -> None:
    assert endpoints_of([target(1, 1), target(2, 1, "192.0.2.2")]) == (Endpoint("192.0.2.2", 80, 1, False),)


def test_nothing_comes_of_nothing() -> None:
    assert endpoints_of([]) == ()
    assert endpoints_of([target(1, 1)]) == ()


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ([(1, 1), (2, 1)], [1, 2]),
        ([(10, 1), (1000, 1)], [10, 1000]),
        ([(0, 1), (0, 1)], [1, 1]),
        ([(0, 1), (10, 1), (20, 1)], [1, 500, 1000]),
        ([(0, 1), (1, 1)], [1, 1000]),
        ([(65535, 1), (6554, 1), (1, 1)], [1000, 100, 1]),
        # Two addresses share the weight of their target.
        ([(10, 2), (10, 1)], [5, 5, 10]),
        ([(1, 2), (1, 1)], [500, 500, 1000]),
        ([(0, 2), (0, 1)], [1, 1, 1]),
    ],
)
def test_weights_keep_their_proportions(records: list[tuple[int, ...]], expected: list[int]) -> None:
    assert weights(*records) == expected


def test_backups_are_weighed_among_themselves() -> None:
    found = endpoints_of(
        [target(1, 2, "192.0.2.1"), target(1, 1, "192.0.2.2"), target(2, 60000, "192.0.2.3")]
    )
    assert [endpoint.weight for endpoint in found] == [2, 1, 1000]


def test_what_two_records_name_is_one_endpoint() -> None:
    found = endpoints_of(
        [target(2, 5, "192.0.2.1"), target(1, 3, "192.0.2.1"), target(1, 3, "192.0.2.1", port=81)]
    )
    assert found == (Endpoint("192.0.2.1", 80, 3, False), Endpoint("192.0.2.1", 81, 3, False))
