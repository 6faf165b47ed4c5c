"""The lock of a log output: one holder at a time, of any process, in turn, and none after death."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from vsproxy import log_lock
from vsproxy.log_lock import LogLock
from vsproxy.log_output import LogOutput

PATIENCE = 20.0
INODE = 4711


@pytest.fixture
def common() -> Iterator[int]:
    descriptor = os.memfd_create("test")
    yield descriptor
    os.close(descriptor)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_one_at_a_time_in_one_process_too(common: int) -> None:
    first, second = LogLock(common, INODE), LogLock(common, INODE)
    assert first.take(0)
    assert first.take(0)
    assert not second.take(0.01)
    first.release()
    assert second.take(0)
    assert not first.take(0)
    second.close()
    assert first.take(0)
    first.close()


def test_other_outputs_have_other_locks(common: int) -> None:
    first, second = LogLock(common, INODE), LogLock(common, INODE + 1)
    assert first.take(0)
    assert second.take(0)
    first.close()
    second.close()


def test_who_waits_comes_before_who_had_it(common: int) -> None:
    first, second, probe = (LogLock(common, INODE) for _ in range(3))
    assert first.take(0)
    waiter = threading.Thread(target=second.take, args=(PATIENCE,))
    waiter.start()
    end = time.monotonic() + PATIENCE
    while probe._lock(log_lock._CELLS + INODE % log_lock._CELLS):
        # Nobody has the turn yet; what the probe took has to be given back.
        probe.close()
        probe = LogLock(common, INODE)
        assert time.monotonic() < end
    first.release()
    assert not first.take(0)
    waiter.join()
    assert second.held
    for lock in (first, second, probe):
        lock.close()


def test_a_wait_that_was_given_up_does_not_keep_the_turn(common: int) -> None:
    first, second, third = (LogLock(common, INODE) for _ in range(3))
    assert first.take(0)
    assert not second.take(0.001)
    first.release()
    assert third.take(0)
    for lock in (first, second, third):
        lock.close()


def test_it_is_free_when_the_holder_is_killed_and_the_mark_stays(common: int) -> None:
    lock = LogLock(common, INODE)
    ready, there = os.pipe()
    pid = os.fork()
    if pid == 0:
        own = LogLock(common, INODE)
        own.broken = own.take(0)
        os.write(there, b"x")
        signal.pause()
    assert os.read(ready, 1) == b"x"
    assert not lock.take(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert lock.take(0)
    assert lock.broken
    lock.close()
    os.close(ready)
    os.close(there)


def test_a_child_that_parted_is_another_writer(common: int) -> None:
    lock = LogLock(common, INODE)
    assert lock.take(0)
    pid = os.fork()
    if pid == 0:
        lock.part_from_parent()
        os._exit(lock.held or lock.take(0.01))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    # That the child closed what it had inherited took nothing from us.
    other = LogLock(common, INODE)
    assert not other.take(0)
    lock.close()
    assert other.take(0)
    other.close()


def test_nothing_is_left_open(common: int) -> None:
    before = descriptors()
    for _ in range(3):
        lock = LogLock(common, INODE)
        lock.take(0)
        lock.close()
    assert descriptors() == before


def test_where_there_are_no_such_locks_nothing_is_left_open(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    before = descriptors()
    with pytest.raises(OSError, match="Invalid argument"):
        LogOutput(str(tmp_path / "log"), lock=writer)
    assert descriptors() == before
    os.close(reader)
    os.close(writer)


def test_half_a_line_that_was_given_up_is_ended_by_the_next_writer(common: int, tmp_path: Path) -> None:
    path = tmp_path / "log"
    first, second = (LogOutput(str(path), lock=common) for _ in range(2))
    assert first.ready(0)
    assert first.write(b"whole\nhal") == 9
    assert first.torn
    first.give_way()
    assert not second.ready(0.01)
    first.close()
    assert second.ready(0)
    second.write(b"next\n")
    second.write(b"last\n")
    second.close()
    assert path.read_text() == "whole\nhal\nnext\nlast\n"


def test_a_pipe_without_room_is_left_to_whoever_comes_first(common: int, tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    first, second = (LogOutput(str(path), lock=common) for _ in range(2))
    while first.ready(0):
        first.write(b"x" * 4095 + b"\n")
    assert not first.torn
    os.read(reader, 4096)
    assert second.ready(0)
    begun = time.monotonic()
    assert not first.ready(0.01)
    assert time.monotonic() - begun < PATIENCE
    first.close()
    second.close()
    os.close(reader)
