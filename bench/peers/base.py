"""What the benchmark wants of a proxy, and what it has to know to start one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bench.errors import BenchError

_HERE = Path(__file__).parent
# Where Debian puts servers, which is not on everybody's path.
_PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"))


@dataclass(frozen=True)
class Certificate:
    """PEM files; `both` is certificate and key in one."""

    ca: Path
    certificate: Path
    key: Path
    both: Path


@dataclass(frozen=True)
class Setup:
    """How a proxy is to run in a scenario: the same for all."""

    directory: Path
    port: int
    servers: tuple[str, ...]
    most_connections: int = 1000
    keepalive: int = 64
    certificate: Certificate | None = None
    http2: bool = False
    access_log: bool = False
    routes: int = 1
    workers: int = 1

    @property
    def prefixes(self) -> list[str]:
        """The paths of the routes: all, or /r0/, /r1/, ..."""
        return ["/"] if self.routes == 1 else [f"/r{number}/" for number in range(self.routes)]


class Peer(ABC):
    """One proxy. `name` names its files too."""

    name: str
    config_name: str

    @abstractmethod
    def find(self) -> Path | None:
        """The program, or None if it is not installed."""

    @abstractmethod
    def version(self) -> str:
        """As the program says it. Raises BenchError if it does not."""

    @abstractmethod
    def values(self, setup: Setup) -> dict[str, object]:
        """What stands between @ signs in its configuration."""

    @abstractmethod
    def command(self, config: Path, setup: Setup) -> list[str]:
        """To run it in the foreground."""

    @abstractmethod
    def check_command(self, config: Path) -> list[str]:
        """To have it check a configuration."""

    def environment(self, setup: Setup) -> dict[str, str]:
        """Variables to set for it."""
        return {}

    def cannot(self, setup: Setup) -> str | None:
        """Why it does not run in such a setup, if so."""
        return None

    def write_config(self, setup: Setup) -> Path:
        """Its configuration, in `setup.directory`."""
        text = fill((_HERE / self.config_name).read_text(), self.values(setup))
        path = setup.directory / self.config_name
        path.write_text(text)
        return path

    def program(self) -> str:
        """Raises BenchError if it is not installed."""
        found = self.find()
        if found is None:
            raise BenchError(f"{self.name} is not installed")
        return str(found)


def fill(text: str, values: dict[str, object]) -> str:
    """`text` with a value in place of each @NAME@. Raises BenchError for one that has none."""

    def value(match: re.Match[str]) -> str:
        if match.group(1) not in values:
            raise BenchError(f"nothing stands for {match.group()}")
        return str(values[match.group(1)])

    return re.sub(r"@([A-Z_]+)@", value, text)


def lines(items: Iterable[str], indent: int) -> str:
    """One item a line; the first has its indentation already."""
    return ("\n" + " " * indent).join(items)


def find_program(name: str, *folders: Path) -> Path | None:
    """On the path, with the places of servers, or in `folders`."""
    path = os.pathsep.join((*(str(folder) for folder in folders), _PATH))
    found = shutil.which(name, path=path)
    return Path(found) if found else None


def first_line(*command: str) -> str:
    """Of what a command prints on either stream. Raises BenchError if it fails or prints nothing."""
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    text = (result.stdout + result.stderr).strip()
    if result.returncode or not text:
        raise BenchError(f"{' '.join(command)}: {text or 'says nothing'}")
    return text.splitlines()[0]
