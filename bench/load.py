"""One run of the load program against one proxy."""

from __future__ import annotations

import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from bench.errors import VoidError
from bench.requests import records

# Over the time the load itself allows a silent proxy.
_END_S = 60.0


@dataclass(frozen=True)
class Load:
    """What to send and what has to come back. All requests in turn, on `connections` at once."""

    requests: tuple[bytes, ...]
    size: int = 0
    status: int = 200
    connections: int = 64
    sources: int = 1
    seconds: float = 0.0
    count: int = 0
    rate: float = 0.0
    upload: int = 0
    frame: int = 0
    close: bool = False
    tls: bool = False
    resume: bool = False

    def arguments(self) -> list[str]:
        """For the program, all but address and requests."""
        numbers = ("size", "status", "connections", "sources", "seconds", "count", "rate", "upload", "frame")
        given = [f"--{name}={getattr(self, name)}" for name in numbers]
        return given + [f"--{name}" for name in ("close", "tls", "resume") if getattr(self, name)]


@dataclass(frozen=True)
class Answered:
    """What the load has found. Latencies are in microseconds."""

    requests: int
    seconds: float
    bytes: int
    reopened: int
    p50_us: float
    p99_us: float
    p999_us: float
    max_us: float


class RunningLoad:
    """The program as a context: connected, once `wait_ready` returns, and silent until `go` or `stop`."""

    def __init__(self, program: Path, core: int, port: int, load: Load) -> None:
        self._requests = tempfile.NamedTemporaryFile(prefix="bench-requests-")
        self._requests.write(records(load.requests))
        self._requests.flush()
        command = ["taskset", "-c", str(core), str(program), f"--port={port}", f"--requests={self._requests.name}"]
        self._process = subprocess.Popen(
            [*command, *load.arguments()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._longest = load.seconds + _END_S

    def wait_ready(self) -> None:
        """Until all connections are open and have been used. Raises VoidError if an answer is wrong or missing."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line.strip() != "ready":
            self._read(line)
            raise VoidError("the load did not get ready")

    def go(self) -> Answered:
        """The measurement, to its end. Raises VoidError as above."""
        return self._order("go\n")

    def stop(self) -> Answered:
        """The end without one. Raises VoidError if a connection was closed meanwhile."""
        return self._order("stop\n")

    def _order(self, order: str) -> Answered:
        try:
            out, _ = self._process.communicate(order, self._longest)
        except subprocess.TimeoutExpired as error:
            raise VoidError(f"the load took more than {self._longest:.0f} s") from error
        return self._read(out)

    def _read(self, text: str) -> Answered:
        try:
            found = json.loads(text)
        except json.JSONDecodeError as error:
            assert self._process.stderr is not None
            words = text if self._process.stderr.closed else text + self._process.stderr.read()
            raise VoidError(f"the load failed: {words.strip() or self._process.returncode}") from error
        wrong = found.pop("error")
        if wrong:
            raise VoidError(f"{wrong} (after {found['requests']} that were right)")
        return Answered(**found)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()
        self._requests.close()
