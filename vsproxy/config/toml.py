"""Reads a TOML file into plain data that remembers its lines."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

from vsproxy.config.environment import Expansion
from vsproxy.config.positions import Path, key_lines
from vsproxy.errors import ConfigError, Problem

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SYNTAX_ERROR = re.compile(r"(.*) \(at (?:line ([0-9]+), column ([0-9]+)|end of document)\)", re.DOTALL)


@dataclass(frozen=True)
class Document:
    """Plain data, the name to call it by, and where each of its keys stands.

    `problems` are the mistakes of reading; the values at `unread` were left as they are and say nothing more.
    """

    file: str
    data: Any
    lines: Mapping[Path, int] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    unread: frozenset[Path] = frozenset()

    def line(self, path: Path) -> int:
        """The line of `path`, or of the nearest table around it; 0 if there are no lines."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 0)

    def value(self, path: Path, default: Any) -> Any:
        """What was written at `path`, before any conversion; `default` if nothing can be found there."""
        value = self.data
        for part in path:
            try:
                value = value[part]
            except (KeyError, IndexError, TypeError):
                # The path may name a key that is missing, or go on below a value of the wrong type.
                return default
        return value

    def problem(self, path: Path, found: str, accepted: str) -> Problem:
        """A mistake at `path`."""
        return Problem(self.file, self.line(path), key_text(path), found, accepted)


def key_text(path: Path) -> str:
    """A path as people write it: `pools.web.servers[0].weight`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            name = part if _BARE_KEY.fullmatch(part) else f'"{part}"'
            text += f".{name}" if text else name
    return text


def read_document(path: str, environ: Mapping[str, str]) -> Document:
    """Read the TOML file at `path`, environment variables put in.

    Raises ConfigError if the file cannot be read or is not TOML; a variable that is not set is a problem
    of the document, so that it can be told together with other mistakes.
    """
    try:
        text = FilePath(path).read_bytes().decode()
        data = tomllib.loads(text)
    except OSError as error:
        raise ConfigError([Problem(path, 0, "", f"cannot be read: {error.strerror}")]) from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError([Problem(path, line, "", "a byte that is not UTF-8", "TOML in UTF-8")]) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([_syntax_problem(path, text, str(error))]) from error
    except RecursionError as error:
        raise ConfigError([Problem(path, 0, "", "not TOML: arrays or tables too deep in each other")]) from error
    expansion = Expansion(environ)
    bare = Document(path, expansion.expand(data), key_lines(text))
    problems = tuple(bare.problem(*mistake) for mistake in expansion.mistakes)
    return Document(path, bare.data, bare.lines, problems, frozenset(at for at, _, _ in expansion.mistakes))


def _syntax_problem(path: str, text: str, message: str) -> Problem:
    """tomllib tells the place at the end of its message, or that the text ended too early."""
    match = _SYNTAX_ERROR.fullmatch(message)
    if match is None:
        return Problem(path, 0, "", f"not TOML: {message}")
    if match[2] is None:
        last_line = text.rstrip().count("\n") + 1
        return Problem(path, last_line, "", f"not TOML: {match[1]}, at the end of the file")
    return Problem(path, int(match[2]), "", f"not TOML: {match[1]}, at column {match[3]}")
