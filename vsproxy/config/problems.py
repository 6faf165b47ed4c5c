"""Turns what pydantic objects to into problems that name the line, what was found and what is accepted."""

from __future__ import annotations

import difflib
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from vsproxy.config.describe import KeyType, describe, is_table, type_at
from vsproxy.config.toml import Document
from vsproxy.errors import Problem

_MAX_SHOWN = 60


def problems_from(model: type[BaseModel], error: ValidationError, document: Document) -> list[Problem]:
    """One problem for each mistake in `error`, which came from reading `document` as `model`."""
    details = error.errors(include_url=False)
    return [
        _problem(model, entry, document)
        for entry in details
        if entry["loc"] not in document.unread and not _is_echo(entry)
    ]


def _is_echo(entry: ErrorDetails) -> bool:
    """pydantic calls a list too short when items of it are wrong, which are reported themselves."""
    return entry["type"] == "too_short" and len(entry["input"]) > 0


def _problem(model: type[BaseModel], entry: ErrorDetails, document: Document) -> Problem:
    path = entry["loc"]
    context = entry.get("ctx", {})
    if entry["type"] == "contradiction":
        return document.problem(path, context["found"], context["accepted"])
    if entry["type"] == "extra_forbidden":
        return _unknown_key(model, entry, document)
    key = type_at(model, path)
    accepted = _describe_with_keys(key) if key is not None else ""
    if entry["type"] == "missing":
        return document.problem(path, "nothing", accepted)
    found = shown(document.value(path, entry["input"]))
    if "error" in context:
        found += f" ({context['error']})"
    return document.problem(path, found, accepted)


def _unknown_key(model: type[BaseModel], entry: ErrorDetails, document: Document) -> Problem:
    path = entry["loc"]
    name = str(path[-1])
    table = type_at(model, path[:-1])
    keys = list(table.annotation.model_fields) if table is not None else []
    near = difflib.get_close_matches(name, keys, n=1, cutoff=0.5)
    hint = f', did you mean "{near[0]}"?' if near else ""
    return document.problem(path, f'the unknown key "{name}"{hint}', ", ".join(keys))


def _describe_with_keys(key: KeyType) -> str:
    text = describe(key)
    return f"{text} with {', '.join(key.annotation.model_fields)}" if is_table(key.annotation) else text


def shown(value: Any) -> str:
    """A value as it looks in TOML, shortened."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (dict, BaseModel)):
        return "a table"
    if isinstance(value, (list, tuple)):
        return "a list" if value else "an empty list"
    if isinstance(value, str):
        return f'"{value}"' if len(value) <= _MAX_SHOWN else f'"{value[:_MAX_SHOWN]}..."'
    return str(value) if isinstance(value, (int, float)) else f"a value of type {type(value).__name__}"
