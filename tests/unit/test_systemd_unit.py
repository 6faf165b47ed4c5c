"""The unit for systemd: its commands are the package's, its times fit together, systemd understands it."""

from __future__ import annotations

import inspect
import re
import shlex
import shutil
import stat
import subprocess
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from vsproxy import cli, remote
from vsproxy.config.model import ProxySection

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "deploy" / "systemd" / "vsproxy.service"
ANALYZE = shutil.which("systemd-analyze")

Sections = dict[str, dict[str, list[str]]]


def parse(text: str) -> Sections:
    """Each section's keys with the values in their order (systemd.syntax(7); no line is continued)."""
    sections: Sections = {}
    for line in text.splitlines():
        if not line or line[0] in "#;":
            continue
        if found := re.fullmatch(r"\[(\w+)\]", line):
            section = sections.setdefault(found[1], {})
        else:
            key, value = re.fullmatch(r"(\w+)=(.*[^\\])", line).groups()  # type: ignore[union-attr]
            section.setdefault(key, []).append(value)
    return sections


@pytest.fixture(scope="module")
def sections() -> Sections:
    return parse(UNIT.read_text())


@pytest.fixture(scope="module")
def service(sections: Sections) -> dict[str, str]:
    """The keys of [Service] that stand there once."""
    return {key: values[0] for key, values in sections["Service"].items() if len(values) == 1}


def test_only_a_list_is_given_twice(sections: Sections) -> None:
    assert set(sections) == {"Unit", "Service", "Install"}
    twice = {key for keys in sections.values() for key, values in keys.items() if len(values) > 1}
    assert twice == {"SystemCallFilter"}


def test_the_commands_are_those_of_the_package(service: dict[str, str]) -> None:
    start, reload = shlex.split(service["ExecStart"]), shlex.split(service["ExecReload"])
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert start[0] == reload[0]
    assert Path(start[0]).is_absolute()
    assert Path(start[0]).name in project["scripts"]
    assert start[1:] == ["--config", "/etc/vsproxy/lb.toml"]
    assert reload[1:] == ["reload", *start[1:]]
    # They are understood: not the exit status of a wrong command line.
    result = CliRunner().invoke(cli.app, reload[1:])
    assert (result.exit_code, result.stderr.split(":")[0]) == (1, start[2])


def test_a_reload_is_waited_for_and_reported(service: dict[str, str]) -> None:
    """systemd 252 takes notify-reload for a mistake, and goes on as if there were no Type."""
    assert (service["Type"], service["NotifyAccess"]) == ("notify", "main")
    asked = inspect.signature(cli.reload).parameters["timeout"].default
    assert int(service["TimeoutStartSec"]) > asked


def test_the_stop_has_the_time_that_it_needs(service: dict[str, str]) -> None:
    default = ProxySection().shutdown_timeout
    assert int(service["TimeoutStopSec"]) >= default + 5
    assert service["KillMode"] == "mixed"


def test_it_is_started_again_unless_the_file_is_wrong(sections: Sections, service: dict[str, str]) -> None:
    assert service["Restart"] == "on-failure"
    assert int(service["RestartPreventExitStatus"]) == cli.WRONG
    assert sections["Unit"]["StartLimitIntervalSec"] == ["0"]
    assert float(service["RestartSec"]) > 0
    assert int(service["WatchdogSec"]) >= 10
    assert service["OOMPolicy"] == "continue"


def test_it_does_not_run_as_root(service: dict[str, str]) -> None:
    assert service["User"] == service["Group"] == remote.ACCOUNT
    assert f"\nUSER {remote.ACCOUNT}\n" in (ROOT / "Dockerfile").read_text()
    assert service["AmbientCapabilities"] == service["CapabilityBoundingSet"] == "CAP_NET_BIND_SERVICE"
    assert service["NoNewPrivileges"] == "yes"
    assert service["ProtectSystem"] == "strict"


def test_what_it_needs_is_let_through(sections: Sections, service: dict[str, str]) -> None:
    families = set(service["RestrictAddressFamilies"].split())
    assert {"AF_INET", "AF_INET6", "AF_UNIX"} <= families
    assert sections["Service"]["SystemCallFilter"][0] == "@system-service"
    # The limits on descriptors and the cgroup's share of processors are read there.
    assert "ProcSubset" not in service
    assert int(service["LimitNOFILE"]) >= 100_000
    config = Path(shlex.split(service["ExecStart"])[2])
    assert config.parent == Path("/etc") / service["ConfigurationDirectory"]


def test_the_instructions_name_what_is_there() -> None:
    text = UNIT.read_text()
    named = re.findall(r"\b(?:examples|deploy|tests)/[\w./-]+\.\w+", text)
    assert {str(UNIT.relative_to(ROOT)), "examples/lb.toml"} <= set(named)
    for name in named:
        assert (ROOT / name).exists(), name
    venv = Path(shlex.split(parse(text)["Service"]["ExecStart"][0])[0]).parents[1]
    assert f"python3 -m venv {venv} && {venv}/bin/pip install ." in text
    assert f"useradd --system --no-create-home --shell /usr/sbin/nologin {remote.ACCOUNT}" in text


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The unit in a folder of its own, with a program where it says there is one."""
    program = tmp_path / "vsproxy"
    program.write_text("#!/bin/sh\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/vsproxy/bin/vsproxy ", f"{program} "))
    return unit


def analyzed(*arguments: str) -> subprocess.CompletedProcess[str]:
    assert ANALYZE
    return subprocess.run([ANALYZE, *arguments], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed; the other tests read the unit")
class TestSystemd:
    def test_it_understands_every_line(self, installed: Path) -> None:
        result = analyzed("verify", "--man=no", str(installed))
        # It also names faults of other units that are installed.
        complaints = [line for line in result.stderr.splitlines() if installed.name in line]
        assert complaints == []

    def test_it_would_have_complained(self, installed: Path) -> None:
        installed.write_text(installed.read_text().replace("KillMode=mixed", "KillMode=mix\nKilMode=mixed"))
        complaints = analyzed("verify", "--man=no", str(installed)).stderr
        assert "mix" in complaints
        assert "KilMode" in complaints

    def test_it_finds_little_exposed(self, installed: Path) -> None:
        result = analyzed("security", "--offline=yes", "--threshold=20", str(installed))
        assert "Overall exposure level" in result.stdout, result.stderr
        assert result.returncode == 0, result.stdout
