"""Runs of the benchmark over proxies that are right, wrong, late or gone."""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from bench import requests
from bench.certificates import make_certificate
from bench.load import Load
from bench.measuring import Measuring
from bench.native_programs import Programs
from bench.pattern import pattern
from bench.peers.base import Peer, Setup
from bench.peers.nginx import Nginx
from bench.processes import free_ports
from bench.progress import Progress
from bench.results import ProxyResult, Results
from bench.runner import Plan, Runner
from bench.running_proxy import RunningProxy
from bench.scenario import Figure, Kind, Scenario
from support.bench_peers import ScriptedPeer, answer, cores

ROUNDS = 2
KEPT = Scenario("kept", "Kept", Load((requests.get(12, requests.BROWSER),), size=12, connections=4))
TLS = replace(KEPT, name="tls", tls=True, load=replace(KEPT.load, tls=True))
WEBSOCKETS = Scenario("ws", "Ws", Load((requests.websocket(),), frame=128, connections=4), unit="message")


def measure(programs: Programs, directory: Path, scenarios: list[Scenario], *peers: Peer, **missing: str) -> Results:
    plan = Plan(
        peers=peers,
        missing=missing,
        measuring=Measuring(programs, cores(), seconds=0.1),
        certificate=make_certificate(directory),
        directory=directory,
        rounds=ROUNDS,
        warm_up_s=0.05,
        most_connections=1000,
    )
    results = Results({}, {}, {})
    console = Console(file=io.StringIO())
    with Progress(console, scenarios, len(peers), ROUNDS) as progress:
        Runner(plan, results, progress, lambda: None).run(scenarios)
    return results


def one(results: Results, name: str, scenario: int = 0) -> ProxyResult:
    return results.scenarios[scenario].proxies[name]


class DyingNginx(Nginx):
    """Ends when it is measured."""

    name = "dying"

    def command(self, config: Path, setup: Setup) -> list[str]:
        return ["sh", "-c", 'sleep 0.7 && kill -9 $$ & exec "$@"', "sh", *super().command(config, setup)]


class WrongOnceChecked(Nginx):
    """Forwards as it should, but answers all but the first with a body of its own."""

    name = "wrong"

    def write_config(self, setup: Setup) -> Path:
        path = super().write_config(setup)
        inside = 'location /b/ { return 200 "hello world!"; }\n        location / {'
        path.write_text(path.read_text().replace("location / {", inside))
        return path


def test_each_is_measured_in_each_round(programs: Programs, tmp_path: Path) -> None:
    found = measure(programs, tmp_path, [KEPT, TLS, WEBSOCKETS], Nginx())
    assert [one.void for scenario in found.scenarios for one in scenario.proxies.values()] == [None] * 3
    for number in range(3):
        samples = one(found, "nginx", number).samples
        assert len(samples) == ROUNDS
        for sample in samples:
            assert sample.units > 10
            assert sample.cpu_us is not None
            assert 1 < sample.cpu_us < 10_000
            assert sample.busy is not None
            assert sample.busy * sample.seconds * 1e6 == pytest.approx(sample.cpu_us * sample.units)
            assert (sample.peak_kib or 0) > 500


def test_a_wrong_byte_voids_one_and_the_others_go_on(programs: Programs, tmp_path: Path) -> None:
    found = measure(programs, tmp_path, [KEPT, TLS], WrongOnceChecked(), Nginx())
    for number in range(2):
        assert "a wrong byte in the body" in (one(found, "wrong", number).void or "")
        assert not one(found, "wrong", number).counts
        assert one(found, "nginx", number).counts
    assert [(scenario, proxy) for scenario, proxy, _ in found.voids] == [("kept", "wrong"), ("tls", "wrong")]


def test_a_proxy_that_forwards_less_is_void(programs: Programs, tmp_path: Path) -> None:
    found = measure(
        programs, tmp_path, [KEPT], ScriptedPeer("silent", answer(b"GET / HTTP/1.1\r\nHost: localhost\r\n"))
    )
    assert "x-forwarded-for" in (one(found, "silent").void or "")


