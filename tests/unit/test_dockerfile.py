"""No container engine runs where these tests do, so each path, command and port of the Dockerfile is looked at."""

from __future__ import annotations

import ast
import fnmatch
import json
import re
import shlex
import signal
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from vsproxy import Config

ROOT = Path(__file__).parents[2]
IMAGE_CONFIG = ROOT / "deploy" / "docker" / "lb.toml"


@dataclass
class Stage:
    """One FROM and what follows it, as (instruction, arguments)."""

    base: str
    name: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def arguments(self, instruction: str) -> list[str]:
        return [arguments for name, arguments in self.steps if name == instruction]

    def only(self, instruction: str) -> str:
        (arguments,) = self.arguments(instruction)
        return arguments


def parse(text: str) -> list[Stage]:
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    stages: list[Stage] = []
    for line in re.sub(r"\\\n\s*", "", lines).splitlines():
        if not line.strip():
            continue
        instruction, arguments = line.split(None, 1)
        if instruction == "FROM":
            base, *name = arguments.split()
            stages.append(Stage(base, name[1] if name else ""))
        else:
            stages[-1].steps.append((instruction, arguments))
    return stages


@pytest.fixture(scope="module")
def stages() -> list[Stage]:
    return parse((ROOT / "Dockerfile").read_text())


@pytest.fixture(scope="module")
def runtime(stages: list[Stage]) -> Stage:
    return stages[-1]


@pytest.fixture(scope="module")
def config() -> Config:
    return Config.load(IMAGE_CONFIG, environ={})


def project() -> dict[str, object]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def copied(stage: Stage) -> list[tuple[str, str]]:
    """(source in the repository, destination) of each COPY."""
    pairs = []
    for arguments in stage.arguments("COPY"):
        *sources, destination = arguments.split()
        pairs += [(source, destination) for source in sources]
    return pairs


def test_both_stages_use_the_same_python(stages: list[Stage]) -> None:
    assert [stage.base for stage in stages] == ["python:3.13-slim"] * 2
    assert stages[0].name == "build"


def test_each_source_exists_and_is_let_through_by_dockerignore(stages: list[Stage]) -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    sources = [source.rstrip("/") for stage in stages for source, _ in copied(stage)]
    assert sources
    for source in sources:
        # Where the tests run on an installed package, vsproxy/ is kept out of their folder.
        assert (ROOT / source).exists() or source == "vsproxy"
        assert source in kept
    assert kept == set(sources)


def test_the_build_sees_all_that_pyproject_names(stages: list[Stage]) -> None:
    sources = {source.rstrip("/") for source, _ in copied(stages[0])}
    names = {"pyproject.toml", "setup.py", "vsproxy", str(project()["readme"])}
    licenses = project()["license-files"]
    assert isinstance(licenses, list)
    for pattern in licenses:
        assert fnmatch.filter(sources, pattern)
    assert names <= sources
    assert "VSPROXY_UNCOMPILED" not in (ROOT / "Dockerfile").read_text()


def test_the_wheels_built_are_the_wheels_installed(stages: list[Stage]) -> None:
    build, runtime = stages
    assert build.only("WORKDIR") == "/src"
    assert build.arguments("RUN")[-1] == "pip wheel --wheel-dir /wheels ."
    install = shlex.split(runtime.arguments("RUN")[0])
    assert install[0] == f"--mount=type=bind,from={build.name},source=/wheels,target=/wheels"
    assert install[install.index("--find-links") + 1] == "/wheels"
    assert project()["name"] in install


def test_the_entry_point_is_a_command_of_the_package(runtime: Stage) -> None:
    command = json.loads(runtime.only("ENTRYPOINT"))
    scripts = project()["scripts"]
    assert isinstance(scripts, dict)
    assert command[0] in scripts
    module, _, function = scripts[command[0]].partition(":")
    namespace = __import__(module, fromlist=[function])
    assert callable(getattr(namespace, function))
    assert command[1] == "--config"
    assert dict(copied(runtime)) == {str(IMAGE_CONFIG.relative_to(ROOT)): command[2]}
    assert command[2] == "/etc/vsproxy/lb.toml"


def test_the_image_does_not_run_as_root(runtime: Stage) -> None:
    user = runtime.only("USER")
    assert user not in ("root", "0")
    created = shlex.split(runtime.arguments("RUN")[-1])
    assert created[0] == "useradd"
    assert created[-1] == user
    steps = [name for name, _ in runtime.steps]
    assert steps.index("USER") > max(index for index, name in enumerate(steps) if name == "RUN")


def test_the_exposed_ports_are_those_of_the_configuration(runtime: Stage, config: Config) -> None:
    exposed = {int(port) for port in runtime.only("EXPOSE").split()}
    text = IMAGE_CONFIG.read_text()
    offered = {int(port) for port in re.findall(r'^# bind = "0\.0\.0\.0:(\d+)"', text, re.MULTILINE)}
    assert exposed == {listener.bind.port for listener in config.listeners} | offered == {80, 443}


def test_the_https_listener_is_right_once_the_marks_are_off() -> None:
    text = re.sub(r"^# (\[\[listeners|bind|tls)", r"\1", IMAGE_CONFIG.read_text(), flags=re.MULTILINE)
    data = tomllib.loads(text)
    assert [entry["bind"] for entry in data["listeners"]] == ["0.0.0.0:80", "0.0.0.0:443"]
    assert set(data["listeners"][1]["tls"]) == {"cert", "key"}


def test_the_health_check_asks_the_admin_port(runtime: Stage, config: Config) -> None:
    options, _, command = runtime.only("HEALTHCHECK").partition("CMD ")
    assert "--interval=" in options
    program, flag, code = json.loads(command)
    assert (program, flag) == ("python", "-c")
    call = ast.parse(code).body[-1]
    assert isinstance(call, ast.Expr)
    assert isinstance(call.value, ast.Call)
    assert ast.unparse(call.value.func) == "urllib.request.urlopen"
    url = urlsplit(ast.literal_eval(call.value.args[0]))
    assert config.admin is not None
    assert url.netloc == str(config.admin.bind)
    assert url.path == "/healthz"


def test_the_stop_signal_is_the_one_that_drains(runtime: Stage, config: Config) -> None:
    assert signal.Signals[runtime.only("STOPSIGNAL")] is signal.SIGTERM
    # Ten seconds after it, `docker stop` kills.
    assert config.proxy.shutdown_timeout < 10


def test_the_variables_of_the_image_are_read() -> None:
    environ = {"VSPROXY_SERVER_1": "10.0.0.1:80", "VSPROXY_HEALTH_PATH": "/up"}
    pool = Config.load(IMAGE_CONFIG, environ=environ).pools["vaultstadio"]
    assert [str(server.address) for server in pool.servers] == ["10.0.0.1:80", "backend2:8080", "backend3:8080"]
    assert pool.health is not None
    assert pool.health.path == "/up"
