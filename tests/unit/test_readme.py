"""What README promises: its commands, files, dependencies and example are there."""

from __future__ import annotations

import ast
import inspect
import os
import re
import tomllib
from pathlib import Path

import pytest

from vsproxy import Config, Proxy

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
SCRIPTS = ("scripts/demo", "scripts/test", "scripts/bench", ".ci/run")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_it_opens_with_the_two_commands() -> None:
    commands = [line.split("#")[0].strip() for line in blocks("sh")[0].splitlines()]
    assert commands == ["scripts/demo", "scripts/test"]
    assert README.index(blocks("sh")[0]) < README.index("\n## ")


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_commands_can_be_run(script: str) -> None:
    path = ROOT / script
    assert os.access(path, os.X_OK)
    assert path.read_text().startswith("#!/usr/bin/env bash\n")


def test_ci_runs_the_second_command() -> None:
    assert "scripts/test" in (ROOT / ".ci" / "run").read_text()


def test_links_and_named_files_exist() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    named = re.findall(r"\b(?:examples|certs|docs|scripts|bench)/[\w.-]+\.(?:py|toml|md)", README)
    assert links
    assert named
    for target in {*links, *named}:
        assert (ROOT / target.split("#")[0]).exists(), target


def test_each_dependency_is_named_with_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {re.split(r"[><=~!\[ ]", entry)[0] for entry in project["dependencies"]}
    rows = re.findall(r"^\| ([\w, -]+?) \| (\w.*?) \|$", README, re.MULTILINE)
    named = {name for names, reason in rows for name in names.split(", ") if reason and name != "package"}
    assert named == wanted


def test_what_it_does_not_do_is_said() -> None:
    text = README.split("## What it does not do")[1]
    for word in ("cache", "compression", "static files", "HTTP/3", "HTTP/2", "worker"):
        assert word in text


def test_the_library_example_uses_what_exists() -> None:
    (code,) = blocks("python")
    compile(code, "README.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    for name in re.findall(r"\bproxy\.(\w+)", code):
        assert hasattr(Proxy, name) or f"self.{name}" in inspect.getsource(Proxy), name
    for name in re.findall(r"\bConfig\.(\w+)", code):
        assert hasattr(Config, name), name


def test_the_variables_of_the_guides_scenario_are_read() -> None:
    text = next(block for block in blocks("sh") if "examples/guide.toml" in block)
    given = {name for name, _ in re.findall(r"\b([A-Z][A-Z0-9]+)=(\S+)", text)}
    read = set(re.findall(r"\$\{(\w+)", (ROOT / "examples" / "guide.toml").read_text()))
    assert given
    assert given <= read
