"""Memory of a process and all that it has started. What they share counts once: PSS, not RSS."""

from __future__ import annotations

import contextlib
import re
import threading
from pathlib import Path
from typing import Self

from bench.cpu import family

_INTERVAL_S = 0.25


def pss_kib(pid: int) -> int:
    """KiB of the family. Raises FileNotFoundError if `pid` does not live."""
    return _sum(pid, "smaps_rollup", r"Pss")


def own_kib(pid: int) -> int:
    """The same without what is of files: the share of a library falls when another program loads it too."""
    return _sum(pid, "smaps_rollup", r"Pss_Anon|Pss_Shmem")


def resident_kib(pid: int) -> int:
    """What the processes of the family have for themselves, shared or not: the kernel counts that anyway."""
    return _sum(pid, "status", r"RssAnon|RssShmem")


def _sum(pid: int, file: str, fields: str) -> int:
    total = 0
    for member in family(pid):
        try:
            text = Path(f"/proc/{member}/{file}").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue  # Ended meanwhile.
        total += sum(int(kib) for kib in re.findall(rf"^(?:{fields}):\s+(\d+) kB", text, re.MULTILINE))
    return total


class PeakMemory:
    """The most that a family had while the context lasted.

    PSS takes a walk over all its pages, which costs the load's core milliseconds, the more the larger the proxy: it
    is taken at both ends. In between, four times a second, it is only asked how much more there is than at the start.
    """

    def __init__(self, pid: int) -> None:
        self.kib = 0
        self._pid = pid
        self._first = 0
        self._resident = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        # Whoever has died has nothing, and the load will say so.
        with contextlib.suppress(FileNotFoundError):
            # First what begins to be compared, so that what is added in between counts.
            self._resident = resident_kib(self._pid)
            self._first = self.kib = pss_kib(self._pid)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join()
        with contextlib.suppress(FileNotFoundError):
            self.kib = max(self.kib, pss_kib(self._pid))

    def _watch(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            while not self._over.wait(_INTERVAL_S):
                more = resident_kib(self._pid) - self._resident
                self.kib = max(self.kib, self._first + more)
