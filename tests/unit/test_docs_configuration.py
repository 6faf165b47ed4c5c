"""The reference page is what its generator prints, and the generator leaves nothing out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from vsproxy.config.model import Config
from vsproxy.config.reference import reference_page
from vsproxy.config.schema import json_schema

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_the_page_is_what_the_generator_prints() -> None:
    assert PAGE.read_text() == reference_page(), (
        "run: python -m vsproxy.config.reference > docs/configuration.md"
    )


def models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Every model that is reachable from an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        for field in annotation.model_fields.values():
            yield from models(field.annotation)
    for argument in get_args(annotation):
        yield from models(argument)


def test_every_key_has_a_description_and_a_line() -> None:
    page = reference_page()
    for model in set(models(Config)) - {Config}:
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name}"
            assert f"| `{name}` | " in page
            assert f"| {field.description} |" in page


def test_every_table_has_a_section() -> None:
    headings = [line for line in reference_page().splitlines() if line.startswith("## ")]
    assert headings == [
        "## `[proxy]`",
        "## `[log]`",
        "## `[admin]`",
        "## `[[listeners]]`",
        "## `[listeners.tls]`",
        "## `[[listeners.tls.certificates]]`",
        "## `[listeners.tls.hsts]`",
        "## `[[routes]]`",
        "## `[pools.NAME]`",
        "## `[[pools.NAME.servers]]`",
        "## `[pools.NAME.tls]`",
        "## `[pools.NAME.timeouts]`",
        "## `[pools.NAME.health]`",
        "## `[pools.NAME.retry]`",
        "## `[resolver]`",
    ]


def test_the_schema_knows_the_forms_of_a_file() -> None:
    schema = json_schema(Config)
    listener = schema["$defs"]["ListenerConfig"]["properties"]
    assert listener["bind"]["type"] == "string"
    assert [form["type"] for form in listener["idle_timeout"]["anyOf"]] == ["string", "number"]
    assert schema["$defs"]["AdminSection"]["properties"]["bind"]["default"] == "127.0.0.1:9900"
    assert schema["$defs"]["HealthConfig"]["properties"]["port"]["anyOf"][0] == {
        "type": "integer",
        "minimum": 1,
        "maximum": 65535,
    }
    assert schema["additionalProperties"] is False
    assert schema["$schema"].startswith("https://json-schema.org/")
