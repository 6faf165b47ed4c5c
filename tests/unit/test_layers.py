"""The house rules that can be checked: who may import whom, and how large things may grow."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import vsproxy

PACKAGE = Path(vsproxy.__file__).parent

# Lowest first. Within a layer, modules import only downwards in the order given. A name stands for the module
# or folder and all inside it that is not named on its own.
LAYERS = (
    (
        "errors",
        "pem",
        "config",
        "timers",
        "histogram",
        "keyed_tasks",
        "background",
        "shared",
        "channel",
        "cpus",
        "process_figures",
        "log_lock",
        "log_output",
        "log_writer",
        "log_text",
        "access_line",
        "access_log",
        "messages",
        "systemd",
        "remote",
    ),
    ("wire", "version"),
    (
        "resets",
        "unsent",
        "pipes",
        "splice",
        "sockets",
        "relay",
        "sender",
        "tls_limits",
        "tls_buffers",
        "tls_transport",
        "introduction",
        "stream",
        "headers",
        "client_certificate",
        "upstream.server",
        "upstream.tls",
        "upstream.handshake",
        "metrics",
    ),
    (
        "upstream.early_answer",
        "upstream.http1",
        "upstream.keepalive",
        "spliced",
        "upstream.ring",
        "upstream.interleave",
        "upstream.group",
        "upstream.least_conn",
        "upstream.balancer",
        "upstream.opening",
        "upstream.connect",
        "upstream.endpoint",
        "upstream.entry",
        "upstream.slow_start",
        "upstream.lookup",
        "upstream.watched_file",
        "upstream.hosts_file",
        "upstream.nameservers",
        "upstream.srv",
        "upstream.names",
        "upstream.resolve",
        "upstream.hash_key",
        "upstream.waiting",
        "upstream.pool_traffic",
    ),
    (
        "upstream.pool",
        "upstream.tls_watch",
        "upstream.following",
        "upstream.passive",
        "upstream.check_get",
        "upstream.probe",
        "upstream.health",
        "upstream.recovery",
        "tunnel",
    ),
    ("routing", "attempt", "exchange"),
    ("descriptors", "listener_stats", "downstream.serving", "downstream.connection", "downstream.http1",
     "downstream.http2_owner", "downstream.http2_flow", "downstream.http2_transport", "downstream.http2_stream",
     "downstream.http2_life", "downstream.http2", "downstream.choice", "downstream"),
    (
        "binding",
        "tls_pair",
        "tls_clients",
        "tls",
        "tls_front",
        "front_stock",
        "tls_gate",
        "front_gate",
        "entrance",
        "listener",
        "certificate_files",
        "certificate_expiry",
        "certificate_watch",
        "admin",
    ),
    ("config.check_clients", "config.check", "control", "traffic", "proxy"),
    ("orders", "socket_passing", "process", "rows", "shared_state", "directory"),
    ("turns", "worker_board", "worker_report", "totals"),
    ("worker", "control_process"),
    ("children", "slot_sockets", "in_force", "lending", "reloading", "reload_desk", "commands", "supervisor", "run"),
    ("demo_server", "demo_control", "demo_view", "demo", "cli", "__main__"),
)
ORDER = [name for layer in LAYERS for name in layer]

# The compiled modules with the loops that everything passes through.
MAX_FILE, MAX_FUNCTION, MAX_HOT_FUNCTION = 400, 40, 70
HOT = {
    "access_line",
    "access_log",
    "attempt",
    "descriptors",
    "entrance",
    "exchange",
    "headers",
    "histogram",
    "listener_stats",
    "log_text",
    "relay",
    "routing",
    "sender",
    "stream",
    "timers",
    "tls_transport",
    "tunnel",
    "downstream.connection",
    "downstream.http1",
    "downstream.http2",
    "downstream.http2_flow",
    "downstream.http2_life",
    "downstream.http2_owner",
    "downstream.http2_stream",
    "downstream.serving",
    "upstream.balancer",
    "upstream.group",
    "upstream.http1",
    "upstream.keepalive",
    "upstream.least_conn",
    "upstream.pool_traffic",
    "upstream.server",
    "upstream.waiting",
    "wire.body",
    "wire.fields",
    "wire.http2",
    "wire.http2_floods",
    "wire.http2_frames",
    "wire.http2_handler",
    "wire.http2_head",
    "wire.message",
    "wire.request",
    "wire.response",
    "wire.syntax",
}


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {module_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
# The folders of one layer each say in their __init__ only what they hold; those of many layers say nothing.
MODULES = sorted(name for name in SOURCES if name and name != "upstream")


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(SOURCES[module].read_text())


def rank(module: str) -> int:
    """The place in `ORDER` of the module itself, or else of the folder it is in."""
    name = module
    while name not in ORDER:
        assert "." in name, f"{module} has no layer: give it one in LAYERS and in ARCHITECTURE.md"
        name = name.rpartition(".")[0]
    return ORDER.index(name)


def imported(node: ast.stmt, module: str) -> Iterator[str]:
    """The modules of vsproxy that an import statement names."""
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"{module}:{node.lineno}: relative import"
        names = [f"{node.module}.{alias.name}" for alias in node.names]
    else:
        return
    for name in names:
        if name.split(".")[0] != "vsproxy":
            continue
        inner = name.removeprefix("vsproxy").removeprefix(".")
        # `from vsproxy.errors import ConfigError` names the module vsproxy.errors.
        yield inner if inner in SOURCES else inner.rpartition(".")[0]


def imports(module: str) -> set[str]:
    return {name for node in ast.walk(tree(module)) if isinstance(node, ast.stmt) for name in imported(node, module)}


def test_the_walk_sees_the_package() -> None:
    assert len(MODULES) > 30
    assert "exchange" in imports("proxy") | imports("downstream.http1") | imports("downstream.serving")


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_downwards(module: str) -> None:
    for name in sorted(imports(module)):
        assert name, f"{module} imports the package itself, which imports everything"
        # Modules of one folder that stands in LAYERS as a whole: the test for cycles looks at those.
        if rank(name) == rank(module) and module.split(".")[0] == name.split(".")[0]:
            continue
        assert rank(name) < rank(module), f"{module} imports {name}, which is above it"


def test_there_is_no_cycle() -> None:
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " imports ".join((*path[path.index(module) :], module))
        if module not in done:
            for name in sorted(imports(module) - {module}):
                visit(name, (*path, module))
            done.add(module)

    for module in SOURCES:
        visit(module, ())


@pytest.mark.parametrize("module", MODULES)
def test_imports_stand_at_the_top(module: str) -> None:
    """An import inside a function is how a cycle hides."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inside = [item for item in ast.walk(node) if isinstance(item, ast.Import | ast.ImportFrom)]
            assert not inside, f"{module}:{inside[0].lineno} imports inside {node.name}"


