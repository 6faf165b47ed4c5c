"""What the kernel says of a process of ours: time, memory, descriptors. Linux only, as vsproxy is.

See proc(5). Proportional memory is what `smaps_rollup` adds up, the one figure that costs something: about
0.6 ms for 40 MiB, during which the process can do all but map and unmap memory. It and the descriptors are
hidden from siblings if the interpreter has capabilities of its own (setcap).
"""

from __future__ import annotations

import os
import re
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = resource.getpagesize()
# Places in /proc/PID/stat, counted from the one after the name.
_USER, _SYSTEM, _START = 11, 12, 19
# Not from /proc/stat, which a sandbox may hide; once, so that a start stays put when the clock is set.
_BOOT = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
_PROPORTIONAL = re.compile(r"^Pss:\s+(\d+) kB$", re.MULTILINE)


class ProcessFigures(NamedTuple):
    """Times in seconds, memory in bytes, `start_time` in seconds since 1970. None: hidden from us."""

    user_seconds: float
    system_seconds: float
    resident_bytes: int
    proportional_bytes: int | None
    open_fds: int | None
    max_fds: int
    start_time: float


def read_figures(pid: int) -> ProcessFigures | None:
    """The figures of the process `pid`, of the same user; None if there is none, or no longer."""
    folder = Path(f"/proc/{pid}")
    try:
        # The name, in parentheses, may contain anything.
        places = (folder / "stat").read_text().rpartition(")")[2].split()
        return ProcessFigures(
            user_seconds=int(places[_USER]) / _TICKS,
            system_seconds=int(places[_SYSTEM]) / _TICKS,
            resident_bytes=int((folder / "statm").read_text().split()[1]) * _PAGE,
            proportional_bytes=_if_allowed(lambda: _proportional_bytes(folder / "smaps_rollup")),
            open_fds=_if_allowed(lambda: _open_fds(folder / "fd")),
            max_fds=resource.prlimit(pid, resource.RLIMIT_NOFILE)[0],
            start_time=_BOOT + int(places[_START]) / _TICKS,
        )
    except (FileNotFoundError, ProcessLookupError):
        return None


def _if_allowed(read: Callable[[], int]) -> int | None:
    try:
        return read()
    except PermissionError:
        return None


def _proportional_bytes(file: Path) -> int:
    match = _PROPORTIONAL.search(file.read_text())
    assert match is not None, f"{file} has no Pss"
    return int(match[1]) * 1024


def _open_fds(folder: Path) -> int:
    # Since Linux 6.2 the kernel says how many there are; before that it says 0.
    return folder.stat().st_size or len(os.listdir(folder))
