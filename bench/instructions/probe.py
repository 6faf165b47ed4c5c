"""Runs inside the interpreter that is counted: says what it is, as JSON."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import re
import sys
import sysconfig


def main(args: list[str]) -> None:
    """Print `python` (with how it was built), `libc`, `machine`, and `package`: the folder of vsproxy, or None."""
    spec = importlib.util.find_spec("vsproxy")
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    found = {
        "python": f"{sys.implementation.name} {platform.python_version()} ({build()})",
        "libc": os.confstr("CS_GNU_LIBC_VERSION"),
        "machine": platform.machine(),
        "package": folders[0] if folders else None,
    }
    print(json.dumps(found))


def build() -> str:
    """What the interpreter's own speed depends on, as far as it knows: compiler, -O, PGO, LTO, libpython."""
    options = str(sysconfig.get_config_var("CONFIG_ARGS"))
    levels = re.findall(r"-O\w", str(sysconfig.get_config_var("CFLAGS")))
    return " ".join(
        [
            platform.python_compiler().lower(),
            *levels[-1:],  # the last one counts
            *(["pgo"] if "--enable-optimizations" in options else []),
            *(["lto"] if "--with-lto" in options else []),
            *(["shared"] if sysconfig.get_config_var("Py_ENABLE_SHARED") else []),
        ]
    )
