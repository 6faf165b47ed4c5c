"""What a client may never notice: reloads, processes and servers that die, pools that grow and shrink."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from storm.load import KEPT
from storm.report import report
from storm.run import CONTROL, WORKER_NAMES, Options, Result, blow
from support.nginx import NGINX

ROUNDS = int(os.environ.get("VSPROXY_STORM_ROUNDS", "1"))


@pytest.mark.timeout(60 + 60 * ROUNDS)
async def test_no_client_notices_reloads_or_deaths_elsewhere(tmp_path: Path) -> None:
    """20 good and 5 bad reloads, SIGKILL of workers, control and servers, a pool of 3, 30 and 3 servers."""
    options = Options(rounds=ROUNDS)
    result = await blow(tmp_path, options)
    print("\n" + report(result))
    assert_no_unexplained_failure(result)
    assert_reloads(result, options)
    assert_storm_was_real(result, options)
    assert result.children == [CONTROL, *WORKER_NAMES]
    assert (result.exit_status, result.left) == (0, [])


def assert_no_unexplained_failure(result: Result) -> None:
    failures = "\n".join(map(str, result.verdict.unexplained))
    assert not failures, f"unexplained:\n{failures}\n\nthe log:\n" + "\n".join(result.log[-200:])
    assert result.verdict.sent_twice == []
    assert result.ledger.disappointments == []


def assert_reloads(result: Result, options: Options) -> None:
    reloads = result.ledger.reloads
    assert [reload for reload in reloads if reload.mistake] == []
    good = options.good_reloads * options.rounds
    assert [sum(reload.good for reload in reloads), len(reloads)] == [good, good + good // 4]


def assert_storm_was_real(result: Result, options: Options) -> None:
    """There was traffic of every kind, on every server, and everything was killed."""
    ledger = result.ledger
    assert min(ledger.answered.values()) >= 5, ledger.answered
    assert {kill.name for kill in ledger.process_kills} == {CONTROL, *WORKER_NAMES}
    killed = ["s1", "s2", "s3", *(["nginx"] if NGINX else [])]
    expected = {f"{name}.{round_}" for name in killed for round_ in range(1, options.rounds + 1)}
    assert {kill.name for kill in ledger.server_kills} == expected
    assert all(ledger.servers[f"{name}.{options.rounds + 1}"] for name in killed), "no traffic after a return"
    assert all(ledger.servers[f"x{n}.1"] for n in range(1, 28)), "the grown pool was not used"
    assert ledger.websockets_alive == 3 * KEPT
