"""`vsproxy reload`: what it prints of a supervisor's answer, and its exit status."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pytest
from typer.testing import CliRunner

from support.supervising import Desk, Supervising, program_environment
from vsproxy import cli

PATIENCE = 20.0
MISTAKES = ["lb.toml:3: listeners[0].bnd: found it", "lb.toml:9: routes: found nothing"]
REFUSED = {"ok": False, "message": "not reloaded: 2 mistakes", "problems": MISTAKES, "notes": []}
NOTES = ["proxy.workers: needs a restart"]
DONE: dict[str, object] = {"ok": True, "message": "reloaded lb.toml", "problems": [], "notes": NOTES}


class Outcome(NamedTuple):
    exit_code: int
    stdout: str
    stderr: str


def run(*arguments: str) -> Outcome:
    """The command, in this process."""
    result = CliRunner().invoke(cli.app, ["reload", *arguments])
    return Outcome(result.exit_code, result.stdout, result.stderr)


def reloaded(desk: Desk, answer: dict[str, object], *arguments: str) -> Outcome:
    """What the command does if the supervisor gives `answer`."""
    with ThreadPoolExecutor() as threads:
        result = threads.submit(run, *arguments)
        call, request = desk.next_request()
        assert request == {"command": "reload"}
        call.reply(answer)
        return result.result(PATIENCE)


@pytest.mark.parametrize("option", ["--config", "-c"])
def test_it_was_reloaded(file: str, desk: Desk, option: str) -> None:
    result = reloaded(desk, DONE, option, file)
    assert result.stdout.splitlines() == [*NOTES, "reloaded lb.toml"]
    assert (result.exit_code, result.stderr) == (0, "")


def test_there_are_mistakes(file: str, desk: Desk) -> None:
    result = reloaded(desk, REFUSED, "--config", file)
    assert result.stderr.splitlines() == [*MISTAKES, "not reloaded: 2 mistakes"]
    assert (result.exit_code, result.stdout) == (2, "")


@pytest.mark.parametrize(
    "answer",
    [
        {"ok": False, "message": "cannot listen", "problems": [], "notes": []},
        {"ok": False, "message": "cannot listen"},
        {"ok": "true", "message": "cannot listen", "problems": "none", "notes": None},
    ],
)
def test_it_failed(file: str, desk: Desk, answer: dict[str, object]) -> None:
    result = reloaded(desk, answer, "--config", file)
    assert result.stderr == "cannot listen\n"
    assert (result.exit_code, result.stdout) == (1, "")


@pytest.mark.parametrize(("answer", "status"), [(DONE, 0), (REFUSED, 2)])
def test_as_json(file: str, desk: Desk, answer: dict[str, object], status: int) -> None:
    result = reloaded(desk, answer, "--config", file, "--json")
    assert json.loads(result.stdout) == {"file": file, **answer}
    assert (result.exit_code, result.stderr) == (status, "")


def test_nothing_runs(file: str) -> None:
    result = run("--config", file)
    assert result.stderr.startswith(f"{file}: no vsproxy runs with this file")
    assert (result.exit_code, result.stdout) == (1, "")
    result = run("--config", file, "--json")
    answer = json.loads(result.stdout)
    assert (answer["ok"], answer["problems"], answer["notes"]) == (False, [], [])
    assert answer["message"].startswith(f"{file}: no vsproxy runs with this file")
    assert (result.exit_code, result.stderr) == (1, "")


def test_there_is_no_answer_in_time(file: str, desk: Desk) -> None:
    result = run("--config", file, "--timeout", "0.1")
    assert "the outcome is unknown" in result.stderr
    assert result.exit_code == 1


@pytest.mark.parametrize("arguments", [[], ["--config", "lb.toml", "--timeout", "0"]])
def test_a_wrong_command_line(arguments: list[str]) -> None:
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")


def test_as_a_process(file: str) -> None:
    command = [sys.executable, "-P", "-m", "vsproxy", "reload", "--config", file]
    with Supervising(file, REFUSED):
        result = subprocess.run(
            command, capture_output=True, text=True, env=program_environment(), timeout=60, check=False
        )
    assert result.stderr.splitlines() == [*MISTAKES, "not reloaded: 2 mistakes"]
    assert (result.returncode, result.stdout) == (2, "")
