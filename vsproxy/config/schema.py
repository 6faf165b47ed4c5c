"""The JSON Schema of a configuration, for editors and other tools that read TOML by schema."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from vsproxy.config.units import Bind, StatusSet

# pydantic leaves its own names where a bound stands on a type that may be None.
_BOUNDS = {"ge": "minimum", "le": "maximum", "gt": "exclusiveMinimum", "lt": "exclusiveMaximum"}


class _TextDefaults(GenerateJsonSchema):
    """Writes the default of a value that is written as text as that text."""

    def encode_default(self, dft: Any) -> Any:
        """The default as it would be written in a file."""
        return str(dft) if isinstance(dft, (Bind, StatusSet)) else super().encode_default(dft)


def json_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON Schema of `model`, with the forms that a file may use ("10s" as well as 10)."""
    schema: dict[str, Any] = _standard(model.model_json_schema(schema_generator=_TextDefaults))
    return {"$schema": GenerateJsonSchema.schema_dialect, **schema}


def _standard(node: Any) -> Any:
    if isinstance(node, list):
        return [_standard(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        (_BOUNDS.get(key, key) if isinstance(value, (int, float)) else key): _standard(value)
        for key, value in node.items()
    }
