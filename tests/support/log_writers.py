"""Processes that write to one log, forked by a parent as the supervisor does it; also the program itself.

Every line says who wrote it, its number and its length, and is filled with a letter of its writer, so that
whatever is cut, mixed, lost or doubled is seen by `numbers_by_worker`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import random
import re
import resource
import select
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Self

from vsproxy import messages as messages_module
from vsproxy.log_writer import LogWriter
from vsproxy.messages import MessageLog

#: Bytes of a line: what is usual, what fits into PIPE_BUF and what just does not, what no pipe can hold.
SIZES = (*[100, 400, 400, 400, 400, 900] * 4, 4095, 4096, 4097, 20_000, 300_000)
#: Bytes queued at which a writer waits, so that nothing is refused.
MOST_QUEUED = 1024 * 1024
CLOSE_TIMEOUT = 30.0
_LINE = re.compile(rb"(\d) (\d+) (\d+) ([a-z]+)\n")


@dataclass
class Work:
    """What each of `workers` processes has to write: `count` lines to `path`."""

    path: str
    count: int
    workers: int = 4
    sizes: list[int] = field(default_factory=lambda: list(SIZES))
    kind: str = "access"
    locked: bool = True
    #: Bytes beyond which a file takes no more, from before the first line on; 0: no limit.
    limit: int = 0
    #: The second half of the lines is written once there is this file: nobody has ended before.
    hold: str = ""

    def pause(self, number: int) -> None:
        """Called before line `number`: wait for `hold` if it is its turn."""
        while self.hold and number == self.count // 2 and not os.path.exists(self.hold):
            time.sleep(0.001)


class LogWriters:
    """The processes, as a context; killed at the end if they are still there."""

    def __init__(self, work: Work, stdout: int | None = None, stderr: int | None = None) -> None:
        self._work = work
        self._standard = stdout, stderr
        self._process: subprocess.Popen[bytes] | None = None
        self._reports: IO[str] | None = None
        self.pids: list[int] = []

    def __enter__(self) -> Self:
        reports, theirs = os.pipe()
        stdout, stderr = self._standard
        command = [sys.executable, "-m", __name__, str(theirs), json.dumps(asdict(self._work))]
        # The package need not be installed where the tests run.
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        self._process = subprocess.Popen(
            command,
            pass_fds=(theirs,),
            env=environment,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
        os.close(theirs)
        self._reports = os.fdopen(reports)
        self.pids = json.loads(self._reports.readline())
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._process is not None
        assert self._reports is not None
        if not self.ended:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._reports.close()

    def kill(self, worker: int) -> None:
        """SIGKILL, and wait until it is dead: then it writes nothing any more, and holds nothing."""
        pid = self.pids[worker]
        watch = os.pidfd_open(pid)
        os.kill(pid, signal.SIGKILL)
        # Readable once it has ended.
        select.select([watch], [], [])
        os.close(watch)

    @property
    def ended(self) -> bool:
        """Whether all have ended."""
        assert self._process is not None
        return self._process.poll() is not None

    def reopen(self) -> None:
        """SIGUSR1 to every one that is there."""
        for pid in self.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGUSR1)

    def results(self) -> dict[int, tuple[int, int]]:
        """Wait for the end: written and lost lines of each worker that lived to tell."""
        assert self._reports is not None
        reports = (json.loads(line) for line in self._reports)
        return {worker: (written, lost) for worker, written, lost in reports}


def numbers_by_worker(data: bytes) -> tuple[dict[int, list[int]], list[bytes]]:
    """The numbers of each worker's lines in the order of `data`, and the lines that are not whole."""
    numbers: dict[int, list[int]] = defaultdict(list)
    broken = []
    for line in data.splitlines(keepends=True):
        match = _LINE.fullmatch(line)
        if match and int(match[3]) == len(line) and match[4] == letter(int(match[1])) * len(match[4]):
            numbers[int(match[1])].append(int(match[2]))
        else:
            broken.append(line)
    return numbers, broken