def test_nothing_is_imported_for_types_alone() -> None:
    """`if TYPE_CHECKING` is the other way to hide a cycle."""
    for module in MODULES:
        assert "TYPE_CHECKING" not in SOURCES[module].read_text(), module


# The package's own __init__ imports everything: a bare one stands in for it.
IMPORT_EACH = """
import os, sys, types
# What vsproxy stands on is loaded once, or most of the time would go there.
import aiohttp, cryptography.x509, dns.asyncresolver, prometheus_client, pydantic
import rich.console, typer, uvloop, websockets
sys.modules["vsproxy"] = types.ModuleType("vsproxy")
sys.modules["vsproxy"].__path__ = [sys.argv[1]]
for name in sys.argv[2:]:
    child = os.fork()
    if not child:
        __import__(name)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        sys.exit(f"{name} cannot be imported first")
"""


# Each is imported in a process of its own: half a minute on a busy machine.
@pytest.mark.timeout(330)
def test_every_module_can_be_imported_first() -> None:
    names = [f"vsproxy.{module}" for module in MODULES]
    result = subprocess.run(
        [sys.executable, "-c", IMPORT_EACH, str(PACKAGE), *names],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("module", MODULES)
def test_files_and_functions_stay_small(module: str) -> None:
    lines = SOURCES[module].read_text().count("\n")
    assert lines <= MAX_FILE, f"{module} has {lines} lines"
    most = MAX_HOT_FUNCTION if module in HOT else MAX_FUNCTION
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            size = (node.end_lineno or 0) - node.lineno + 1
            assert size <= most, f"{module}.{node.name} has {size} lines"


def test_the_hot_modules_are_the_compiled_ones() -> None:
    # `sockets.pxd` is C for the others; its module is for where nothing is compiled.
    compiled = {module_of(path) for path in PACKAGE.rglob("*.pxd")} - {"sockets"}
    assert compiled <= HOT
