"""Starting programs on a core of their own, and ending them."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.errors import BenchError

_START_S = 60.0
_STOP_S = 10.0
# Below those that the kernel gives to connections: ten thousand of these may be in use, or were a minute ago.
_PORTS = (12_000, 32_000)
_TRIES = 1000
DESCRIPTORS = 65536
# Of a proxy's, beside those of connections.
_OTHER_DESCRIPTORS = 500


@dataclass(frozen=True)
class Cores:
    """The proxies' core, and the one of load, servers and the benchmark itself."""

    proxy: int
    load: int

    @property
    def both(self) -> str:
        """As taskset takes them."""
        return f"{self.proxy},{self.load}"


def choose_cores() -> Cores:
    """Raises BenchError if fewer than two may be used."""
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        raise BenchError("two processors are needed: one for the proxy, one for load and servers")
    return Cores(proxy=allowed[0], load=allowed[1])


def raise_descriptor_limit() -> int:
    """To what ten thousand connections on both sides of a proxy need, or as far as is allowed; how far that is."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, max(hard, DESCRIPTORS)))
    except (ValueError, PermissionError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def most_connections(descriptors: int) -> int:
    """Clients at once that a proxy can have, each with a connection to a server."""
    return (descriptors - _OTHER_DESCRIPTORS) // 2


class Process:
    """A program on given cores. What it prints goes to `directory`/`name`.out and .err."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        cores: str,
        directory: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.directory = directory
        with open(directory / f"{name}.out", "wb") as out, open(directory / f"{name}.err", "wb") as err:
            # taskset executes the program in its own place: the process id is the program's.
            self._process = subprocess.Popen(
                ["taskset", "-c", cores, *command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Of the program."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def wait_for_port(self, port: int) -> None:
        """Until it accepts there. Raises BenchError if it ends before, or takes a minute."""
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            if not self.alive:
                raise BenchError(f"{self.name} ended: {self.last_words()}")
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.02)
        raise BenchError(f"{self.name} does not listen on port {port}: {self.last_words()}")

    def last_words(self) -> str:
        """The end of what it has printed."""
        text = b"".join((self.directory / f"{self.name}.{end}").read_bytes() for end in ("out", "err"))
        return text.decode(errors="replace").strip()[-500:]

    def ask_to_stop(self) -> None:
        """SIGTERM, without waiting."""
        if self.alive:
            self._process.terminate()

    def stop(self) -> None:
        """SIGTERM, and SIGKILL if that takes too long, and to those of its children that are left."""
        self.ask_to_stop()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        # It had a session of its own, and so the group has its number.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody has now, none twice. Raises BenchError if so many cannot be found."""
    with contextlib.ExitStack() as stack:
        found: list[int] = []
        for _ in range(_TRIES):
            if len(found) == count:
                return found
            sock = stack.enter_context(socket.socket())
            port = random.randrange(*_PORTS)
            with contextlib.suppress(OSError):
                sock.bind(("127.0.0.1", port))
                found.append(port)
    raise BenchError(f"{count} free ports were not found from {_PORTS[0]} to {_PORTS[1]}")
