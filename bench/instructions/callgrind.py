"""Runs workloads under valgrind and reads what it counted.

callgrind writes a part of its profile whenever `sched_yield` is entered, which nothing but `bench.instructions.inside`
calls. A workload runs N times between two of these marks and 2 N times between the next two; the difference of
both parts is N requests and nothing else.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from bench.instructions.errors import CannotCount
from bench.instructions.interpreter import command, environment
from bench.instructions.workload import Workload

#: N; few are enough, as each is the same.
REQUESTS = 200
#: Seconds; most of it is the start of Python, some fifty times slower than without valgrind.
PATIENCE = 600.0
# One is the alias of the other, and callgrind knows either.
_MARKS = ("sched_yield", "__sched_yield")
_TOTALS = re.compile(r"^totals: (\d+)", re.MULTILINE)


def count(python: str, workloads: Sequence[Workload], folder: Path) -> dict[str, int]:
    """Instructions per request of each workload, by name; profiles are left in `folder`.

    `callgrind_annotate` reads them: `folder`/NAME is 2 N requests. Raises `CannotCount`.
    """
    if shutil.which("valgrind") is None:
        raise CannotCount("valgrind is not installed: apt-get install valgrind")
    arguments = [str(REQUESTS), *(f"{workload.name}={workload.factory}" for workload in workloads)]
    result = subprocess.run(
        [*fixed_layout(), *valgrind(folder), *command(python, "bench.instructions.inside", *arguments)],
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    if result.returncode:
        raise CannotCount(f"the workloads failed under valgrind:\n{result.stderr}")
    processes: dict[str, int] = json.loads(result.stdout)
    return {name: per_request(folder, name, pid) for name, pid in processes.items()}


def valgrind(folder: Path) -> list[str]:
    """The command that counts what follows it."""
    marks = [f"--dump-before={mark}" for mark in _MARKS]
    return ["valgrind", "--tool=callgrind", "--quiet", f"--callgrind-out-file={folder}/%p", *marks]


def fixed_layout() -> list[str]:
    """The command that switches off the random layout of memory; nothing where that is forbidden.

    valgrind lays out memory by itself, and always in the same way: this is one thing less to depend on.
    """
    plain = ["setarch", "-R"]
    try:
        allowed = subprocess.run([*plain, "true"], capture_output=True, check=False).returncode == 0
    except OSError:
        return []
    return plain if allowed else []


def per_request(folder: Path, name: str, pid: int) -> int:
    """The count of one workload, from the parts that its process has left."""
    parts = sorted(folder.glob(f"{pid}.*"), key=lambda part: int(part.suffix[1:]))
    if len(parts) != 3:
        raise CannotCount(f"{name}: {len(parts)} parts of a profile instead of 3, one for each mark")
    _, once, twice = (totals(part) for part in parts)
    parts[2].rename(folder / name)
    return round((twice - once) / REQUESTS)


def totals(part: Path) -> int:
    """All instructions of one part."""
    found = _TOTALS.search(part.read_text())
    if found is None:
        raise CannotCount(f"{part} is not a profile by callgrind")
    return int(found.group(1))
