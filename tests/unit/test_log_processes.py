"""Several processes, one log: every line whole, none lost, none doubled, whoever is slow, killed or full."""

from __future__ import annotations

import array
import fcntl
import os
import re
import resource
import socket
import termios
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support.log_writers import LogWriters, Work, is_start_of_line, line, numbers_by_worker, read_all

PATIENCE = 30.0


def eventually(condition: Callable[[], bool]) -> None:
    """Wait for what another process does to a file, of which nobody tells."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        threading.Event().wait(0.002)


def assert_complete(data: bytes, results: dict[int, tuple[int, int]], work: Work) -> None:
    numbers, broken = numbers_by_worker(data)
    assert broken == []
    assert results == dict.fromkeys(range(work.workers), (work.count, 0))
    assert numbers == {worker: list(range(work.count)) for worker in range(work.workers)}


def first_rotated(path: Path) -> Path:
    """The first name that `rotate` gives: writers that hold until it is there cannot have ended before."""
    return path.with_suffix(".0")


def rotate(path: Path, writers: LogWriters, tell: Callable[[], None]) -> list[Path]:
    """Rename `path` up to three times while it is written to; the new names."""
    files: list[Path] = []
    while len(files) < 3:
        eventually(lambda: (path.exists() and path.stat().st_size > 200_000) or writers.ended)
        if writers.ended:
            # This machine had no time for us; what was rotated until then counts.
            break
        files.append(path.with_suffix(f".{len(files)}"))
        path.rename(files[-1])
        tell()
    assert files
    return files


def read_slowly(descriptor: int) -> bytes:
    """All, until every writer is gone, at about 10 MB/s: less than is written."""
    pieces = []
    while piece := os.read(descriptor, 10_000):
        pieces.append(piece)
        time.sleep(0.001)
    os.close(descriptor)
    return b"".join(pieces)


def fifo(tmp_path: Path) -> tuple[str, int]:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return str(path), os.open(path, os.O_RDONLY | os.O_NONBLOCK)


# The access log


@pytest.mark.parametrize("locked", [True, False])
def test_a_file_that_is_rotated_meanwhile(tmp_path: Path, locked: bool) -> None:
    path = tmp_path / "access.log"
    work = Work(str(path), count=400, locked=locked, hold=str(first_rotated(path)))
    with LogWriters(work) as writers:
        files = rotate(path, writers, writers.reopen)
        results = writers.results()
    assert_complete(read_all([*files, path]), results, work)


def test_a_fifo_with_a_slow_reader(tmp_path: Path) -> None:
    path, reader = fifo(tmp_path)
    work = Work(path, count=100)
    with LogWriters(work) as writers:
        # Blocking from here on: somebody has it open.
        eventually(lambda: bool(peek(reader)))
        os.set_blocking(reader, True)
        data = read_slowly(reader)
        assert_complete(data, writers.results(), work)


def peek(descriptor: int) -> int:
    """How many bytes can be read."""
    count = array.array("i", [0])
    fcntl.ioctl(descriptor, termios.FIONREAD, count)
    return count[0]


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_stdout_with_a_slow_reader(kind: str) -> None:
    work = Work("-", count=100)
    if kind == "pipe":
        reader, stdout = os.pipe()
    else:
        ours, theirs = socket.socketpair()
        reader, stdout = ours.detach(), theirs.detach()
    with LogWriters(work, stdout=stdout) as writers:
        os.close(stdout)
        data = read_slowly(reader)
        assert_complete(data, writers.results(), work)


def test_a_writer_that_is_killed_in_the_middle_of_a_line() -> None:
    work = Work("-", count=8, sizes=[300_000])
    reader, stdout = os.pipe()
    with LogWriters(work, stdout=stdout) as writers:
        os.close(stdout)
        # A pipe holds no more than the beginning of this line.
        start = os.read(reader, 1000)
        killed = int(start[:1])
        writers.kill(killed)
        data = start + read_slowly(reader)
        results = writers.results()
    numbers, broken = numbers_by_worker(data)
    others = [worker for worker in range(work.workers) if worker != killed]
    assert results == dict.fromkeys(others, (work.count, 0))
    assert [numbers[worker] for worker in others] == [list(range(work.count))] * 3
    assert numbers[killed] == []
    assert len(broken) == 1
    assert line(killed, 0, 300_000).encode().startswith(broken[0].rstrip(b"\n"))


def test_a_writer_that_is_killed_while_it_writes_to_a_file(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    go = tmp_path / "go"
    work = Work(str(path), count=400, hold=str(go))
    with LogWriters(work) as writers:
        eventually(lambda: path.exists() and path.stat().st_size > 1_000_000)
        writers.kill(2)
        go.touch()
        results = writers.results()
    numbers, broken = numbers_by_worker(path.read_bytes())
    others = [worker for worker in results if worker != 2]
    assert [results[worker] for worker in others] == [(work.count, 0)] * 3
    assert [numbers[worker] for worker in others] == [list(range(work.count))] * 3
    assert numbers[2] == list(range(len(numbers[2])))
    assert len(broken) <= 1
    assert all(is_start_of_line(text, work) for text in broken)


def test_a_full_disk_that_cuts_a_line_of_one_writer_lets_no_other_go_on_in_it(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    room = tmp_path / "room"
    # Beyond it nothing is taken, and less than asked for just before it, as on a disk without room.
    full = 1_000_001
    work = Work(str(path), count=200, limit=full, hold=str(room))
    with LogWriters(work) as writers:
        eventually(lambda: path.exists() and path.stat().st_size == full)
        for pid in writers.pids:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        room.touch()
        results = writers.results()
    numbers, broken = numbers_by_worker(path.read_bytes())
    # All had lines to write when there was room again: what was cut is finished.
    assert broken == []
    assert {worker: sum(counts) for worker, counts in results.items()} == dict.fromkeys(range(4), work.count)
    assert {worker: len(found) for worker, found in numbers.items()} == {
        worker: written for worker, (written, _) in results.items()
    }
    assert all(found == sorted(set(found)) for found in numbers.values())


# Messages


MESSAGE = re.compile(
    rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (INFO|ERROR) \[worker (\d) (\d+)\] (\d \d+ \d+ [a-z]+\n)"
)


def texts_of(data: bytes, pids: list[int]) -> bytes:
    """The lines that the workers logged; fails if a message or a traceback is not whole."""
    texts = []
    for record in re.split(rb"^(?=\S)", data, flags=re.MULTILINE)[1:]:
        message = MESSAGE.match(record)
        assert message, record[:200]
        worker = int(message[2])
        assert int(message[3]) == pids[worker]
        rest = record[message.end() :]
        if message[1] == b"ERROR":
            assert rest.startswith(b"    Traceback (most recent call last):\n")
            assert rest.count(b'    File "') == 42
            assert rest.endswith(b"    ValueError: end of %d\n    in two lines\n" % worker)
        else:
            assert rest == b""
        texts.append(message[4])
    return b"".join(texts)


@pytest.mark.parametrize("told", [True, False])
def test_messages_to_a_file_that_is_rotated_meanwhile(tmp_path: Path, told: bool) -> None:
    path = tmp_path / "messages.log"
    work = Work(str(path), count=300, kind="messages", hold=str(first_rotated(path)))
    with LogWriters(work) as writers:
        files = rotate(path, writers, writers.reopen if told else lambda: None)
        results = writers.results()
    assert_complete(texts_of(read_all([*files, path]), writers.pids), results, work)


def test_messages_to_stderr() -> None:
    work = Work("-", count=40, sizes=[100, 400, 900], kind="messages")
    reader, stderr = os.pipe()
    # Room for all, however long this machine lets the reader wait.
    fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 1024 * 1024)
    with LogWriters(work, stderr=stderr) as writers:
        os.close(stderr)
        with os.fdopen(reader, "rb") as source:
            data = source.read()
        assert_complete(texts_of(data, writers.pids), writers.results(), work)
