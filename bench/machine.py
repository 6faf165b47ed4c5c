"""What this machine is, for the report."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from bench.processes import Cores


def describe_machine(cores: Cores, descriptors: int) -> dict[str, str]:
    """Of processor, memory, kernel and limits, as text to be read."""
    return {
        "processor": _processor(),
        "cores": f"{os.cpu_count()}; the proxy on {cores.proxy}, load and servers on {cores.load}",
        "memory": f"{_memory_gib():.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "open files": f"{descriptors:,}",
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model"):
            return value.strip()
    return platform.machine()


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
