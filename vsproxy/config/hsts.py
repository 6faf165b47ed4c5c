"""HSTS: what browsers are told about coming back over TLS only (RFC 6797)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

from vsproxy.config.pools import Section
from vsproxy.config.types import Accepts, Duration, Flag
from vsproxy.config.units import DURATION_PATTERN, parse_duration

#: What browsers' lists of preloaded hosts ask for, in seconds.
PRELOAD_AGE = 365 * 86400.0


class HstsConfig(Section):
    """Strict-Transport-Security in the answers of this listener. A duration in place of the table is its `max_age`."""

    max_age: Duration = Field(description="How long browsers remember. 0: they forget at once.")
    include_subdomains: Flag = Field(default=False, description="All hosts below this one as well.")
    preload: Flag = Field(
        default=False,
        description=(
            "Agree to be in the lists that browsers come with; asks for `include_subdomains` and 365 days at least."
        ),
    )


def _from_duration(value: object) -> object:
    """A table as it is; anything else has to be a duration. Raises ValueError."""
    return value if isinstance(value, Mapping | HstsConfig) else {"max_age": parse_duration(value)}


def _schema() -> dict[str, Any]:
    table = HstsConfig.model_json_schema()
    duration = [{"type": "string", "pattern": DURATION_PATTERN}, {"type": "number", "minimum": 0}]
    return {"anyOf": [*duration, {**table, "title": "HstsConfig"}]}


Hsts = Annotated[
    HstsConfig,
    BeforeValidator(_from_duration),
    WithJsonSchema(_schema()),
    Accepts('a duration such as "365d", or a table with max_age, include_subdomains, preload'),
]


def hsts_line(config: HstsConfig) -> bytes:
    """The field line, with its CRLF (RFC 6797 section 6.1)."""
    value = f"max-age={int(config.max_age)}"
    if config.include_subdomains:
        value += "; includeSubDomains"
    if config.preload:
        value += "; preload"
    return f"Strict-Transport-Security: {value}\r\n".encode("ascii")


def preload_contradictions(hsts: Any) -> Iterator[tuple[str, str, str]]:
    """What keeps `preload` from being true: key, found, accepted. Takes plain data of any shape."""
    if not isinstance(hsts, Mapping) or hsts.get("preload") not in (True, "true"):
        return
    if hsts.get("include_subdomains") not in (True, "true"):
        yield "preload", "true without include_subdomains", "include_subdomains = true beside it"
    try:
        age = parse_duration(hsts.get("max_age"))
    except ValueError:
        # Reported by the type of the key.
        return
    if age < PRELOAD_AGE:
        yield "preload", "true with a max_age of less than 365 days", 'max_age = "365d" or more'