def is_start_of_line(text: bytes, work: Work) -> bool:
    """Whether `text`, with a newline, is what is left of a line of which the rest was never written."""
    return any(
        text == b"\n" or one.encode().startswith(text.rstrip(b"\n"))
        for worker in range(work.workers)
        for one in expected(worker, work)
    )


def letter(worker: int) -> bytes:
    """What the lines of `worker` are filled with."""
    return bytes([ord("a") + worker])


def line(worker: int, number: int, size: int) -> str:
    """Line `number` of `worker`, of `size` bytes with its newline."""
    start = f"{worker} {number} {size} "
    return start + letter(worker).decode() * (size - len(start) - 1) + "\n"


def expected(worker: int, work: Work) -> list[str]:
    """All lines of `worker`."""
    sizes = random.Random(worker).choices(work.sizes, k=work.count)
    return [line(worker, number, size) for number, size in enumerate(sizes)]


def write_access(worker: int, work: Work, lock: int) -> tuple[int, int]:
    """In a child: write all lines through a `LogWriter`."""
    writer = LogWriter(work.path, lock if work.locked else None)
    writer.start()
    told = signals()
    for number, text in enumerate(expected(worker, work)):
        work.pause(number)
        if told():
            writer.reopen()
        writer.put(text.encode())
        while writer._put_bytes - writer._taken_bytes > MOST_QUEUED:
            time.sleep(0.001)
    writer.close(CLOSE_TIMEOUT)
    return writer.written, writer.lost


def write_messages(worker: int, work: Work, messages: MessageLog) -> tuple[int, int]:
    """In a child: log all lines, every fifth with a traceback."""
    messages.renamed(f"worker {worker}")
    told = signals()
    log = logging.getLogger("test")
    for number, text in enumerate(expected(worker, work)):
        work.pause(number)
        if told():
            messages.reopen()
        if number % 5:
            log.info("%s", text.rstrip())
            continue
        try:
            fail(worker, 40)
        except ValueError:
            log.exception("%s", text.rstrip())
    return work.count, 0


def signals() -> Callable[[], bool]:
    """Whether there was a SIGUSR1 since it was last asked: as from a loop, not in the middle of anything."""
    seen: list[int] = []
    signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(number))
    return lambda: bool(seen) and bool(seen.pop())


def fail(worker: int, depth: int) -> None:
    """Raise a ValueError with a long traceback; frames that are alike would be left out of it."""
    if depth:
        fail_in_turn(worker, depth - 1)
    raise ValueError(f"end of {worker}\nin two lines")


def fail_in_turn(worker: int, depth: int) -> None:
    """See `fail`."""
    fail(worker, depth - 1)


def main(report: int, work: Work) -> None:
    """Fork the workers, tell their ids, wait for them."""
    lock = os.memfd_create("test")
    # The product goes past a lock that is held for too long; here its holder only waits for the cpu.
    messages_module.PATIENCE = CLOSE_TIMEOUT
    if work.limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (work.limit, resource.RLIM_INFINITY))
    messages = MessageLog("info", work.path if work.kind == "messages" else "-", "parent")
    if work.kind == "messages":
        messages.start()
    # For signals that come before the worker is ready for them.
    signal.signal(signal.SIGUSR1, lambda number, frame: None)
    pids = []
    gate, opening = os.pipe()
    for worker in range(work.workers):
        pid = os.fork()
        if pid == 0:
            os.close(opening)
            os.read(gate, 1)
            if work.kind == "messages":
                result = write_messages(worker, work, messages)
            else:
                result = write_access(worker, work, lock)
            os.write(report, json.dumps([worker, *result]).encode() + b"\n")
            os._exit(0)
        pids.append(pid)
    os.write(report, json.dumps(pids).encode() + b"\n")
    os.close(opening)
    for pid in pids:
        # Not reaped: their ids have to stay theirs for those who send signals.
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def read_all(files: list[Path]) -> bytes:
    """What stands in those `files` that there are, one after the other."""
    return b"".join(file.read_bytes() for file in files if file.exists())


if __name__ == "__main__":
    main(int(sys.argv[1]), Work(**json.loads(sys.argv[2])))
