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
from vsproxy.remote import ask

LISTENING = re.compile(r"listening on (?:\w+://)?(\S+)")
ADMIN = re.compile(r"admin on \w+://([^/\s]+)")
READY = re.compile(r" ready$")

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

    def __init__(self, process: asyncio.subprocess.Process, file: Path) -> None:
        self.process = process
        self.file = file
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
        """The supervisor's id."""
        return self.process.pid

    @property
    def workers(self) -> list[int]:
        """The ids of the workers that there are, in the order of their numbers."""
        found = {name: pid for pid, name in self._named().items() if name.startswith("vsproxy-worker")}
        return [found[name] for name in sorted(found)]

    @property
    def control(self) -> int:
        """The id of the control process; 0 while there is none."""
        return next((pid for pid, name in self._named().items() if name == "vsproxy-control"), 0)

    @property
    def family(self) -> list[int]:
        """The supervisor and all below it."""
        return [self.pid, *children_of(self.pid)]

    def _named(self) -> dict[int, str]:
        return {pid: name for pid in children_of(self.pid) if (name := comm_of(pid))}

    def rss(self) -> int:
        """Resident memory in bytes, of the process and its children."""
        return sum(status_bytes(pid, "VmRSS") for pid in self.family)

    def peak_rss(self) -> int:
        """The highest resident memory so far, in bytes, summed over the process and its children."""
        return sum(status_bytes(pid, "VmHWM") for pid in self.family)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def write(self, config: Settings) -> None:
        """Replace the configuration file; nothing is reloaded yet."""
        write_config(self.file, config)

    async def reload(self, config: Settings | None = None) -> dict[str, Any]:
        """What `vsproxy reload` asks and gets as an answer, after `write(config)` if there is one."""
        if config is not None:
            self.write(config)
        return await asyncio.to_thread(ask, str(self.file), {"command": "reload"}, 30.0)

    async def put_into_force(self, config: Settings) -> None:
        """Reload with `config`; it fails the test if that is refused."""
        answer = await self.reload(config)
        assert answer["ok"], answer

    async def reload_command(self, *options: str) -> tuple[int, str]:
        """`vsproxy reload` as somebody types it: its exit status, and what it says."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "vsproxy", "reload", "--config", str(self.file), *options),
            env=environment(),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, said.decode()

    def signal_group(self, number: signal.Signals) -> None:
        """Send a signal to all of them at once, as a terminal does; no effect if nobody is left."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

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

    async def _until_ready(self) -> None:
        self._reader = asyncio.create_task(self._read_log())

        def ready() -> bool:
            assert self.process.returncode is None, "the proxy ended:\n" + "\n".join(self.log)
            return any(READY.search(line) for line in self.log)

        await eventually(ready, 20.0, what="'ready' in the log")
        for line in self.log:
            if match := LISTENING.search(line):
                self.addresses.append(match[1])
            if match := ADMIN.search(line):
                self.admin_address = match[1]


def children_of(pid: int) -> list[int]:
    """The ids of all processes below `pid`."""
    children: list[int] = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                children += [int(child), *children_of(int(child))]
    return children


def comm_of(pid: int) -> str:
    """The short name of a process; empty if there is none any more."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().rstrip("\n")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def descriptors_of(pid: int) -> int:
    """How many files a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def status_bytes(pid: int, key: str) -> int:
    """A size in /proc/PID/status, in bytes; 0 if it is not there (proc(5))."""
    match = re.search(rf"^{key}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(match[1]) * 1024 if match else 0


def environment() -> dict[str, str]:
    """For a command that is the vsproxy that is being tested."""
    return {**os.environ, "PYTHONPATH": str(Path(vsproxy.__file__).parent.parent)}


def write_config(file: Path, config: Settings) -> None:
    """Write `config` as TOML, at one stroke; with one worker unless it says otherwise."""
    written = file.with_suffix(".new")
    written.write_text(to_toml({**config, "proxy": {"workers": 1, **config["proxy"]}}))
    written.replace(file)


@contextlib.asynccontextmanager
async def in_subprocess(
    config: Settings, directory: Path, *, descriptors: int | None = None
) -> AsyncIterator[ProxyProcess]:
    """The command, running; killed at the end if it is still there. `descriptors` lowers its hard limit."""
    file = directory / "lb.toml"
    write_config(file, config)

    def lower_limit() -> None:
        if descriptors is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))

    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "vsproxy", "--config", str(file)),
        cwd=directory,
        env=environment(),
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        preexec_fn=lower_limit,
        # A group of its own: whatever a test has done to the supervisor, its children are found at the end.
        start_new_session=True,
    )
    running = ProxyProcess(process, file)
    try:
        await running._until_ready()
        yield running
    finally:
        running.signal_group(signal.SIGKILL)
        await process.wait()
        if running._reader:
            await running._reader
        print("\n".join(running.log))  # shown if the test has failed


T = TypeVar("T")


async def eventually(condition: Callable[[], T], seconds: float = 5.0, *, what: str = "the condition") -> T:
    """Wait until `condition()` is true and return it; for state that announces no event."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        await asyncio.sleep(0.005)
    return value
