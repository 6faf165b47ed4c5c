"""How many processors this process may use: what `workers = "auto"` means."""

from __future__ import annotations

import math
import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_OWN_GROUP = Path("/proc/self/cgroup")


def usable_cpus() -> int:
    """The processors of the affinity mask, or fewer if a control group's quota (cgroups(7)) allows less."""
    affinity = len(os.sched_getaffinity(0))
    return max(1, min([affinity, *(math.ceil(quota) for quota in _quotas(_CGROUP, _OWN_GROUP))]))


def _quotas(root: Path, own_group: Path) -> list[float]:
    """The quotas in force, in processors: of version 2 for our group and all above it, or of version 1."""
    found = []
    group = root / _group_path(own_group).lstrip("/")
    while group.is_relative_to(root):
        quota = _read(group / "cpu.max").split()
        if len(quota) == 2 and quota[0].isdecimal():
            found.append(int(quota[0]) / int(quota[1]))
        if group == root:
            break
        group = group.parent
    quota_us, period_us = (_read(root / "cpu" / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period"))
    if quota_us.isdecimal() and period_us.isdecimal() and int(period_us):
        found.append(int(quota_us) / int(period_us))
    return found


def _group_path(own_group: Path) -> str:
    for line in _read(own_group).splitlines():
        if line.startswith("0::"):
            return line[3:]
    return "/"


def _read(path: Path) -> str:
    """The file's text; empty if it is not there, as on systems without control groups."""
    try:
        return path.read_text()
    except OSError:
        return ""
