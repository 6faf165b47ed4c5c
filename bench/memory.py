"""Memory of a process and all that it has started. What they share counts once: PSS, not RSS."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Self

from bench.cpu import family

_INTERVAL_S = 0.25


def pss_kib(pid: int) -> int:
    """KiB of the family. Raises FileNotFoundError if `pid` does not live."""
    return _sum(pid, r"Pss")


def own_kib(pid: int) -> int:
    """The same without what is of files: the share of a library falls when another program loads it too."""
    return _sum(pid, r"Pss_Anon|Pss_Shmem")


def _sum(pid: int, fields: str) -> int:
    total = 0
    for member in family(pid):
        try:
            text = Path(f"/proc/{member}/smaps_rollup").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue  # Ended meanwhile.
        total += sum(int(kib) for kib in re.findall(rf"^(?:{fields}):\s+(\d+) kB", text, re.MULTILINE))
    return total


class PeakMemory:
    """The most that a family had while the context lasted, looked at four times a second and at both ends."""

    def __init__(self, pid: int) -> None:
        self.kib = 0
        self._pid = pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._look()
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join()
        self._look()

    def _watch(self) -> None:
        while not self._over.wait(_INTERVAL_S):
            self._look()

    def _look(self) -> None:
        try:
            self.kib = max(self.kib, pss_kib(self._pid))
        except FileNotFoundError:
            return  # It died, which the load will say.
