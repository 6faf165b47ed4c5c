"""Says in words what a key accepts, from its type: for error messages and for the reference page."""

from __future__ import annotations

import types
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from vsproxy.config.positions import Path
from vsproxy.config.types import Accepts


@dataclass(frozen=True)
class KeyType:
    """An annotation with what pydantic and we have attached to it."""

    annotation: Any
    metadata: tuple[Any, ...] = ()

    @classmethod
    def of(cls, field: FieldInfo) -> KeyType:
        """The type of a field of a model, without the None of one that may be left out."""
        return cls(field.annotation, tuple(field.metadata)).unwrapped()

    def unwrapped(self) -> KeyType:
        """Without Annotated and Optional around it."""
        origin = get_origin(self.annotation)
        arguments = get_args(self.annotation)
        if origin is Annotated:
            return KeyType(arguments[0], (*arguments[1:], *self.metadata)).unwrapped()
        if origin in (Union, types.UnionType) and type(None) in arguments:
            # The None of a key that may be left out is always written last.
            return KeyType(arguments[0], self.metadata).unwrapped()
        return self

    @property
    def accepts(self) -> Accepts | None:
        """Our own note on the type, if it has one."""
        return next((note for note in self.metadata if isinstance(note, Accepts)), None)

    def limit(self, name: str) -> Any:
        """The bound called `name` (gt, ge, lt, le), None without one."""
        limits = [getattr(note, name) for note in self.metadata if hasattr(note, name)]
        return limits[-1] if limits else None

    def member(self, part: str | int) -> KeyType | None:
        """The type of what stands under `part` in a value of this type."""
        arguments = get_args(self.annotation)
        if is_table(self.annotation):
            field = self.annotation.model_fields.get(part)
            return KeyType.of(field) if field is not None else None
        if get_origin(self.annotation) in (tuple, dict):
            return KeyType(arguments[0 if get_origin(self.annotation) is tuple else 1]).unwrapped()
        return None


def is_table(annotation: Any) -> bool:
    """Whether a value of this annotation is a table with known keys."""
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def type_at(model: type[BaseModel], path: Path) -> KeyType | None:
    """The type of the key at `path` below `model`, None if there is no such key."""
    found: KeyType | None = KeyType(model)
    for part in path:
        found = found.member(part) if found is not None else None
    return found


def describe(key: KeyType, brief: bool = False) -> str:
    """What a key of this type accepts, in words; `brief` where the units are explained elsewhere."""
    if key.accepts is not None:
        text = key.accepts.brief if brief and key.accepts.brief else key.accepts.text
        return text + _limits(key, key.accepts)
    origin = get_origin(key.annotation)
    if key.annotation is bool:
        return "true or false"
    if key.annotation is int:
        return "a whole number" + _limits(key, None)
    if origin is Literal:
        return _alternatives(get_args(key.annotation))
    if origin is tuple:
        item = KeyType(get_args(key.annotation)[0]).unwrapped()
        text = "a list of tables" if is_table(item.annotation) else f"a list, each {describe(item, brief)}"
        return f"{text}, at least one" if key.limit("min_length") else text
    if origin is dict:
        return "a table of tables"
    return "a table"


def _alternatives(values: tuple[Any, ...]) -> str:
    quoted = [f'"{value}"' for value in values]
    return " or ".join(filter(None, [", ".join(quoted[:-1]), quoted[-1]]))


def _limits(key: KeyType, accepts: Accepts | None) -> str:
    show = str if accepts is None or accepts.show is None else accepts.show
    low, high = key.limit("ge"), key.limit("le")
    if key.limit("gt") is not None:
        return f", more than {key.limit('gt')}"
    if low is not None and high is not None:
        return f"{',' if accepts else ''} from {show(low)} to {show(high)}"
    if low is not None:
        return f"{',' if accepts else ''} from {show(low)} up"
    return ""
