"""The house rules, for the benchmark: small files, small functions, imports at the top."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import bench

PACKAGE = Path(bench.__file__).parent
SOURCES = sorted(path for end in ("py", "c", "h") for path in PACKAGE.rglob(f"*.{end}"))
MAX_FILE, MAX_FUNCTION = 400, 40


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_and_functions_stay_small(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= MAX_FILE
    assert max(map(len, text.splitlines()), default=0) <= 120
    if path.suffix != ".py":
        return
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < MAX_FUNCTION, node.name
            assert not [one for one in ast.walk(node) if isinstance(one, ast.Import | ast.ImportFrom)], node.name


def test_nothing_of_vsproxy_is_imported() -> None:
    """What is measured is another installation, and is started like the others; instructions are counted inside."""
    for path in set(PACKAGE.rglob("*.py")) - set((PACKAGE / "instructions").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not [name for name in names if name.split(".")[0] == "vsproxy"], path
