"""The command: what to measure, and where to put it."""

from __future__ import annotations

import argparse
import fnmatch
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from bench.catalogue import all_scenarios, full_scale, quick_scale
from bench.certificates import make_certificate
from bench.errors import BenchError
from bench.machine import describe_machine
from bench.measuring import Measuring
from bench.native_programs import compile_programs
from bench.peers.base import Peer
from bench.peers.registry import all_peers
from bench.peers.vsproxy import NAME as OURS
from bench.processes import choose_cores, most_connections, raise_descriptor_limit
from bench.progress import Progress
from bench.report import write_report
from bench.results import Results, save
from bench.runner import Plan, Runner, make_directory, remove_directory
from bench.scenario import Scenario

_FULL_ROUNDS, _FULL_SECONDS, _FULL_WARM_UP_S = 5, 2.0, 1.0
_QUICK_ROUNDS, _QUICK_SECONDS, _QUICK_WARM_UP_S = 2, 0.2, 0.1


@dataclass(frozen=True)
class Wanted:
    """What the command line asks for."""

    quick: bool
    rounds: int
    seconds: float
    warm_up_s: float
    only: tuple[str, ...]
    peers: tuple[str, ...]
    python: str
    out: Path
    list_only: bool


def parse(arguments: Sequence[str] | None = None) -> Wanted:
    """Ends the program, as argparse does, if it cannot be understood."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="what can be seen in two minutes")
    parser.add_argument("--rounds", type=int, help=f"of each proxy in each scenario; default {_FULL_ROUNDS}")
    parser.add_argument("--seconds", type=float, help=f"of a round; default {_FULL_SECONDS:g}")
    parser.add_argument("--only", nargs="+", default=[], metavar="GLOB", help="scenarios, such as 'tls-*'")
    parser.add_argument("--peers", default="", metavar="A,B", help="proxies beside vsproxy; default: all")
    parser.add_argument("--python", default=sys.executable, help="interpreter for which vsproxy is installed")
    parser.add_argument(
        "--out", type=Path, default=Path("bench-results"), help="folder of results; default %(default)s"
    )
    parser.add_argument("--list", action="store_true", dest="list_only", help="name the scenarios and stop")
    given = parser.parse_args(arguments)
    quick = given.quick
    if (given.rounds is not None and given.rounds < 1) or (given.seconds is not None and given.seconds <= 0):
        parser.error("--rounds and --seconds are more than 0")
    return Wanted(
        quick=quick,
        rounds=given.rounds or (_QUICK_ROUNDS if quick else _FULL_ROUNDS),
        seconds=given.seconds or (_QUICK_SECONDS if quick else _FULL_SECONDS),
        warm_up_s=_QUICK_WARM_UP_S if quick else _FULL_WARM_UP_S,
        only=tuple(given.only),
        peers=tuple(name for name in given.peers.split(",") if name),
        python=given.python,
        out=given.out,
        list_only=given.list_only,
    )


def choose_scenarios(scenarios: Sequence[Scenario], wanted: Wanted) -> list[Scenario]:
    """Those asked for by name, else those of the mode. Raises BenchError if a pattern fits none."""
    for pattern in wanted.only:
        if not any(fnmatch.fnmatch(scenario.name, pattern) for scenario in scenarios):
            raise BenchError(f"no scenario is named {pattern}; --list names them")
    if wanted.only:
        return [one for one in scenarios if any(fnmatch.fnmatch(one.name, pattern) for pattern in wanted.only)]
    return [scenario for scenario in scenarios if scenario.quick or not wanted.quick]


def choose_peers(peers: Sequence[Peer], wanted: Wanted) -> tuple[tuple[Peer, ...], dict[str, str]]:
    """Those that run, and why the others asked for do not. Raises BenchError for a name that none has."""
    names = {peer.name for peer in peers}
    unknown = [name for name in wanted.peers if name not in names]
    if unknown:
        raise BenchError(f"no proxy is named {unknown[0]}; there are {', '.join(sorted(names))}")
    asked = [peer for peer in peers if not wanted.peers or peer.name in (*wanted.peers, OURS)]
    missing = {peer.name: "not installed" for peer in asked if peer.find() is None}
    return tuple(peer for peer in asked if peer.name not in missing), missing


def run(wanted: Wanted, console: Console) -> int:
    """The benchmark; 1 if something is void. Raises BenchError if it cannot begin."""
    descriptors = raise_descriptor_limit()
    most = most_connections(descriptors)
    scale = quick_scale(most) if wanted.quick else full_scale(most)
    scenarios = all_scenarios(scale)
    if wanted.list_only:
        for scenario in scenarios:
            console.print(f"{scenario.name:24} {scenario.title}: {scenario.heading}", highlight=False, soft_wrap=True)
        return 0
    chosen = choose_scenarios(scenarios, wanted)
    peers, missing = choose_peers(all_peers(wanted.python), wanted)
    versions = {peer.name: peer.version() for peer in peers} | dict(missing)
    cores = choose_cores()
    settings = {
        "rounds": f"{wanted.rounds} of {wanted.seconds:g} s",
        "mode": "quick" if wanted.quick else "full",
        "most connections": f"{scale.idle:,} idle, {scale.active:,} active, as the open files allow",
    }
    results = Results(describe_machine(cores, descriptors), versions, settings)
    wanted.out.mkdir(parents=True, exist_ok=True)
    path = wanted.out / "results.json"
    with _directory() as directory, _staying_on(cores.load):
        plan = Plan(
            peers=peers,
            missing=missing,
            measuring=Measuring(compile_programs(directory), cores, wanted.seconds),
            certificate=make_certificate(directory),
            directory=directory,
            rounds=wanted.rounds,
            warm_up_s=wanted.warm_up_s,
            most_connections=most,
        )
        return _measure(plan, chosen, results, path, console)


def _measure(plan: Plan, chosen: Sequence[Scenario], results: Results, path: Path, console: Console) -> int:
    interrupted = False
    try:
        with Progress(console, chosen, len(plan.peers), plan.rounds) as progress:
            Runner(plan, results, progress, lambda: save(results, path)).run(chosen)
    except KeyboardInterrupt:
        interrupted = True
    save(results, path)
    report = write_report(results, path.parent)
    console.print(report.read_text(), markup=False, highlight=False, soft_wrap=True)
    console.print(f"{path} and {report}", highlight=False, soft_wrap=True)
    for scenario, proxy, why in results.voids:
        console.print(f"VOID {scenario}, {proxy}: {why}", style="red", highlight=False, soft_wrap=True)
    return 1 if results.voids or interrupted else 0


@contextmanager
def _directory() -> Iterator[Path]:
    directory = make_directory()
    try:
        yield directory
    finally:
        remove_directory(directory)


@contextmanager
def _staying_on(core: int) -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0, or 1 if a result is void, or it was interrupted, or could not begin."""
    console = Console()
    # Proxies have sessions of their own: ended without this, it would leave them running.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return run(parse(arguments), console)
    except BenchError as error:
        Console(stderr=True).print(f"bench: {error}", style="red", highlight=False, soft_wrap=True)
        return 1
