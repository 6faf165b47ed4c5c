"""Prints the reference page of all keys, docs/configuration.md, from the model.

Run `python -m vsproxy.config.reference > docs/configuration.md` after a change of the model.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from vsproxy.config.describe import KeyType, describe, is_table
from vsproxy.config.model import Config
from vsproxy.config.problems import shown

_INTRODUCTION = """\
<!-- Generated: python -m vsproxy.config.reference > docs/configuration.md -->
# Configuration

One TOML file, read by `vsproxy --config lb.toml`. `vsproxy check lb.toml` lists every mistake in it at \
once, with line and key, opens certificates and resolves the names of servers; `vsproxy schema` prints its \
JSON Schema. From Python, `Config.load("lb.toml")` reads the file and `Config.model_validate({...})` a \
dictionary of the same shape.

- **Durations** are text with `ms`, `s`, `m`, `h` or `d` (`"500ms"`, `"1.5s"`, `"1m30s"`, `"365d"`), or \
a number of seconds.
- **Sizes** are text with `B`, `KB`, `MB`, `GB` (powers of 1000) or `KiB`, `MiB`, `GiB` (powers of 1024), \
or a number of bytes.
- **Environment**: in every text, `${NAME}` becomes the value of the variable, and it is a mistake if it is \
not set; `${NAME:-default}` gives a default for one that is not set or empty; `$$` is a plain `$`. Numbers \
and true or false may be given this way too: `weight = "${WEIGHT:-5}"`.
- **Relative paths** of files start at the directory in which vsproxy was started.
- A key that is not listed here is a mistake. *required* in the column of defaults means that there is none.
"""


def reference_page(model: type[BaseModel] = Config) -> str:
    """The whole page, in Markdown."""
    sections = [section for name, field in model.model_fields.items() for section in _sections(name, field)]
    return "\n".join([_INTRODUCTION, *sections])


def _sections(name: str, field: FieldInfo) -> Iterator[str]:
    """The section of a table and those of the tables in it."""
    key = KeyType.of(field)
    arguments = get_args(key.annotation)
    if get_origin(key.annotation) is dict:
        yield from _section(f"{name}.NAME", f"[{name}.NAME]", arguments[1])
    elif get_origin(key.annotation) is tuple and is_table(arguments[0]):
        yield from _section(name, f"[[{name}]]", arguments[0])
    elif is_table(key.annotation):
        yield from _section(name, f"[{name}]", key.annotation)


def _section(name: str, heading: str, model: type[BaseModel]) -> Iterator[str]:
    rows = [_row(key, field) for key, field in model.model_fields.items()]
    summary = " ".join((model.__doc__ or "").split())
    yield "\n".join(
        [
            f"## `{heading}`",
            "",
            summary,
            "",
            "| key | accepts | default | meaning |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )
    for key, field in model.model_fields.items():
        yield from _sections(f"{name}.{key}", field)


def _row(name: str, field: FieldInfo) -> str:
    key = KeyType.of(field)
    accepts = describe(key, brief=True)
    if accepts == "a table":
        accepts += ", below"
    elif accepts.startswith("a list of tables"):
        accepts = accepts.replace("a list of tables", "a list of tables, below")
    cells = (f"`{name}`", accepts, _default(key, field), field.description or "")
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _default(key: KeyType, field: FieldInfo) -> str:
    if field.is_required():
        return "*required*"
    if field.default is None:
        return "none"
    if is_table(key.annotation):
        return "its defaults"
    return f"`{_written(key, field.default)}`"


def _written(key: KeyType, value: Any) -> str:
    """A default as it would stand in the file."""
    if key.accepts is not None and key.accepts.show is not None:
        return key.accepts.show(value)
    return json.dumps(list(value)) if isinstance(value, tuple) else shown(value)


if __name__ == "__main__":
    print(reference_page(), end="")
