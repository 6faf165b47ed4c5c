"""Results of a benchmark, for tests of what is made of them."""

from __future__ import annotations

from bench.results import ProxyResult, Results, Sample, ScenarioResult


def measured(*values: float, busy: float = 0.99) -> ProxyResult:
    """One sample per value."""
    return ProxyResult(
        [
            Sample(
                value=value,
                units=1000,
                seconds=0.5,
                cpu_us=value,
                user_us=value / 4,
                system_us=value * 3 / 4,
                busy=busy,
                p50_us=100.0,
                p99_us=200.0,
                p999_us=300.0,
                peak_kib=2048,
            )
            for value in values
        ]
    )


def scenario(name: str, line: str | None = None, x: int | None = None, **proxies: ProxyResult) -> ScenarioResult:
    """One, of the given proxies."""
    return ScenarioResult(name, f"Title of {name}", "CPU µs per request", "request", line, x, None, dict(proxies))


def results(*scenarios: ScenarioResult) -> Results:
    """A run of them."""
    return Results(
        machine={"processor": "Some CPU", "kernel": "Linux 1"},
        versions={"vsproxy": "1 (compiled)", "nginx": "2"},
        settings={"rounds": "3"},
        scenarios=list(scenarios),
    )
