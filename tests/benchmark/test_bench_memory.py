"""Memory of a family."""

from __future__ import annotations

import subprocess
import sys
import time

from bench.memory import PeakMemory, own_kib, pss_kib

MIB = 1024

# Takes 64 MiB when told, then gives them back.
TAKER = """
import mmap, os, sys
if sys.argv[1:] == ["child"] and os.fork():
    os.wait()
    sys.exit()
print("ready", flush=True)
sys.stdin.readline()
taken = mmap.mmap(-1, 64 << 20)
for at in range(0, len(taken), 4096):
    taken[at] = 1
print("taken", flush=True)
sys.stdin.readline()
taken.close()
print("given", flush=True)
sys.stdin.readline()
"""


def start(*arguments: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", TAKER, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    expect(process, "ready")
    return process


def expect(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdout is not None
    assert process.stdout.readline().strip() == word


def tell(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    expect(process, word)


def test_what_is_taken_is_seen() -> None:
    process = start()
    before, own = pss_kib(process.pid), own_kib(process.pid)
    assert 0 < own < before
    tell(process, "taken")
    assert 63 * MIB <= pss_kib(process.pid) - before <= 70 * MIB
    assert 63 * MIB <= own_kib(process.pid) - own <= 70 * MIB
    process.communicate()


def test_children_count() -> None:
    process = start("child")
    before = pss_kib(process.pid)
    tell(process, "taken")
    assert 63 * MIB <= pss_kib(process.pid) - before <= 70 * MIB
    process.communicate()


def test_a_peak_is_kept_when_it_is_over() -> None:
    process = start()
    before = pss_kib(process.pid)
    tell(process, "taken")
    with PeakMemory(process.pid) as peak:
        tell(process, "given")
    assert peak.kib - before >= 63 * MIB
    assert pss_kib(process.pid) - before < 10 * MIB
    process.communicate()


def test_a_peak_between_both_ends_is_seen() -> None:
    process = start("child")
    before = pss_kib(process.pid)
    with PeakMemory(process.pid) as peak:
        tell(process, "taken")
        deadline = time.monotonic() + 10
        while peak.kib - before < 63 * MIB:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        tell(process, "given")
    assert 63 * MIB <= peak.kib - before <= 70 * MIB
    process.communicate()


def test_who_has_died_has_no_peak() -> None:
    process = start()
    process.communicate("\n\n")
    with PeakMemory(process.pid) as peak:
        pass
    assert peak.kib == 0
