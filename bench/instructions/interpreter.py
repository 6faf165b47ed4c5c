"""How modules of `bench` are run by the interpreter whose vsproxy is counted."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Last on the path: the vsproxy that is installed there, or that PYTHONPATH names, goes before our source tree.
_BOOT = f"import sys; sys.path.append({str(ROOT)!r}); from {{module}} import main; main(sys.argv[1:])"
# Where an interpreter finds its parts. All else stays out, as it would move what lies in memory.
_PASSED_ON = (
    "HOME",
    "LD_LIBRARY_PATH",
    "PATH",
    "PYTHONDONTWRITEBYTECODE",
    "PYTHONHOME",
    "PYTHONPATH",
    "PYTHONPYCACHEPREFIX",
    "TMPDIR",
)
# glibc chooses its memcpy, strchr and others by what the processor has of these. Other libraries for C, and other
# processors, do not know the variable or the names, and take no notice.
_FEATURES = ("AVX2", "AVX2_Usable", "AVX512VL", "AVX512BW", "AVX_Fast_Unaligned_Load", "BMI2", "ERMS", "FSRM", "RTM")


def command(python: str, module: str, *args: str) -> list[str]:
    """The command that calls `main(args)` of `module`, which needs no vsproxy of its own to be found."""
    return [python, "-P", "-c", _BOOT.format(module=module), *args]


def environment() -> dict[str, str]:
    """What it runs in: everything that an order or a choice could depend on is fixed."""
    passed = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    tunables = "glibc.cpu.hwcaps=" + ",".join(f"-{feature}" for feature in _FEATURES)
    return {**passed, "PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8", "GLIBC_TUNABLES": tunables}
