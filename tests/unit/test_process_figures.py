"""What is read of a process, compared with what the process knows of itself."""

from __future__ import annotations

import mmap
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from vsproxy.process_figures import ProcessFigures, read_figures


def own_figures() -> ProcessFigures:
    figures = read_figures(os.getpid())
    assert figures is not None
    return figures


def test_processor_time() -> None:
    before = own_figures()
    while time.process_time() < before.user_seconds + before.system_seconds + 0.05:
        sum(range(1000))
    after = own_figures()
    usage = resource.getrusage(resource.RUSAGE_SELF)
    assert after.user_seconds > before.user_seconds
    assert after.user_seconds == pytest.approx(usage.ru_utime, abs=0.1)
    assert after.system_seconds == pytest.approx(usage.ru_stime, abs=0.1)


def test_descriptors() -> None:
    before = own_figures()
    with ExitStack() as files:
        for _ in range(10):
            files.enter_context(open(os.devnull))
        assert own_figures().open_fds == (before.open_fds or 0) + 10
    assert before.max_fds == resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def test_memory() -> None:
    before = own_figures()
    # Not from the heap, which may have as much to spare.
    with mmap.mmap(-1, 32 * 2**20) as block:
        block.write(b"x" * len(block))
        after = own_figures()
        assert after.resident_bytes - before.resident_bytes > len(block) * 0.9
        assert (after.proportional_bytes or 0) - (before.proportional_bytes or 0) > len(block) * 0.9


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """Another process, which says a line once it has begun and has a name that is hard to read."""
    program = "open('/proc/self/comm', 'w').write(') R 1 (x'); print('here', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def test_another_process(child: subprocess.Popen[bytes]) -> None:
    figures = read_figures(child.pid)
    assert figures is not None
    assert time.time() - 60 < figures.start_time < time.time() + 1
    assert figures.open_fds == 3
    # What is shared with this interpreter is divided.
    assert 0 < (figures.proportional_bytes or 0) < figures.resident_bytes


def test_a_process_that_has_ended(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert read_figures(child.pid) is None, "it is dead, though nobody has asked for its status yet"
    child.wait()
    assert read_figures(child.pid) is None
