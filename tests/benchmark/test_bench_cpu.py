"""Processor time, beside what programs know of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.cpu import CpuTime, cpu_time, family

# Says when it is ready, works on demand, and prints what it has used by its own clock, with its children's.
WORKER = """
import json, os, sys, threading, time

def burn(seconds):
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        sum(range(1000))

def in_thread():
    thread = threading.Thread(target=burn, args=(0.3,))
    thread.start()
    thread.join()

def in_child(wait):
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        before = time.process_time_ns()
        burn(0.3)
        os.write(writing, b"%d" % (time.process_time_ns() - before))
        if not wait:
            sys.stdin.readline()
        os._exit(0)
    used = int(os.read(reading, 64))
    if wait:
        os.waitpid(pid, 0)
    return used

print("ready", flush=True)
sys.stdin.readline()
before = time.process_time_ns()
of_children = 0
for kind in sys.argv[1].split(","):
    if kind == "own":
        burn(0.3)
    elif kind == "thread":
        in_thread()
    else:
        of_children += in_child(kind == "ended")
print(json.dumps(time.process_time_ns() - before + of_children), flush=True)
sys.stdin.readline()
"""


@contextmanager
def worker(kinds: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, kinds], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    try:
        yield process
    finally:
        # The end of its input ends its children too.
        process.communicate()


@pytest.mark.parametrize("kinds", ["own", "thread", "ended", "living", "own,thread,ended,living"])
def test_it_agrees_with_a_known_load(kinds: str) -> None:
    with worker(kinds) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        before = cpu_time(process.pid)
        process.stdin.write("go\n")
        process.stdin.flush()
        known = json.loads(process.stdout.readline())
        used = cpu_time(process.pid).since(before)
    assert known > 250_000_000
    assert used.total_ns == pytest.approx(known, rel=0.05)
    assert used.user_ns + used.system_ns == used.total_ns
    assert used.user_ns > used.system_ns


def test_the_family_is_all_that_lives_of_it() -> None:
    with worker("living,living") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert family(process.pid) == (process.pid,)
        process.stdin.write("go\n")
        process.stdin.flush()
        process.stdout.readline()
        found = family(process.pid)
        assert found[0] == process.pid
        assert len(found) == 3
        stats = [Path(f"/proc/{pid}/stat").read_text() for pid in found[1:]]
        parents = {int(stat.rpartition(")")[2].split()[1]) for stat in stats}
        assert parents == {process.pid}


def test_a_process_that_is_gone_is_said() -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    with pytest.raises(FileNotFoundError):
        cpu_time(process.pid)


def test_what_sleeps_uses_nothing() -> None:
    process = subprocess.Popen(["sleep", "30"])
    try:
        os.sched_yield()
        first = cpu_time(process.pid)
        assert cpu_time(process.pid).since(first).total_ns < 50_000_000
    finally:
        process.kill()
        process.wait()


def test_the_split_is_by_the_kernels_ticks_and_its_sum_exact() -> None:
    before, after = CpuTime(100, 0, 0), CpuTime(1101, 30, 10)
    assert after.since(before) == CpuTime(1001, 751, 250)
