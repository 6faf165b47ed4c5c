"""What is running: the version of vsproxy, whether its hot modules are compiled, and on what."""

from __future__ import annotations

import platform
from importlib.metadata import version

from vsproxy.wire import request

VERSION = "0.1.0"


def is_compiled() -> bool:
    """Whether the hot modules are the compiled ones."""
    return str(request.__file__).endswith((".so", ".pyd"))


def version_line() -> str:
    """One line for people: `vsproxy X.Y.Z (compiled), Python ..., uvloop ...`."""
    form = "compiled" if is_compiled() else "uncompiled"
    return f"vsproxy {VERSION} ({form}), Python {platform.python_version()}, uvloop {version('uvloop')}"
