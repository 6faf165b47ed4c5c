"""Runs workloads under valgrind and reads what it counted.

callgrind writes a part of its profile whenever `sched_yield` is entered, which nothing but `bench.instructions.inside`
calls. A workload runs N times between two of these marks and 2 N times between the next two; the difference of
both parts is N requests and nothing else. Of several counts, as `inside` says, the least is taken.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.instructions.errors import CannotCount
from bench.instructions.inside import LAYOUTS
from bench.instructions.interpreter import command, environment
from bench.instructions.workload import Workload

#: N; few are enough, as each is the same.
REQUESTS = 100
#: Seconds; most of it is the start of Python, some fifty times slower than without valgrind.
PATIENCE = 600.0
# One is the alias of the other, and callgrind knows either.
_MARKS = ("sched_yield", "__sched_yield")
_TOTALS = re.compile(r"^totals: (\d+)", re.MULTILINE)


def count(python: str, workloads: Sequence[Workload], profiles: Path | None = None) -> dict[str, int]:
    """Instructions per request of each workload, by name. Raises `CannotCount`.

    With `profiles`, a folder that exists, the last profile of 2 N requests stays there under the name of the
    workload, for `callgrind_annotate --threshold=100`.
    """
    if shutil.which("valgrind") is None:
        raise CannotCount("valgrind is not installed: apt-get install valgrind")
    arguments = [str(REQUESTS), *(f"{workload.name}={workload.factory}" for workload in workloads)]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        processes = run([*valgrind(folder), *command(python, "bench.instructions.inside", *arguments)])
        counted = {}
        for name, pid in processes.items():
            pairs = parts(folder, name, pid)
            counted[name] = round(min(totals(twice) - totals(once) for once, twice in pairs) / REQUESTS)
            if profiles is not None:
                shutil.copyfile(pairs[-1][1], profiles / name)
    return counted


def run(counting: list[str]) -> dict[str, int]:
    """Run that command; the process of each workload. Raises `CannotCount`."""
    everything = [*fixed_layout(), *counting]
    try:
        output = subprocess.run(
            everything, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=PATIENCE, check=True,
        ).stdout  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise CannotCount(f"the workloads did not end within {PATIENCE:g} s") from error
    except subprocess.CalledProcessError as error:
        raise CannotCount(f"the workloads failed under valgrind:\n{error.stderr}") from error
    processes: dict[str, int] = json.loads(output)
    return processes


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


def parts(folder: Path, name: str, pid: int) -> list[tuple[Path, Path]]:
    """The profiles of N and of 2 N requests that the process of a workload has left. Raises `CannotCount`."""
    found = sorted(folder.glob(f"{pid}.*"), key=lambda part: int(part.suffix[1:]))
    if len(found) != 3 * LAYOUTS:
        raise CannotCount(f"{name}: {len(found)} parts of a profile instead of {3 * LAYOUTS}, one for each mark")
    # Of three, the first ends where the counting begins; what comes after the last mark has no number.
    return list(zip(found[1::3], found[2::3], strict=True))


def totals(part: Path) -> int:
    """All instructions of one part."""
    found = _TOTALS.search(part.read_text())
    if found is None:
        raise CannotCount(f"{part} is not a profile by callgrind")
    return int(found.group(1))
