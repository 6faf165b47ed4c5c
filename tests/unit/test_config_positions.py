"""The line of every key, for every way in which TOML lets one write it."""

from __future__ import annotations

import json
import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsproxy.config.positions import Path, key_lines

TEXT = '''\
# a comment with [brackets] and "quotes
top = 1
[a]
x.y = "one # not a comment" # a comment
"quoted.key" = 'C:\\path'

[[items]]
name = "first"
[[items]]
name = "second"
[items.sub]
deep = """
several = "lines"
[not.a.table]
"""""
after = true
[[items.parts]]
n = 1
[[items.parts]]
n = 2
[b . "c d"]
list = [
  { address = "x", weight = 5 }, # } ]
  [1, [2,
    3]],
  { address = \'\'\'
}]\'\'\', when = 1979-05-27T07:32:00Z },
]
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("top",), 2),
        (("a",), 3),
        (("a", "x"), 4),
        (("a", "x", "y"), 4),
        (("a", "quoted.key"), 5),
        (("items",), 7),
        (("items", 0), 7),
        (("items", 0, "name"), 8),
        (("items", 1), 9),
        (("items", 1, "name"), 10),
        (("items", 1, "sub", "deep"), 12),
        (("items", 1, "sub", "after"), 16),
        (("items", 1, "parts", 0), 17),
        (("items", 1, "parts", 1, "n"), 20),
        (("b", "c d"), 21),
        (("b", "c d", "list"), 22),
        (("b", "c d", "list", 0, "weight"), 23),
        (("b", "c d", "list", 1, 1), 24),
        (("b", "c d", "list", 1, 1, 1), 25),
        (("b", "c d", "list", 2, "address"), 26),
        (("b", "c d", "list", 2, "when"), 27),
    ],
)
def test_finds_the_line_of(path: Path, line: int) -> None:
    assert key_lines(TEXT)[path] == line


def paths_of(value: Any, path: Path = ()) -> set[Path]:
    """The path of everything in `value`."""
    children: Any = ()
    if isinstance(value, dict):
        children = value.items()
    elif isinstance(value, list):
        children = enumerate(value)
    found = {path} if path else set()
    return found.union(*(paths_of(child, (*path, key)) for key, child in children))


def test_finds_everything_that_tomllib_finds() -> None:
    assert set(key_lines(TEXT)) == paths_of(tomllib.loads(TEXT))


# json escapes are TOML escapes, except that TOML knows no surrogates and forbids a raw DEL.
WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x7f"), max_size=6)
VALUES = st.recursive(
    st.one_of(st.booleans(), st.integers(-(2**60), 2**60), st.floats(allow_nan=False), WORDS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(WORDS, inner, max_size=3)),
    max_leaves=8,
)


def written(value: Any) -> str:
    """`value` as TOML, a list with one item a line and a comment after it."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{quoted(key)} = {written(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + "".join(f"\n  {written(item)}, # ] \"'" for item in value) + "\n]"
    return quoted(value) if isinstance(value, str) else json.dumps(value).replace("Infinity", "inf")


def quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


@given(st.dictionaries(WORDS, VALUES, max_size=4), st.dictionaries(WORDS, VALUES, max_size=3))
def test_finds_everything_in_order_in_any_file(table: dict[str, Any], item: dict[str, Any]) -> None:
    lines = ["[first]", *(f"{quoted(key)} = {written(value)}" for key, value in table.items())]
    for _ in range(2):
        lines += ["[[second]]", *(f"{quoted(key)} = {written(value)}" for key, value in item.items())]
    text = "\n".join(lines)
    found = key_lines(text)
    assert set(found) == paths_of(tomllib.loads(text))
    source = text.split("\n")
    for path, line in found.items():
        if isinstance(path[-1], str) and len(path) > 1:
            assert quoted(path[-1]) in source[line - 1]
    second = 1 + len("\n".join(lines[: 1 + len(table)]).split("\n"))
    assert found[("second", 0)] == second
    assert found[("first",)] == 1


def test_a_file_with_carriage_returns() -> None:
    assert key_lines("a = 1\r\n[b]\r\nc = [\r\n1,\r\n]\r\n")[("b", "c", 0)] == 4
