"""The command line, and what is chosen by it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from bench import cli
from bench.catalogue import all_scenarios, full_scale, quick_scale
from bench.cli import choose_peers, choose_scenarios, parse
from bench.errors import BenchError, VoidError
from bench.h2load import read_output
from bench.peers.base import Setup
from bench.peers.nginx import Nginx
from bench.peers.registry import all_peers
from bench.results import load
from support.bench_peers import ScriptedPeer, answer

ROOT = Path(__file__).parents[2]
FULL = all_scenarios(full_scale(30_000))


def names(*arguments: str) -> list[str]:
    return [scenario.name for scenario in choose_scenarios(FULL, parse(arguments))]


def test_all_run_unless_some_are_named() -> None:
    assert names() == [scenario.name for scenario in FULL]
    assert names("--only", "tls-*", "upload") == ["tls-keepalive", "tls-full", "tls-resumed", "upload"]
    assert set(names("--quick")) < set(names())
    assert names("--quick", "--only", "post-1k-chunked") == ["post-1k-chunked"]


def test_a_name_that_nothing_has_is_refused() -> None:
    with pytest.raises(BenchError, match="no-such"):
        names("--only", "tls-*", "no-such")


@pytest.mark.parametrize("arguments", [("--rounds", "0"), ("--seconds", "-1"), ("--no-such",)])
def test_nonsense_is_refused(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(arguments)
    assert capsys.readouterr().err


def test_numbers_given_win_over_those_of_the_mode() -> None:
    assert (parse(()).rounds, parse(("--quick",)).rounds) == (5, 2)
    assert parse(("--quick", "--rounds", "7", "--seconds", "3")).rounds == 7
    assert parse(("--quick", "--rounds", "7", "--seconds", "3")).seconds == 3


def test_vsproxy_runs_whichever_peers_are_chosen() -> None:
    peers, missing = choose_peers(all_peers(sys.executable), parse(("--peers", "nginx")))
    assert [peer.name for peer in peers] == ["vsproxy", "nginx"]
    assert not missing
    with pytest.raises(BenchError, match="apache"):
        choose_peers(all_peers(sys.executable), parse(("--peers", "apache")))


def test_a_peer_that_is_not_installed_is_named() -> None:
    class Absent(ScriptedPeer):
        def find(self) -> Path | None:
            return None

    peers, missing = choose_peers((Nginx(), Absent("caddy", b"")), parse(()))
    assert [peer.name for peer in peers] == ["nginx"]
    assert missing == {"caddy": "not installed"}


def test_the_large_things_follow_the_limit_of_open_files() -> None:
    def connections(most: int, name: str) -> int:
        return next(one.load.connections for one in all_scenarios(full_scale(most)) if one.name.startswith(name))

    assert connections(30_000, "idle-keepalive") == 10_000
    assert connections(4_000, "idle-keepalive") == 4_000
    assert max(one.load.connections for one in all_scenarios(quick_scale(30_000))) == 1000


def test_the_scenarios_are_listed() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "bench", "--list"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert all(f"\n{scenario.name} " in f"\n{result.stdout}" for scenario in FULL if scenario.line is None)


@pytest.mark.parametrize(("body", "status"), [(b"hello world!", 1), (None, 0)])
def test_a_run_ends_with_results_and_a_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: bytes | None, status: int
) -> None:
    """From the command to the report: beside nginx, a proxy that is right, or wrong and makes it fail."""

    class Second(Nginx):
        name = "second"

    second = Second() if body is None else ScriptedPeer("wrong", answer(body))
    monkeypatch.setattr(cli, "all_peers", lambda python: (Nginx(), second))
    chosen = ("--only", "keepalive-bare", "post-1k")
    arguments = ("--quick", "--seconds", "0.1", "--rounds", "1", *chosen, "--out", str(tmp_path))
    console = Console(file=(tmp_path / "said").open("w"), width=200)
    assert cli.run(parse(arguments), console) == status
    results = load(tmp_path / "results.json")
    assert [scenario.name for scenario in results.scenarios] == ["keepalive-bare", "post-1k"]
    assert all(scenario.proxies["nginx"].counts for scenario in results.scenarios)
    assert len(results.voids) == 2 * status
    assert results.machine["processor"]
    report = (tmp_path / "report.md").read_text()
    assert ("VOID" in report) == bool(status)
    assert (tmp_path / "post-1k.svg").exists()


def test_what_was_measured_before_an_interrupt_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupting(Nginx):
        def command(self, config: Path, setup: Setup) -> list[str]:
            if setup.access_log:
                raise KeyboardInterrupt
            return super().command(config, setup)

    monkeypatch.setattr(cli, "all_peers", lambda python: (Interrupting(),))
    chosen = ("--only", "keepalive-bare", "keepalive-log")
    arguments = ("--quick", "--seconds", "0.1", "--rounds", "1", *chosen, "--out", str(tmp_path))
    before = os.sched_getaffinity(0)
    assert cli.run(parse(arguments), Console(file=(tmp_path / "said").open("w"))) == 1
    assert os.sched_getaffinity(0) == before
    first, second = load(tmp_path / "results.json").scenarios
    assert first.proxies["nginx"].counts
    assert not second.proxies["nginx"].samples
    assert "did not run" in (tmp_path / "report.md").read_text()


H2LOAD = """\
finished in 20.50ms, 48780.49 req/s, 1.2MB/s
requests: {count} total, {count} started, {count} done, {good} succeeded, 0 failed, 0 errored, 0 timeout
status codes: 2 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 46.13KB (47240) total, 15.66KB (16040) headers (space savings 94.98%), {data}B ({data}) data
"""


def test_h2load_is_understood() -> None:
    found = read_output(H2LOAD.format(count=2, good=2, data=24), "1\t200\t100\n2\t200\t300\n", 2, 12)
    assert (found.requests, found.seconds, found.max_us) == (2, 0.0205, 300.0)


@pytest.mark.parametrize(
    ("good", "data", "log", "why"),
    [
        (1, 24, "1\t200\t1\n2\t200\t1\n", "1 of 2"),
        (2, 23, "1\t200\t1\n2\t200\t1\n", "23 bytes"),
        (2, 24, "1\t200\t1\n2\t404\t1\n", "another status"),
        (2, 24, "1\t200\t1\n", "of 1"),
    ],
)
def test_what_h2load_says_is_wrong(good: int, data: int, log: str, why: str) -> None:
    with pytest.raises(VoidError, match=why):
        read_output(H2LOAD.format(count=2, good=good, data=data), log, 2, 12)
    with pytest.raises(VoidError, match="unknown"):
        read_output("something", log, 2, 12)