def test_a_proxy_that_does_not_start_is_void(programs: Programs, tmp_path: Path) -> None:
    broken = ScriptedPeer("broken", b"", "--no-such-option")
    found = measure(programs, tmp_path, [KEPT], broken, Nginx())
    assert "broken ended" in (one(found, "broken").void or "")
    assert "no-such-option" in (one(found, "broken").void or "")
    assert one(found, "nginx").counts


def test_a_proxy_that_dies_is_void(programs: Programs, tmp_path: Path) -> None:
    scenario = replace(KEPT, length=30.0)
    found = measure(programs, tmp_path, [scenario, KEPT], DyingNginx())
    assert "it ended" in (one(found, "dying").void or "")
    assert not list(_left(tmp_path))


def test_a_missing_one_is_skipped(programs: Programs, tmp_path: Path) -> None:
    found = measure(programs, tmp_path, [KEPT], Nginx(), envoy="not installed")
    assert one(found, "envoy").skipped == "not installed"
    assert one(found, "nginx").counts
    assert not found.voids


def test_one_rate_is_found_for_all(programs: Programs, tmp_path: Path) -> None:
    scenario = Scenario("open", "Open", KEPT.load, Kind.OPEN, Figure.P99_US, length=3.0)
    found = measure(programs, tmp_path, [scenario], Nginx())
    note = found.scenarios[0].note or ""
    rate = float(note.split()[0].replace(",", ""))
    for sample in one(found, "nginx").samples:
        assert sample.value == sample.p99_us
        assert sample.units == pytest.approx(rate * 0.3, rel=0.01, abs=1)


def test_idle_connections_have_their_memory(programs: Programs, tmp_path: Path) -> None:
    load = replace(KEPT.load, connections=500)
    scenario = Scenario("idle", "Idle", load, Kind.IDLE, Figure.KIB, "connection", length=0)
    found = measure(programs, tmp_path, [scenario], Nginx())
    assert found.scenarios[0].heading == "KiB per connection"
    assert len(one(found, "nginx").samples) == ROUNDS
    for sample in one(found, "nginx").samples:
        # Half a KiB each, for which it may have had room.
        assert -1 < sample.value < 50
        assert sample.units == 500
        assert (sample.peak_kib or 0) > 500


def test_memory_per_connection_is_what_each_takes(programs: Programs, tmp_path: Path) -> None:
    load = Load((requests.get(12, requests.BARE),), size=12, connections=100)
    scenario = Scenario("idle", "Idle", load, Kind.IDLE, Figure.KIB, "connection", length=0)
    peer = ScriptedPeer("holding", answer(pattern(12)), "--hold", str(100 * 1024))
    setup = Setup(directory=tmp_path, port=free_ports(1)[0], servers=("127.0.0.1:1",))
    proxy = RunningProxy(peer, setup, cores())
    try:
        proxy.wait()
        found = Measuring(programs, cores(), seconds=0.1).sample(scenario, proxy)
    finally:
        proxy.process.stop()
    # And a little for the rest of a connection.
    assert 100 <= found.value <= 115


def test_nothing_is_left_running(programs: Programs, tmp_path: Path) -> None:
    measure(programs, tmp_path, [KEPT], Nginx())
    assert not list(_left(tmp_path))
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def _left(directory: Path) -> Iterator[int]:
    """Processes that write into `directory`: children of a proxy do not have it in their command line."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            files = [os.readlink(file) for file in (process / "fd").iterdir()]
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # Ended meanwhile, or somebody else's.
        if int(process.name) != os.getpid() and any(file.startswith(str(directory)) for file in files):
            yield int(process.name)


def test_an_interrupt_ends_what_was_started(programs: Programs, tmp_path: Path) -> None:
    class Interrupting(ScriptedPeer):
        def command(self, config: Path, setup: Setup) -> list[str]:
            os.kill(os.getpid(), signal.SIGINT)
            return super().command(config, setup)

    with pytest.raises(KeyboardInterrupt):
        measure(programs, tmp_path, [KEPT], Nginx(), Interrupting("interrupting", b""))
    assert not list(_left(tmp_path))
