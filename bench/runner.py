"""Scenarios one after the other, and in each the proxies in turn: A B C, A B C, ..."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from bench.equivalence import check_forwarded
from bench.errors import BenchError
from bench.measuring import Measuring
from bench.peers.base import Certificate, Peer, Setup
from bench.processes import Process, free_ports
from bench.progress import Progress
from bench.results import ProxyResult, Results, ScenarioResult
from bench.running_proxy import RunningProxy
from bench.scenario import Kind, Scenario
from bench.servers import server_addresses, start_servers

Proxies = dict[str, RunningProxy]


@dataclass(frozen=True)
class Plan:
    """What is the same for all scenarios of a run. `missing`: peers that are not installed, with the reason."""

    peers: tuple[Peer, ...]
    missing: dict[str, str]
    measuring: Measuring
    certificate: Certificate
    directory: Path
    rounds: int
    warm_up_s: float
    most_connections: int


class Runner:
    """Fills `results`, and calls `keep` after each scenario, so that what is done is not lost."""

    def __init__(self, plan: Plan, results: Results, progress: Progress, keep: Callable[[], None]) -> None:
        self._plan = plan
        self._results = results
        self._progress = progress
        self._keep = keep

    def run(self, scenarios: Sequence[Scenario]) -> None:
        """All of them; what fails is void, and the next one runs."""
        for scenario in scenarios:
            result = self._begin(scenario)
            self._results.scenarios.append(result)
            with tempfile.TemporaryDirectory(prefix=f"{scenario.name}-", dir=self._plan.directory) as directory:
                self._run(scenario, result, Path(directory))
            self._progress.done(result)
            self._keep()

    def _begin(self, scenario: Scenario) -> ScenarioResult:
        line = scenario.line
        result = ScenarioResult(
            name=scenario.name,
            title=scenario.title,
            heading=scenario.heading,
            unit=scenario.unit,
            line=line.name if line else None,
            x=line.x if line else None,
        )
        for name, why in self._plan.missing.items():
            result.proxies[name] = ProxyResult(skipped=why)
        for peer in self._plan.peers:
            result.proxies[peer.name] = ProxyResult(skipped=peer.cannot(self._setup(scenario, Path(), 0, ())))
        return result

    def _run(self, scenario: Scenario, result: ScenarioResult, directory: Path) -> None:
        plan = self._plan
        addresses = server_addresses(scenario.servers)
        measuring = plan.measuring
        servers = start_servers(measuring.programs, measuring.cores.load, directory, addresses, scenario.announce)
        with _stopping(servers):
            scene = _Scene(plan, scenario, result, self._progress)
            peers = [peer for peer in plan.peers if result.proxies[peer.name].skipped is None]
            ports = free_ports(len(peers))
            setups = {
                peer.name: self._setup(scenario, _folder(directory, peer.name), port, addresses)
                for peer, port in zip(peers, ports, strict=True)
            }
            if scenario.fresh:
                scene.run_fresh(peers, setups)
            else:
                scene.run_together(peers, setups)

    def _setup(self, scenario: Scenario, directory: Path, port: int, addresses: tuple[str, ...]) -> Setup:
        return Setup(
            directory=directory,
            port=port,
            servers=addresses,
            most_connections=self._plan.most_connections,
            keepalive=scenario.keepalive,
            certificate=self._plan.certificate if scenario.tls else None,
            http2=scenario.http2,
            access_log=scenario.access_log,
            routes=scenario.routes,
            workers=scenario.workers,
        )


class _Scene:
    """One scenario, with its servers running."""

    def __init__(self, plan: Plan, scenario: Scenario, result: ScenarioResult, progress: Progress) -> None:
        self._plan = plan
        self._scenario = scenario
        self._result = result
        self._progress = progress
        self._measuring = plan.measuring

    def run_together(self, peers: list[Peer], setups: dict[str, Setup]) -> None:
        """All are running, and one at a time has something to do."""
        with ExitStack() as stack:
            proxies = self._start(peers, setups, stack)
            for name, proxy in proxies.items():
                with self._voiding(name):
                    self._warm_up(proxy)
            if self._scenario.kind is Kind.OPEN:
                self._find_rate(proxies)
            for number in range(self._plan.rounds):
                for name, proxy in proxies.items():
                    self._sample(name, proxy, number)

    def run_fresh(self, peers: list[Peer], setups: dict[str, Setup]) -> None:
        """Each starts anew for each round."""
        for number in range(self._plan.rounds):
            for peer in peers:
                if self._result.proxies[peer.name].void is not None:
                    continue
                with ExitStack() as stack:
                    for name, proxy in self._start([peer], setups, stack).items():
                        with self._voiding(name):
                            self._warm_up(proxy)
                        self._sample(name, proxy, number)

    def _start(self, peers: list[Peer], setups: dict[str, Setup], stack: ExitStack) -> Proxies:
        proxies: Proxies = {}
        for peer in peers:
            with self._voiding(peer.name):
                proxy = RunningProxy(peer, setups[peer.name], self._measuring.cores)
                stack.enter_context(_stopping(proxy.process))
                proxies[peer.name] = proxy
        for name, proxy in proxies.items():
            with self._voiding(name):
                proxy.wait()
        return proxies

    def _warm_up(self, proxy: RunningProxy) -> None:
        self._progress.show(self._scenario, proxy.peer.name, "warm-up")
        check_forwarded(proxy.setup)
        self._measuring.warm_up(self._scenario, proxy, self._plan.warm_up_s)

    def _sample(self, name: str, proxy: RunningProxy, number: int) -> None:
        result = self._result.proxies[name]
        if result.void is None:
            self._progress.show(self._scenario, name, f"round {number + 1} of {self._plan.rounds}")
            with self._voiding(name):
                result.samples.append(self._measuring.sample(self._scenario, proxy))
        self._progress.advance()

    def _find_rate(self, proxies: Proxies) -> None:
        found: dict[str, float] = {}
        for name, proxy in proxies.items():
            with self._voiding(name):
                seconds = self._measuring.seconds
                found[name] = self._measuring.highest_rate(self._scenario, proxy, seconds)
        if not found:
            return
        slowest = min(found, key=lambda name: found[name])
        rate = found[slowest] / 2
        self._measuring = replace(self._measuring, rate=rate)
        self._result.note = f"{rate:,.0f} requests per second, half of what {slowest} can do"

    @contextmanager
    def _voiding(self, name: str) -> Iterator[None]:
        """What goes wrong in here makes the proxy's result void, and the others go on."""
        result = self._result.proxies[name]
        try:
            yield
        except (BenchError, OSError) as error:
            result.void = result.void or str(error)
            self._progress.say(f"{self._scenario.name}: {name} is void: {error}")


@contextmanager
def _stopping(process: Process) -> Iterator[None]:
    try:
        yield
    finally:
        process.stop()


def _folder(directory: Path, name: str) -> Path:
    path = directory / name
    path.mkdir()
    return path


def make_directory() -> Path:
    """For configurations and logs of the run; `remove_directory` at its end."""
    return Path(tempfile.mkdtemp(prefix="vsproxy-bench-"))


def remove_directory(directory: Path) -> None:
    """With all in it."""
    shutil.rmtree(directory)
