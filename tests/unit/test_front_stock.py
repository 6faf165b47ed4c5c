"""Which front a listener has: the same over reloads as long as its sessions may be resumed, and nobody else's."""

from __future__ import annotations

import pytest

from vsproxy import front_stock
from vsproxy.config.model import Config
from vsproxy.front_stock import FrontStock, Lease, Leases, numbers


def config(*binds: str, **settings: str) -> Config:
    """Listeners with TLS, and one without."""
    plain = {"bind": "127.0.0.1:1"}
    tls = {"cert": "a.pem", **settings}
    return Config.model_validate({"listeners": [plain, *({"bind": bind, "tls": tls} for bind in binds)]})


A, B, C = "127.0.0.1:2", "127.0.0.1:3", "127.0.0.1:4"


def number_of(leases: Leases, bind: str) -> int | None:
    return leases[bind, 0].number


def test_each_tls_listener_has_one_of_its_own() -> None:
    stock = FrontStock(config(A, B), spare=3)
    leases = stock.lease(config(A, B), {}, {})
    assert set(leases) == {(A, 0), (B, 0)}
    assert number_of(leases, A) != number_of(leases, B)
    assert len(stock.fronts) == 5
    assert {key: stock.fronts.index(front) for key, front in stock.of(numbers(leases)).items()} == numbers(leases)


def test_it_is_kept_over_other_certificates_and_changed_with_what_sessions_depend_on() -> None:
    stock = FrontStock(config(A), spare=3)
    first = stock.lease(config(A), {}, {})
    assert stock.lease(config(A, cert="b.pem"), {}, first) == first
    second = stock.lease(config(A, min_version="1.3"), {}, first)
    assert number_of(second, A) != number_of(first, A)


def test_what_is_discarded_was_never_used_and_is_free_again() -> None:
    stock = FrontStock(config(A), spare=1)
    first = stock.lease(config(A), {}, {})
    for _ in range(5):
        second = stock.lease(config(A, B), {}, first)
        assert number_of(second, B) is not None
        stock.discard(second, first)


def test_what_was_in_use_rests_until_no_session_of_it_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(front_stock.time, "monotonic", lambda: now)
    stock = FrontStock(config(A), spare=1)
    first = stock.lease(config(A), {}, {})
    second = stock.lease(config(B), {}, first)
    stock.switch(first, second)
    third = stock.lease(config(B, C), {}, second)
    assert third[C, 0] == Lease(third[B, 0].identity, None)
    assert numbers(third)[C, 0] is None
    assert set(stock.of(numbers(third))) == {(B, 0)}
    # Whoever had none is asked for again.
    now += front_stock.REST
    fourth = stock.lease(config(B, C), {}, third)
    assert (number_of(fourth, B), number_of(fourth, C)) == (number_of(second, B), number_of(first, A))


def test_who_comes_back_has_the_same_one_and_its_sessions() -> None:
    stock = FrontStock(config(A), spare=1)
    turns = [config(A), config(B), config(A, min_version="1.2"), config(B)] * 20
    leases: Leases = {}
    seen = set()
    for turn in turns:
        following = stock.lease(turn, {}, leases)
        stock.switch(leases, following)
        leases = following
        seen.add(tuple((key, lease.number) for key, lease in leases.items()))
    assert len(seen) == 2
    assert None not in {number for ((_, number),) in seen}


def test_one_that_rests_does_so_after_a_reload_that_was_refused() -> None:
    stock = FrontStock(config(A), spare=1)
    first = stock.lease(config(A), {}, {})
    second = stock.lease(config(B), {}, first)
    stock.switch(first, second)
    again = stock.lease(config(A, B), {}, second)
    assert again[A, 0] == first[A, 0]
    stock.discard(again, second)
    # Not for anybody else.
    assert number_of(stock.lease(config(B, C), {}, second), C) is None
    assert stock.lease(config(A, B), {}, second) == again
