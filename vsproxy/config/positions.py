"""Finds the line of every key of a TOML text, which `tomllib` does not tell.

The text is known to be valid TOML (`tomllib` has read it), so the scanner only follows structure and never
judges: a value that is neither text, list nor inline table is skipped up to what ends it.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_left

Path = tuple[str | int, ...]

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SEPARATORS = re.compile(r"(?:[ \t\r\n,]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(r"[^,\]}#\r\n]+")
# Longest opening first. Up to two quotes may stand right before the closing three.
_STRINGS = re.compile(
    r"""\"{3}(?:[^\\]|\\.)*?"{3,5}|'{3}.*?'{3,5}|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'""",
    re.DOTALL,
)


def key_lines(text: str) -> dict[Path, int]:
    """The line, counted from 1, of each key, table and list item in valid TOML `text`."""
    return _Scanner(text).scan()


class _Scanner:
    """One pass over a text; `_table` is the path of the table that a `key = value` belongs to."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._newlines = [match.start() for match in re.finditer("\n", text)]
        self._table: Path = ()
        self._array_lengths: dict[Path, int] = {}
        self._lines: dict[Path, int] = {}

    def scan(self) -> dict[Path, int]:
        """Walk the whole text."""
        self._skip(_BLANK)
        while self._at < len(self._text):
            if self._peek() == "[":
                self._header()
            else:
                self._key_value(self._table)
            self._skip(_BLANK)
        return self._lines

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _skip(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        if match is None:
            return ""
        self._at = match.end()
        return match[0]

    def _note(self, path: Path, start: int) -> None:
        """A table may be reopened and a prefix repeated: the first place counts."""
        self._lines.setdefault(path, bisect_left(self._newlines, start) + 1)

    def _header(self) -> None:
        start = self._at
        brackets = 2 if self._text.startswith("[[", start) else 1
        self._at += brackets
        keys = self._keys()
        self._at += brackets
        path: Path = ()
        for key in keys[:-1]:
            path = self._enter((*path, key), start)
        path = (*path, keys[-1])
        if brackets == 2:
            index = self._array_lengths.get(path, 0)
            self._array_lengths[path] = index + 1
        self._table = self._enter(path, start)

    def _enter(self, path: Path, start: int) -> Path:
        """The table at `path`, which is the newest item if `path` is a list of tables."""
        self._note(path, start)
        if path in self._array_lengths:
            path = (*path, self._array_lengths[path] - 1)
            self._note(path, start)
        return path

    def _keys(self) -> list[str]:
        """A dotted key, with the blanks around it."""
        keys = []
        while True:
            self._skip(_SPACE)
            if self._peek() in ('"', "'"):
                keys.append(str(tomllib.loads(f"key = {self._skip(_STRINGS)}")["key"]))
            else:
                keys.append(self._skip(_BARE_KEY))
            self._skip(_SPACE)
            if self._peek() != ".":
                return keys
            self._at += 1

    def _key_value(self, table: Path) -> None:
        start = self._at
        path = table
        for key in self._keys():
            path = (*path, key)
            self._note(path, start)
        self._at += 1
        self._skip(_SPACE)
        self._value(path)

    def _value(self, path: Path) -> None:
        opening = self._peek()
        if opening == "[":
            self._list(path)
        elif opening == "{":
            self._inline_table(path)
        elif opening in ('"', "'"):
            self._skip(_STRINGS)
        else:
            self._skip(_SCALAR)

    def _list(self, path: Path) -> None:
        self._at += 1
        index = 0
        while self._more("]"):
            self._note((*path, index), self._at)
            self._value((*path, index))
            index += 1

    def _inline_table(self, path: Path) -> None:
        self._at += 1
        while self._more("}"):
            self._key_value(path)

    def _more(self, closing: str) -> bool:
        """Whether another item follows; steps over the comma before it, or over the closing bracket."""
        self._skip(_SEPARATORS)
        if self._peek() != closing:
            return True
        self._at += 1
        return False
