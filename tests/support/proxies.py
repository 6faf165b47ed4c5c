"""The proxy as the tests run it: inside the test's loop, or as the command in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import resource
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

import vsproxy
from support.server import Server
from vsproxy import Config, Proxy

READY = re.compile(r"listening on (?:\w+://)?(\S+)")
ADMIN = re.compile(r"admin on \w+://([^/\s]+)")

Settings = dict[str, Any]


def settings(
    *servers: Server | str | Settings,
    pool: Settings | None = None,
    route: Settings | None = None,
    listener: Settings | None = None,
    **sections: Any,
) -> Settings:
    """A configuration: one listener on a free port, one route, one pool `main` of `servers`.

    `pool`, `route` and `listener` add keys to their table; further sections are given by name.
    """
    return {
        "proxy": {"shutdown_timeout": "200ms"},
        "log": {"access": "off"},
        "listeners": [{"bind": "127.0.0.1:0", **(listener or {})}],
        "routes": [{"path": "/", "pool": "main", **(route or {})}],
        "pools": {"main": {"servers": [entry(server) for server in servers], **(pool or {})}},
        **sections,
    }


def entry(server: Server | str | Settings, **options: Any) -> Settings:
    """The line of a pool for `server`, with `options` (weight, backup, max_connections)."""
    if isinstance(server, dict):
        return server
    return {"address": server if isinstance(server, str) else server.address, **options}


def to_toml(value: Any) -> str:
    """`value` as TOML; a dict becomes a document of inline tables."""
    return "".join(f"{_key(key)} = {_inline(item)}\n" for key, item in value.items())


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else f'"{key}"'


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(k)} = {_inline(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_inline(item) for item in value) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return repr(value)


@contextlib.asynccontextmanager
async def in_process(config: Settings) -> AsyncIterator[Proxy]:
    """A proxy in the running loop."""
    async with Proxy(Config.model_validate(config)) as proxy:
        yield proxy


class ProxyProcess:
    """`python -m vsproxy --config FILE` in a process of its own, for signals, memory and descriptors."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.addresses: list[str] = []
        self.admin_address = ""
        self.log: list[str] = []
        self._reader: asyncio.Task[None] | None = None

    @property
    def address(self) -> str:
        """Where the first listener listens."""
        return self.addresses[0]

    @property
    def pid(self) -> int:
        """The process's id."""
        return self.process.pid

    def rss(self) -> int:
        """Resident memory in bytes, of the process and its children."""
        return sum(_status_bytes(pid, "VmRSS") for pid in [self.pid, *_children(self.pid)])

    def peak_rss(self) -> int:
        """The highest resident memory so far, in bytes, summed over the process and its children."""
        return sum(_status_bytes(pid, "VmHWM") for pid in [self.pid, *_children(self.pid)])

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    async def wait(self, seconds: float = 20.0) -> int:
        """Wait for the process to end; its exit status."""
        async with asyncio.timeout(seconds):
            return await self.process.wait()

    async def wait_for_line(self, pattern: str, seconds: float = 20.0) -> str:
        """The first line of the log that holds `pattern`, awaited."""
        found = await eventually(
            lambda: [line for line in self.log if re.search(pattern, line)],
            seconds,
            what=f"{pattern!r} in the log",
        )
        return found[0]

    async def _read_log(self) -> None:
        assert self.process.stderr
        async for line in self.process.stderr:
            self.log.append(line.decode(errors="replace").rstrip("\n"))

    async def _until_ready(self, listeners: int) -> None:
        self._reader = asyncio.create_task(self._read_log())

        def ready() -> bool:
            assert self.process.returncode is None, "the proxy ended:\n" + "\n".join(self.log)
            return sum(bool(READY.search(line)) for line in self.log) >= listeners

        await eventually(ready, 20.0, what="'listening on' in the log")
        for line in self.log:
            if match := READY.search(line):
                self.addresses.append(match[1])
            if match := ADMIN.search(line):
                self.admin_address = match[1]


def _children(pid: int) -> list[int]:
    children: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            children += [int(child), *_children(int(child))]
    return children


def _status_bytes(pid: int, key: str) -> int:
    match = re.search(rf"^{key}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(match[1]) * 1024 if match else 0


@contextlib.asynccontextmanager
async def in_subprocess(
    config: Settings, directory: Path, *, descriptors: int | None = None
) -> AsyncIterator[ProxyProcess]:
    """The command, running; killed at the end if it is still there. `descriptors` lowers its hard limit."""
    file = directory / "lb.toml"
    file.write_text(to_toml({**config, "proxy": {"workers": 1, **config["proxy"]}}))

    def lower_limit() -> None:
        if descriptors is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))

    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "vsproxy", "--config", str(file)),
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(Path(vsproxy.__file__).parent.parent)},
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        preexec_fn=lower_limit,
    )
    running = ProxyProcess(process)
    try:
        await running._until_ready(len(config["listeners"]))
        yield running
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        if running._reader:
            await running._reader


T = TypeVar("T")


async def eventually(condition: Callable[[], T], seconds: float = 5.0, *, what: str = "the condition") -> T:
    """Wait until `condition()` is true and return it; for state that announces no event."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        await asyncio.sleep(0.005)
    return value
