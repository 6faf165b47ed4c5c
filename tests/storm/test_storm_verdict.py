"""What explains a failure in a storm, and what does not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from storm.ledger import Failure, Ledger, ProcessKill, ServerKill, Wire
from storm.verdict import IDLE_IN_WORKER, SERVER, WORKER, explain, judge
from storm.witness import Truth

MAIN, PORT = 8080, 40_000
WORKER_KILL = ProcessKill("vsproxy-worker0", 1, stopped=100.0, wires=frozenset({(MAIN, PORT)}))
SERVER_KILL = ServerKill("s1.1", began=200.0, dead=200.1)


def failure(began: float, at: float, **changes: object) -> Failure:
    wire = Wire(MAIN, PORT, opened=began - 1)
    return replace(Failure("POST main", "POST", "POST-1", "unanswered", "", began, at, wire), **changes)  # type: ignore[arg-type]


def reason(what: Failure, seen: list[str] | None = None) -> str | None:
    return explain(what, [WORKER_KILL], [SERVER_KILL], seen or [])


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        (failure(99.9, 100.01), WORKER),
        (failure(100.0, 100.01, cause="closed while idle"), IDLE_IN_WORKER),
        (failure(99.9, 100.01, method="GET", cause="truncated", server="s2.1"), WORKER),
        (failure(99.9, 100.01, visible=False), None),
        # It had failed before, or long after.
        (failure(99.0, 99.9), None),
        (failure(99.0, 120.0, cause="silent"), None),
        # The same port, in a connection that was opened later.
        (failure(101.5, 101.6), None),
        # Another connection: one that waited in a queue, or was in the other worker.
        (failure(99.9, 100.01, wire=Wire(MAIN, PORT + 1, 99.0)), None),
        (failure(99.9, 100.01, wire=Wire(MAIN + 1, PORT, 99.0)), None),
        (failure(99.9, 100.01, wire=Wire(MAIN, 0, 99.0)), None),
    ],
)
def test_a_killed_worker(what: Failure, expected: str | None) -> None:
    assert reason(what) == expected


@pytest.mark.parametrize(
    ("what", "seen", "expected"),
    [
        (failure(199.9, 200.05, cause="status 502"), ["s1.1"], SERVER),
        # Its kernel had it, it had not read it.
        (failure(199.9, 200.05, cause="status 502"), [], SERVER),
        (failure(199.9, 200.05, cause="status 502"), ["s2.1"], None),
        (failure(199.9, 200.05, cause="status 502"), ["s1.1", "s2.1"], None),
        (failure(200.2, 200.3, cause="status 502"), ["s1.1"], None),
        (failure(199.0, 199.9, cause="status 502"), ["s1.1"], None),
        (failure(199.0, 210.0, cause="silent"), ["s1.1"], None),
        # What can be sent again has to be.
        (failure(199.9, 200.05, method="GET", cause="status 502"), [], None),
        (failure(199.9, 200.05, method="GET", cause="no websocket"), [], None),
        (failure(199.9, 200.05, method="GET", cause="truncated", server="s1.1"), [], SERVER),
        (failure(199.9, 200.05, method="GET", cause="truncated", server="s1.2"), [], None),
        (failure(199.9, 200.05, method="GET", cause="truncated", server="s2.1"), [], None),
        (failure(199.9, 200.05, method="GET", cause="status 500", server="s1.1"), [], None),
        (failure(150.0, 200.05, method="GET", cause="websocket closed", server="s1.1"), [], SERVER),
        (failure(150.0, 199.95, method="GET", cause="websocket closed", server="s1.1"), [], None),
        (failure(199.9, 200.05, method="GET", cause="corrupt", server="s1.1", visible=False), [], None),
    ],
)
def test_a_killed_server(what: Failure, seen: list[str], expected: str | None) -> None:
    assert reason(what, seen) == expected


def test_a_whole_ledger() -> None:
    ledger = Ledger()
    in_worker, on_server = failure(99.9, 100.1), failure(199.9, 200.1, exchange="POST-2", cause="status 502")
    nobodys = failure(150.0, 150.1, exchange="POST-3")
    ledger.failures += [in_worker, on_server, nobodys]
    ledger.process_kills.append(WORKER_KILL)
    ledger.server_kills.append(SERVER_KILL)
    received = [("s1.1", "POST-2"), ("s1.1", "POST-4"), ("s2.1", "POST-4"), ("s2.1", "POST-5")]
    verdict = judge(ledger, received)
    assert verdict.explained == {WORKER: [in_worker], IDLE_IN_WORKER: [], SERVER: [on_server]}
    assert verdict.unexplained == [nobodys]
    assert verdict.sent_twice == ["POST-4 to ['s1.1', 's2.1']"]


def test_what_may_be_told_when() -> None:
    truth = Truth([(10.0, frozenset("a")), (20.0, frozenset("ab")), (21.0, frozenset("b"))])
    assert truth.between(11.0, 12.0) == {"a"}
    assert truth.between(11.0, 20.5) == {"a", "b"}
    assert truth.between(20.5, 25.0) == {"a", "b"}
    assert truth.between(21.5, 25.0) == {"b"}
