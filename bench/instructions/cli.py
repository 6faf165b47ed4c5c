"""The command: counts, compares, says what it found."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.instructions import baseline
from bench.instructions.callgrind import count
from bench.instructions.catalogue import WORKLOADS
from bench.instructions.comparison import LIMIT, compare
from bench.instructions.errors import CannotCount
from bench.instructions.report import as_json, table, verdict
from bench.instructions.subject import key_of
from bench.instructions.workload import Workload

OK, GROWN, NOT_COUNTED = 0, 1, 2


def main(args: Sequence[str], workloads: Sequence[Workload] = WORKLOADS) -> int:
    """Returns 0, 1 if a workload has grown by more than the limit, 2 if nothing could be counted."""
    options = parser().parse_args(args)
    try:
        return run(options, workloads)
    except CannotCount as error:
        print(f"bench.instructions: {error}", file=sys.stderr)
        return NOT_COUNTED


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(
        prog="python -m bench.instructions",
        description="Count the instructions per request of a compiled vsproxy under valgrind, and compare them with "
        f"the baseline of the same Python, Cython and compiler. Fails when one has grown by more than {LIMIT:g} %.",
    )
    made.add_argument("--python", default=sys.executable, help="whose compiled vsproxy to count (default: this one's)")
    made.add_argument("--baseline", type=Path, default=baseline.COMMITTED, help="default: the committed one")
    made.add_argument("--update", action="store_true", help="make what is counted the baseline; never fails")
    made.add_argument("--json", action="store_true", help="print JSON")
    made.add_argument("--profiles", type=Path, help="keep the profiles in this folder, for callgrind_annotate")
    return made


def run(options: argparse.Namespace, workloads: Sequence[Workload]) -> int:
    """Count and compare. Raises `CannotCount`."""
    key = key_of(options.python)
    known = baseline.read(options.baseline)
    if options.profiles is not None:
        options.profiles.mkdir(parents=True, exist_ok=True)
    counted = count(options.python, workloads, options.profiles)
    comparison = compare(key, counted, known.get(key))
    print(json.dumps(as_json(comparison), indent=2) if options.json else table(comparison))
    if options.update:
        baseline.write(options.baseline, key, counted)
        print(f"This is now the baseline for {key}.", file=sys.stderr)
        return OK
    accept = f"{options.python} -m bench.instructions --update"
    print(verdict(comparison, accept), file=sys.stderr if options.json else sys.stdout)
    return GROWN if comparison.grown else OK
