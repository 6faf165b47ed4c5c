"""One round of one proxy."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from bench.cpu import CpuTime, cpu_time
from bench.errors import VoidError
from bench.h2load import run_h2load
from bench.load import Answered, Load, RunningLoad
from bench.memory import PeakMemory, own_kib, pss_kib
from bench.native_programs import Programs
from bench.processes import Cores
from bench.results import Sample
from bench.running_proxy import RunningProxy
from bench.scenario import Figure, Kind, Scenario

_GIB = 1024**3
# After the last connection was opened, until memory is looked at.
_SETTLE_S = 0.5
# Each of the rest was done once before memory is looked at the first time.
_ORDINARY_CONNECTIONS = 64


@dataclass(frozen=True)
class Measuring:
    """What every round needs. `rate` is the open loop's, in requests per second."""

    programs: Programs
    cores: Cores
    seconds: float
    rate: float = 0.0

    def warm_up(self, scenario: Scenario, proxy: RunningProxy, seconds: float) -> None:
        """Raises VoidError, as all of these, if something is answered wrongly or not at all."""
        if scenario.kind is Kind.HTTP2:
            run_h2load(self.cores.load, proxy.setup.port, scenario.load, 1000)
        elif scenario.load.size < _GIB // 16 and not scenario.load.upload:
            connections = scenario.load.connections
            if scenario.kind is Kind.IDLE:
                connections = min(connections, _ORDINARY_CONNECTIONS)
            # Less for a short round; there are many of them.
            load = replace(scenario.load, seconds=seconds * (scenario.length or 1), count=0, connections=connections)
            self._run(load, proxy)

    def sample(self, scenario: Scenario, proxy: RunningProxy) -> Sample:
        """One round."""
        if scenario.kind is Kind.IDLE:
            return self._idle(scenario, proxy)
        if scenario.kind is Kind.HTTP2:
            return self._http2(scenario, proxy)
        rate = self.rate if scenario.kind is Kind.OPEN else 0.0
        load = replace(scenario.load, seconds=self.seconds * scenario.length, rate=rate)
        answered, cpu, peak = self._run(load, proxy)
        return to_sample(scenario, answered, cpu, peak)

    def highest_rate(self, scenario: Scenario, proxy: RunningProxy, seconds: float) -> float:
        """Requests per second, when each connection goes as fast as it is answered."""
        answered, _, _ = self._run(replace(scenario.load, seconds=seconds), proxy)
        return answered.requests / answered.seconds

    def _run(self, load: Load, proxy: RunningProxy) -> tuple[Answered, CpuTime, int]:
        with RunningLoad(self.programs.load, self.cores.load, proxy.setup.port, load) as running:
            running.wait_ready()
            with PeakMemory(proxy.pid) as peak:
                before = _cpu_time(proxy)
                answered = running.go()
                used = _cpu_time(proxy).since(before)
        _expect_alive(proxy)
        return answered, used, peak.kib

    def _idle(self, scenario: Scenario, proxy: RunningProxy) -> Sample:
        before = own_kib(proxy.pid)
        with RunningLoad(self.programs.load, self.cores.load, proxy.setup.port, scenario.load) as running:
            running.wait_ready()
            time.sleep(_SETTLE_S)
            after, all_of_it = own_kib(proxy.pid), pss_kib(proxy.pid)
            running.stop()
        count = scenario.load.connections
        _expect_alive(proxy)
        return Sample(value=(after - before) / count, units=count, seconds=_SETTLE_S, peak_kib=all_of_it)

    def _http2(self, scenario: Scenario, proxy: RunningProxy) -> Sample:
        load, core, port = scenario.load, self.cores.load, proxy.setup.port
        short = run_h2load(core, port, load, 1000)
        count = max(1000, int(short.requests / short.seconds * self.seconds))
        with PeakMemory(proxy.pid) as peak:
            before = _cpu_time(proxy)
            answered = run_h2load(core, port, load, count)
            used = _cpu_time(proxy).since(before)
        _expect_alive(proxy)
        return to_sample(scenario, answered, used, peak.kib)


def _expect_alive(proxy: RunningProxy) -> None:
    """Its children may go on without it, and nobody would count what they do."""
    if not proxy.process.alive:
        raise VoidError(f"it ended: {proxy.process.last_words()}")


def _cpu_time(proxy: RunningProxy) -> CpuTime:
    try:
        return cpu_time(proxy.pid)
    except FileNotFoundError as error:
        raise VoidError(f"it ended: {proxy.process.last_words()}") from error


def to_sample(scenario: Scenario, answered: Answered, cpu: CpuTime, peak_kib: int) -> Sample:
    """Figures per request, message or GiB; processor time over wall time is how busy its core was."""
    if not answered.requests:
        raise VoidError("nothing was answered")
    each = cpu.total_ns / answered.requests / 1000
    value = each
    if scenario.figure is Figure.CPU_MS_PER_GIB:
        moved = max(scenario.load.size, scenario.load.upload)
        value = each / 1000 * _GIB / moved
    elif scenario.figure is Figure.P99_US:
        value = answered.p99_us
    return Sample(
        value=value,
        units=answered.requests,
        seconds=answered.seconds,
        cpu_us=each,
        user_us=cpu.user_ns / answered.requests / 1000,
        system_us=cpu.system_ns / answered.requests / 1000,
        busy=cpu.total_ns / 1e9 / answered.seconds / scenario.workers,
        p50_us=answered.p50_us,
        p99_us=answered.p99_us,
        p999_us=answered.p999_us,
        peak_kib=peak_kib,
    )
