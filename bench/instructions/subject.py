"""Which build is counted, and under which key its figures are kept.

Of the compiled modules, the modules themselves are asked: gcc and clang leave their version in the section
`.comment`, and Cython has the name of the module of its common types, `_cython_3_3_1`, in every module. Whatever
is installed beside an installed wheel need not be what has built it.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

from bench.instructions.errors import CannotCount
from bench.instructions.interpreter import command, environment

_CYTHON = re.compile(rb"\b_cython_(\d+_\d+_\w+)")
_COMPILERS = (
    ("gcc", re.compile(rb"GCC: \([^)]*\) (\d[\w.]*)")),
    ("clang", re.compile(rb"clang version (\d[\w.]*)")),
)


def key_of(python: str) -> str:
    """The key of what `python` has as vsproxy.

    Raises `CannotCount` if it has none, or one that is not compiled, or of which nobody could say by what.
    """
    probe = command(python, "bench.instructions.probe")
    try:
        output = subprocess.run(probe, env=environment(), capture_output=True, text=True, check=True).stdout
    except OSError as error:
        raise CannotCount(f"{python} does not run: {error.strerror}") from error
    except subprocess.CalledProcessError as error:
        raise CannotCount(f"{python} does not run: {error.stderr.strip()}") from error
    found = json.loads(output)
    if found["package"] is None:
        raise CannotCount(f"{python} has no vsproxy")
    made_by = builders(compiled_modules(Path(found["package"])))
    return ", ".join([found["python"], *made_by, found["libc"] or "another libc", found["machine"]])


def compiled_modules(package: Path) -> list[Path]:
    """The shared objects of all modules that are meant to be compiled. Raises `CannotCount` if one is not.

    They have a `.pxd`; one with nothing but C for the others (`cdef inline`) has no object.
    """
    modules = []
    for declared in sorted(package.rglob("*.pxd")):
        if "\ncdef inline" in declared.read_text():
            continue
        objects = sorted(declared.parent.glob(f"{declared.stem}.*.so"))
        if not objects:
            name = ".".join(declared.relative_to(package).with_suffix("").parts)
            raise CannotCount(
                f"vsproxy.{name} in {package} is not compiled, and only the compiled form is counted: install a wheel, "
                "or run `python setup.py build_ext --inplace`"
            )
        modules += objects
    if not modules:
        raise CannotCount(f"{package} has no compiled modules")
    return modules


def builders(modules: list[Path]) -> list[str]:
    """Cython and the C compiler, with versions. Raises `CannotCount` if modules differ in them, or do not say."""
    signatures = {signature(path.read_bytes()): path for path in modules}
    if len(signatures) != 1:
        raise CannotCount(f"the modules of vsproxy come from different builds: {sorted(signatures)}")
    found = next(iter(signatures))
    if len(found) != 2:
        raise CannotCount(f"{modules[0]} does not say which Cython and which compiler made it: {list(found)}")
    return list(found)


def signature(content: bytes) -> tuple[str, ...]:
    """What made one shared object: ("cython 3.3.1", "gcc 12.2.0")."""
    cython = {match.decode().replace("_", ".") for match in _CYTHON.findall(content)}
    # The start-up files of a C library may come from another release of the same compiler: the highest made ours.
    compilers = [
        f"{name} {max(versions, key=version_order).decode()}"
        for name, pattern in _COMPILERS
        if (versions := pattern.findall(content))
    ]
    return (*[f"cython {version}" for version in sorted(cython)], *compilers[-1:])


def version_order(version: bytes) -> list[int]:
    """12.10.0 is above 12.9.1."""
    return [int(part) for part in re.findall(rb"\d+", version)]
