"""Instructions counted by valgrind: the same twice, and more when there is more to do. Some 15 s per count."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from bench.instructions import baseline
from bench.instructions.callgrind import run
from bench.instructions.catalogue import WORKLOADS
from bench.instructions.cli import GROWN, NOT_COUNTED, OK, main
from bench.instructions.errors import CannotCount
from bench.instructions.interpreter import command
from bench.instructions.workload import Workload
from vsproxy.version import is_compiled

TESTS = Path(__file__).parents[1]
BARE = next(workload for workload in WORKLOADS if workload.name == "head-bare")


@pytest.mark.skipif(not is_compiled(), reason="the compiled form is counted: the run on the wheel has it")
@pytest.mark.timeout(600)
def test_the_same_is_counted_twice_and_a_slower_one_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(TESTS), prepend=os.pathsep)
    path = tmp_path / "baseline.json"
    assert main(["--update", "--baseline", str(path)], [BARE]) == OK, capsys.readouterr().err
    ((key, figures),) = baseline.read(path).items()
    baseline.write(path, key, {"head-bare": figures["head-bare"], "slowed": figures["head-bare"]})
    capsys.readouterr()

    workloads = [BARE, Workload("slowed", "support.slowed:twice")]
    assert main(["--json", "--baseline", str(path), "--profiles", str(tmp_path)], workloads) == GROWN
    output = capsys.readouterr()
    found = json.loads(output.out)
    assert found["key"] == key
    assert found["grown"] == ["slowed"]
    assert abs(found["workloads"]["head-bare"]["change"]) < 1
    assert 90 < found["workloads"]["slowed"]["change"] < 150
    assert "FAILED: slowed went from " in output.err
    assert "head-bare" not in output.err
    # The profile names functions of the workload alone: it begins with the mark.
    profile = (tmp_path / "slowed").read_text()
    assert "RequestParser" in profile


# Without valgrind the marks have no effect, and either form will do.


def inside(*workloads: Workload) -> list[str]:
    arguments = [f"{workload.name}={workload.factory}" for workload in workloads]
    return command(sys.executable, "bench.instructions.inside", "30", *arguments)


def test_every_workload_can_be_repeated() -> None:
    assert list(run(inside(*WORKLOADS))) == [workload.name for workload in WORKLOADS]


def test_a_workload_that_fails_is_no_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(TESTS), prepend=os.pathsep)
    with pytest.raises(CannotCount, match=r"(?s)there is nothing to count.*workload broken failed"):
        run(inside(BARE, Workload("broken", "support.slowed:broken")))


@pytest.mark.skipif(is_compiled(), reason="the run on the source tree has it")
def test_the_uncompiled_form_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == NOT_COUNTED
    assert "is not compiled, and only the compiled form is counted" in capsys.readouterr().err
