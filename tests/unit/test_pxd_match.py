"""Every compiled module against its `.pxd`: nothing is typed that is gone, or has another name."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import vsproxy

PACKAGE = Path(vsproxy.__file__).parent
PXDS = sorted(PACKAGE.rglob("*.pxd"))
# C for the compiled modules, where the module of that name is for the others.
INLINE = [PACKAGE / "sockets.pxd"]
WRITTEN = [pxd for pxd in PXDS if pxd.with_suffix(".py").exists() and pxd not in INLINE]


@dataclass
class Function:
    arguments: list[str]
    typed_locals: list[str]


@dataclass
class Scope:
    """A class of a `.pxd`, or its module level: `names` in order of their declaration."""

    names: list[str] = field(default_factory=list)
    functions: dict[str, Function] = field(default_factory=dict)


def statements(text: str) -> list[str]:
    """The lines of a `.pxd` without comments, those inside brackets joined, indentation kept."""
    joined: list[str] = []
    depth = 0
    for raw in text.splitlines():
        line = raw.split("#")[0].rstrip()
        if not line:
            continue
        if depth:
            joined[-1] += " " + line.strip()
        else:
            joined.append(line)
        depth += line.count("(") - line.count(")")
    return joined


def split_arguments(text: str) -> list[str]:
    return [part.strip() for part in re.sub(r"\[[^]]*]", "", text).split(",") if part.strip()]


def parse_pxd(text: str) -> dict[str, Scope]:
    """Scopes by class name; "" is the module's."""
    scopes = {"": Scope()}
    current = ""
    typed_locals: list[str] = []
    for statement in statements(text):
        if not statement.startswith(" "):
            current = ""
        line = statement.strip()
        scope = scopes[current]
        if match := re.match(r"cdef class (\w+)", line):
            current = match[1]
            assert current not in scopes, f"{current} is declared twice"
            scopes[current] = Scope()
        elif match := re.match(r"@cython\.locals\((.*)\)$", line):
            typed_locals = [part.split("=")[0].strip() for part in split_arguments(match[1])]
        elif match := re.match(r"(?:cpdef|cdef) [^(]*?(\w+)\((.*)\)", line):
            arguments = [
                re.split(r"\W+", part.removesuffix("=*").rstrip())[-1] for part in split_arguments(match[2])
            ]
            assert match[1] not in scope.functions, f"{match[1]} is declared twice"
            scope.functions[match[1]] = Function(arguments, typed_locals)
            typed_locals = []
        elif match := re.match(r"cdef (?:public |readonly )?(.*)", line):
            first, *more = match[1].split(",")
            scope.names += [re.split(r"\W+", part.strip())[-1] for part in (first, *more)]
    return scopes


def local_names(function: ast.FunctionDef) -> set[str]:
    stored = {
        node.id
        for node in ast.walk(function)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    return stored | {argument.arg for argument in function.args.args}


def module_names(tree: ast.Module) -> set[str]:
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            names |= {
                name.id
                for name in ast.walk(node)
                if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)
            }
    return names


def slots(class_body: ast.ClassDef) -> list[str]:
    for node in class_body.body:
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and node.targets[0].id == "__slots__"
        ):
            value = ast.literal_eval(node.value)
            return [value] if isinstance(value, str) else list(value)
    raise AssertionError(f"{class_body.name} has no __slots__")


def check_functions(where: str, scope: Scope, body: list[ast.stmt]) -> None:
    defined = {node.name: node for node in body if isinstance(node, ast.FunctionDef)}
    for name, typed in scope.functions.items():
        assert name in defined, f"{where}.{name} is typed but not defined"
        found = [argument.arg for argument in defined[name].args.args]
        assert typed.arguments == found, f"arguments of {where}.{name}"
        assert len(set(typed.typed_locals)) == len(typed.typed_locals), f"{where}.{name} types a local twice"
        gone = set(typed.typed_locals) - local_names(defined[name])
        assert not gone, f"{where}.{name} types locals that do not exist: {gone}"


@pytest.mark.parametrize("pxd", WRITTEN, ids=[str(pxd.relative_to(PACKAGE)) for pxd in WRITTEN])
def test_pxd_matches_its_module(pxd: Path) -> None:
    source = pxd.with_suffix(".py").read_text("utf-8")
    assert source.startswith("# cython: annotation_typing=False\n")
    tree = ast.parse(source)
    scopes = parse_pxd(pxd.read_text("utf-8"))
    gone = set(scopes[""].names) - module_names(tree)
    assert not gone, f"constants that do not exist: {gone}"
    check_functions(pxd.stem, scopes[""], tree.body)
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    for name, scope in scopes.items():
        if not name:
            continue
        assert name in classes, f"class {name} is typed but not defined"
        assert sorted(scope.names) == sorted(slots(classes[name])), f"attributes of {name}"
        check_functions(name, scope, classes[name].body)


@pytest.mark.parametrize("pxd", WRITTEN, ids=[str(pxd.relative_to(PACKAGE)) for pxd in WRITTEN])
def test_attributes_are_in_the_same_order(pxd: Path) -> None:
    """As in the annotations of the class; `__slots__` itself is kept sorted."""
    tree = ast.parse(pxd.with_suffix(".py").read_text("utf-8"))
    scopes = parse_pxd(pxd.read_text("utf-8"))
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name in scopes:
            annotated = [
                item.target.id
                for item in node.body
                if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
            ]
            typed = [name for name in scopes[node.name].names if name in annotated]
            assert typed == annotated, node.name


def test_there_is_no_pxd_without_a_module() -> None:
    assert sorted([*WRITTEN, *INLINE]) == PXDS


@pytest.mark.parametrize(
    ("pxd", "complaint"),
    [
        ("cdef class A:\n    cdef public int b\n    cdef public int c\n", "attributes of A"),
        ("cdef class A:\n    cdef public int b\n    cpdef f(self, int y)\n", "arguments of A.f"),
        ("cdef class A:\n    cdef public int b\n    cpdef g(self)\n", "not defined"),
        (
            "cdef class A:\n    cdef public int b\n    @cython.locals(z=int)\n    cpdef f(self, int x)\n",
            "do not exist",
        ),
        ("cdef int _X\n", "constants"),
    ],
)
def test_rot_is_noticed(tmp_path: Path, pxd: str, complaint: str) -> None:
    source = "class A:\n    __slots__ = ('b',)\n    def f(self, x):\n        pass\n"
    (tmp_path / "a.py").write_text("# cython: annotation_typing=False\n" + source)
    path = tmp_path / "a.pxd"
    path.write_text(pxd)
    with pytest.raises(AssertionError, match=complaint):
        test_pxd_matches_its_module(path)


@pytest.mark.parametrize("pxd", INLINE, ids=lambda pxd: pxd.stem)
def test_inline_c_has_the_functions_of_its_module(pxd: Path) -> None:
    tree = ast.parse(pxd.with_suffix(".py").read_text())
    written = {
        node.name: [argument.arg for argument in node.args.args]
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
    }
    inline = re.findall(r"^cdef inline [\w ]+? (\w+)\((.*)\)", pxd.read_text(), re.MULTILINE)
    assert {name: [part.split()[-1] for part in arguments.split(",")] for name, arguments in inline} == written
