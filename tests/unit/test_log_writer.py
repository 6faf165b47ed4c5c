"""The thread that writes lines: nothing that an output or another process does can stop it or the loop."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vsproxy import log_writer
from vsproxy.log_lock import LogLock
from vsproxy.log_output import LogOutput
from vsproxy.log_writer import MAX_QUEUED_BYTES, LogWriter


def eventually(condition: Callable[[], bool], timeout: float = 10.0) -> None:
    """Wait for something the writer thread does; it tells nobody, so it is looked at."""
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        threading.Event().wait(0.002)


def write_lines(writer: LogWriter, lines: list[str], start: bool = True) -> None:
    if start:
        writer.start()
    for line in lines:
        writer.put(line.encode())
    writer.close()


def running_writers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "access-log"]


def test_a_file_is_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    path.write_text("old\n")
    write_lines(LogWriter(str(path)), ["new\n"])
    assert path.read_text() == "old\nnew\n"


def test_when_the_path_cannot_be_reopened_the_old_file_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    writer = LogWriter(str(folder / "access.log"))
    writer.start()
    folder.rename(tmp_path / "moved")
    writer.reopen()
    eventually(lambda: "cannot be reopened" in caplog.text)
    write_lines(writer, ["still here\n"], start=False)
    assert (tmp_path / "moved" / "access.log").read_text() == "still here\n"


# Pipes


def test_a_fifo_that_nobody_reads_never_blocks(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = LogWriter(str(fifo))
    writer.start()
    line = b"x" * 999 + b"\n"
    count = MAX_QUEUED_BYTES // 1000 + 1000
    begun = time.monotonic()
    for _ in range(count):
        writer.put(line)
    assert time.monotonic() - begun < 5.0
    assert writer.lost > 0
    begun = time.monotonic()
    writer.close(timeout=0.2)
    assert time.monotonic() - begun < 5.0
    # What fits into the pipe counts as written, all else as lost.
    assert writer.written + writer.lost == count
    assert writer.written <= 1024


def test_a_reader_that_comes_late_gets_whole_lines(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = LogWriter(str(fifo))
    writer.start()
    sent = [f"{number:06d} {'x' * (number % 700)}\n" for number in range(3000)]
    for line in sent:
        writer.put(line.encode())
    received: list[bytes] = []
    reader = os.open(fifo, os.O_RDONLY)
    size = sum(map(len, sent))

    def drain() -> None:
        while sum(map(len, received)) < size:
            received.append(os.read(reader, 65536))

    thread = threading.Thread(target=drain)
    thread.start()
    writer.close(timeout=10)
    thread.join(10)
    os.close(reader)
    assert b"".join(received).decode() == "".join(sent)
    assert (writer.written, writer.lost) == (3000, 0)


# A full disk


class StubbornOutput(LogOutput):
    """A disk on which only `room` bytes are free."""

    room = 0

    def write(self, data: bytes, start: int = 0) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        count = super().write(data[: start + self.room], start)
        self.room -= count
        return count


@pytest.mark.parametrize("finished_by", ["line", "close"])
def test_a_line_that_a_full_disk_cut_is_finished_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished_by: str
) -> None:
    monkeypatch.setattr(log_writer, "LogOutput", StubbornOutput)
    path = tmp_path / "access.log"
    writer = LogWriter(str(path))
    writer.start()
    output = writer._current_output()
    assert isinstance(output, StubbornOutput)
    output.room = 14
    for line in ("first\n", "the second\n", "third\n"):
        writer.put(line.encode())
    eventually(lambda: writer.lost == 1)
    assert path.read_text() == "first\nthe seco"
    output.room = 1000
    if finished_by == "line":
        writer.put(b"fourth\n")
    writer.close()
    assert path.read_text() == "first\nthe second\n" + ("fourth\n" if finished_by == "line" else "")
    assert (writer.written, writer.lost) == (3 if finished_by == "line" else 2, 1)


def test_a_cut_line_does_not_go_on_in_the_next_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_writer, "LogOutput", StubbornOutput)
    path = tmp_path / "access.log"
    writer = LogWriter(str(path))
    writer.start()
    output = writer._current_output()
    assert isinstance(output, StubbornOutput)
    output.room = 3
    writer.put(b"first\n")
    writer.put(b"second\n")
    eventually(lambda: writer.lost == 1)
    path.rename(tmp_path / "access.log.1")
    monkeypatch.setattr(log_writer, "LogOutput", LogOutput)
    writer.reopen()
    eventually(path.exists)
    writer.put(b"third\n")
    writer.close()
    assert (tmp_path / "access.log.1").read_text() == "fir"
    assert path.read_text() == "third\n"
    assert (writer.written, writer.lost) == (1, 2)


def test_a_line_that_a_full_disk_cut_is_finished_without_another_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_writer, "LogOutput", StubbornOutput)
    common = os.memfd_create("test")
    path = tmp_path / "access.log"
    writer = LogWriter(str(path), common)
    writer.start()
    output = writer._current_output()
    assert isinstance(output, StubbornOutput)
    output.room = 3
    writer.put(b"first\n")
    eventually(lambda: path.read_text() == "fir")
    other = LogOutput(str(path), lock=common)
    assert not other.ready(0.01)
    output.room = 1000
    eventually(lambda: other.ready(0.01))
    assert path.read_text() == "first\n"
    writer.close()
    other.close()
    os.close(common)


# A lock that another process holds


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "access.log"
    path.touch()
    return path


@pytest.fixture
def locked_out(path: Path) -> Iterator[LogWriter]:
    """A writer to `path`, started while somebody else has the lock."""
    common = os.memfd_create("test")
    held = LogLock(common, path.stat().st_ino)
    assert held.take(0)
    writer = LogWriter(str(path), common)
    writer.start()
    yield writer
    held.close()
    os.close(common)


def test_nobody_waits_for_ever_for_a_lock_that_another_holds(path: Path, locked_out: LogWriter) -> None:
    locked_out.put(b"lost\n")
    begun = time.monotonic()
    locked_out.close(timeout=0.2)
    assert time.monotonic() - begun < 5.0
    eventually(lambda: not running_writers())
    assert (locked_out.written, locked_out.lost) == (0, 1)
    assert path.read_text() == ""


def test_rotation_does_not_wait_for_a_lock_that_another_holds(path: Path, locked_out: LogWriter) -> None:
    locked_out.put(b"one\n")
    path.rename(path.with_name("access.log.1"))
    locked_out.reopen()
    eventually(lambda: locked_out.written == 1)
    locked_out.close()
    assert path.read_text() == "one\n"


def test_a_reader_that_stopped_in_the_middle_of_a_line_does_not_hold_up_the_end(tmp_path: Path) -> None:
    common = os.memfd_create("test")
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    writers = [LogWriter(str(fifo), common) for _ in range(2)]
    for writer in writers:
        writer.start()
        writer.put(b"x" * 299_999 + b"\n")
    begun = time.monotonic()
    for writer in writers:
        writer.close(timeout=0.2)
    assert time.monotonic() - begun < 5.0
    assert [(writer.written, writer.lost) for writer in writers] == [(0, 1)] * 2
    eventually(lambda: not running_writers())
    os.close(reader)
    os.close(common)
