"""Processor time of a process and all that it has started, in the scheduler's nanoseconds."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

# The kernel's clock of all threads of a process, the ended ones too: a complement of its id, and CPUCLOCK_SCHED.
# It counts up to now, where /proc/PID/task/*/schedstat is up to a tick behind for who is running.
_CPUCLOCK_SCHED = 2
_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class CpuTime:
    """Nanoseconds; the split into user and system is made by the kernel's ticks, their sum is exact."""

    total_ns: int
    user_ns: int
    system_ns: int

    def since(self, before: CpuTime) -> CpuTime:
        """What was used in between."""
        total = self.total_ns - before.total_ns
        user = self.user_ns - before.user_ns
        system = self.system_ns - before.system_ns
        share = user / (user + system) if user + system > 0 else 0.5
        return CpuTime(total, round(total * share), total - round(total * share))


def family(pid: int) -> tuple[int, ...]:
    """The process and its descendants, as far as they live. Raises FileNotFoundError if `pid` does not."""
    found = [pid]
    for thread in Path(f"/proc/{pid}/task").iterdir():
        try:
            children = (thread / "children").read_text().split()
        except FileNotFoundError:
            continue  # The thread has ended; who it started is another one's child by now.
        for child in children:
            try:
                found.extend(family(int(child)))
            except FileNotFoundError:
                continue  # Ended meanwhile: its parent has its time.
    return tuple(found)


def cpu_time(pid: int) -> CpuTime:
    """Of the family, with what its ended children have used, as far as they were waited for.

    Raises FileNotFoundError if `pid` does not live.
    """
    total = user = system = 0
    for member in family(pid):
        try:
            used, (own_user, own_system, ended_user, ended_system) = _clock(member), _ticks(member)
        except (FileNotFoundError, ProcessLookupError):
            continue  # As in family().
        total += used + ended_user + ended_system
        user += own_user + ended_user
        system += own_system + ended_system
    return CpuTime(total, user, system)


def _clock(pid: int) -> int:
    try:
        return time.clock_gettime_ns((~pid << 3) | _CPUCLOCK_SCHED)
    except OSError as error:
        raise ProcessLookupError(pid) from error


def _ticks(pid: int) -> tuple[int, int, int, int]:
    """User and system time of it, and of its ended children, in nanoseconds."""
    # The name may have blanks and brackets in it; what follows has not.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    user, system, ended_user, ended_system = (int(field) * _TICK_NS for field in fields[11:15])
    return user, system, ended_user, ended_system
