"""Puts environment variables into the text values of a configuration: `${NAME}` and `${NAME:-default}`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from vsproxy.config.positions import Path

# "$$" first, so that it can escape "${"; a lone "$" is ordinary text.
_REFERENCE = re.compile(r"\$\$|\$\{([^}]*)(\}?)")
_NAME = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)

Mistake = tuple[Path, str, str]


class Expansion:
    """Reads a tree of values; `mistakes` collects what could not be expanded and was left as it is."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.mistakes: list[Mistake] = []

    def expand(self, value: Any, path: Path = ()) -> Any:
        """`value` with every text in it expanded. Keys are never expanded."""
        if isinstance(value, str):
            return _REFERENCE.sub(lambda match: self._replacement(match, path), value)
        if isinstance(value, dict):
            return {key: self.expand(item, (*path, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [self.expand(item, (*path, index)) for index, item in enumerate(value)]
        return value

    def _replacement(self, match: re.Match[str], path: Path) -> str:
        if match[0] == "$$":
            return "$"
        parsed = _NAME.fullmatch(match[1])
        if parsed is None or not match[2]:
            accepted = '"${NAME}", "${NAME:-default}", or "$$" for a plain "$"'
            self.mistakes.append((path, f'"{match[0]}"', accepted))
            return match[0]
        name, default = parsed[1], parsed[2]
        # As in a shell, ":-" also replaces a variable that is set to nothing.
        if default is not None:
            return self._environ.get(name) or default
        if name not in self._environ:
            accepted = f'a variable that is set, or "${{{name}:-default}}"'
            self.mistakes.append((path, f'"{match[0]}", but {name} is not set', accepted))
            return match[0]
        return self._environ[name]
