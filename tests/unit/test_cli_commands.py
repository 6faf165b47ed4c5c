"""The commands that print and end: version, schema, help; and a file that cannot be served."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from vsproxy import cli
from vsproxy.config.model import Config
from vsproxy.version import VERSION, is_compiled
from vsproxy.wire import request


def test_version() -> None:
    result = CliRunner().invoke(cli.app, ["--version"])
    form = "compiled" if is_compiled() else "uncompiled"
    assert re.fullmatch(
        rf"vsproxy {re.escape(VERSION)} \({form}\), Python 3\.\d+\.\d+\S*, uvloop \d+\.\d+\.\d+\S*\n",
        result.output,
    )
    assert result.exit_code == 0


def test_the_form_is_that_of_the_parser() -> None:
    assert is_compiled() == (not request.__file__.endswith(".py"))


def test_the_version_is_that_of_the_package() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert project["version"] == VERSION


def test_schema() -> None:
    result = CliRunner().invoke(cli.app, ["schema"])
    schema = json.loads(result.output)
    assert result.exit_code == 0
    assert set(schema["properties"]) == set(Config.model_fields)


def test_without_arguments_the_help_is_shown() -> None:
    result = CliRunner().invoke(cli.app, [])
    assert result.exit_code == 2
    assert "--config" in result.output


def test_a_wrong_file_is_not_served(tmp_path: Path) -> None:
    file = tmp_path / "lb.toml"
    file.write_text('[[listeners]]\nbnd = ":0"\nvia = 1\n')
    result = CliRunner().invoke(cli.app, ["--config", str(file)])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert [line.split(": ")[1] for line in result.stderr.splitlines()] == [
        "listeners[0].bind",
        "listeners[0].bnd",
        "listeners[0].via",
    ]


def test_the_demo_gets_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []

    def run_demo(*options: object) -> int:
        seen.extend(options)
        return 7

    monkeypatch.setattr(cli, "run_demo", run_demo)
    result = CliRunner().invoke(cli.app, ["demo", "--port", "0", "--duration", "1.5", "--plain"])
    assert (result.exit_code, seen) == (7, [0, 1.5, True])
