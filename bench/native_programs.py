"""The load and the servers are C, compiled when a benchmark starts: in Python they would need more of their core than
the proxies need of theirs, and no proxy would ever be busy."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.errors import BenchError

SOURCES = Path(__file__).parent / "native"
LOAD = ("load.c", "channel.c", "options.c", "message.c", "pattern.c", "histogram.c", "websocket.c")
SERVER = ("server.c", "message.c", "pattern.c", "websocket.c")


@dataclass(frozen=True)
class Programs:
    """Where the two are."""

    load: Path
    server: Path


def compile_programs(directory: Path) -> Programs:
    """Both, in `directory`. Raises BenchError if there is no compiler, or no OpenSSL to compile against."""
    return Programs(
        load=_compile(directory / "load", LOAD, "-lssl", "-lcrypto"),
        server=_compile(directory / "server", SERVER, "-lcrypto"),
    )


def _compile(program: Path, sources: tuple[str, ...], *libraries: str) -> Path:
    compiler = os.environ.get("CC", "cc")
    if shutil.which(compiler) is None:
        raise BenchError(f"no C compiler: {compiler} is not here")
    command = [compiler, "-O2", "-Wall", "-Wextra", "-o", str(program)]
    command += [str(SOURCES / name) for name in sources] + list(libraries)
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise BenchError(f"{' '.join(command)}:\n{result.stderr}")
    return program
