"""The metrics of processes: what each of them takes of the machine."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from vsproxy.metrics.families import Family, Table, label_text
from vsproxy.metrics.sources import ProcessSource
from vsproxy.process_figures import ProcessFigures, read_figures


class _Process(NamedTuple):
    source: ProcessSource
    figures: ProcessFigures


def process_families(processes: Sequence[ProcessSource]) -> Iterator[Family]:
    """Every metric with the label process. A process that is down has no figures."""
    table = Table[ProcessSource](
        "vsproxy_process", [(label_text(process=process.name), process) for process in processes]
    )
    alive = [(process, read_figures(process.pid)) for process in processes if process.pid]
    known = {process.name: figures for process, figures in alive if figures is not None}
    yield table.gauge("up", "1 while the process is there, else 0.", lambda process: process.name in known)
    yield table.counter("restarts", "How often the process was replaced.", lambda process: process.restarts)
    yield table.gauge("heartbeat_timestamp_seconds", "When the process last said that it lives.", _heartbeat)
    yield from _figures(
        Table("vsproxy_process", [(label_text(process=name), figures) for name, figures in known.items()])
    )


def _heartbeat(process: ProcessSource) -> float | None:
    return None if process.heartbeat_age is None else time.time() - process.heartbeat_age


def _figures(table: Table[ProcessFigures]) -> Iterator[Family]:
    yield table.counter_by(
        "mode", "cpu_seconds", "Processor time, in the process (user) and in the kernel for it (system).",
        lambda figures: {"user": figures.user_seconds, "system": figures.system_seconds},
    )  # fmt: skip
    yield table.gauge(
        "resident_memory_bytes", "Memory in use; what processes share is counted in each.",
        lambda figures: figures.resident_bytes,
    )  # fmt: skip
    yield table.gauge(
        "proportional_memory_bytes", "Memory in use; what processes share is divided among them.",
        lambda figures: figures.proportional_bytes,
    )  # fmt: skip
    yield table.gauge("open_fds", "Descriptors open.", lambda figures: figures.open_fds)
    yield table.gauge("max_fds", "Descriptors that may be open.", lambda figures: figures.max_fds)
    yield table.gauge(
        "start_time_seconds", "When the process was started.", lambda figures: figures.start_time
    )
