"""A small file of the system that may change while we run."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")

logger = logging.getLogger("vsproxy.resolve")


class WatchedFile(Generic[T]):
    """What `parse` makes of the text of a file, which is read again when it is used after a change.

    A file that is not there reads as empty.
    """

    def __init__(self, path: str, parse: Callable[[str], T]) -> None:
        self._path = path
        self._parse = parse
        self._seen: tuple[int, ...] | None = None
        self._current: T | None = None

    def current(self) -> T:
        """The present meaning of the file."""
        seen = self._look()
        if self._current is None or seen != self._seen:
            self._current = self._parse(self._read())
            self._seen = seen
        return self._current

    def _look(self) -> tuple[int, ...]:
        try:
            found = os.stat(self._path)
        except OSError:
            return ()
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns

    def _read(self) -> str:
        try:
            return Path(self._path).read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""
        except OSError as error:
            logger.warning("%s cannot be read: %s", self._path, error.strerror)
            return ""
