"""The types of the keys: each says how it is read, what it accepts in words, and how it is shown."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, GetJsonSchemaHandler, PlainSerializer, WithJsonSchema
from pydantic_core import CoreSchema

from vsproxy.config.units import (
    DURATION_PATTERN,
    SIZE_PATTERN,
    Bind,
    StatusSet,
    format_duration,
    format_size,
    parse_address,
    parse_bind,
    parse_duration,
    parse_nameserver,
    parse_size,
    parse_statuses,
)

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HOST_LABELS = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?"
_ROUTE_HOST = re.compile(rf"(?:\*\.)?{_HOST_LABELS}|\[[0-9A-Fa-f:.]+\]")
_HOST_FIELD = re.compile(rf"(?:{_HOST_LABELS}|\[[0-9A-Fa-f:.]+\])(?::[0-9]{{1,5}})?")
_VISIBLE = re.compile(r"/[!-~]*")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Accepts:
    """What a type accepts, in words for error messages; `show` writes a default, `brief` is for tables."""

    text: str
    show: Callable[[Any], str] | None = None
    brief: str = ""


def _whole(value: object) -> int:
    """A whole number, also from text (an environment variable is text), never from true or false."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,18}", value):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError("not a whole number")


def _flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if value in ("true", "false"):
        return value == "true"
    raise ValueError("not a truth value")


def _text(value: object) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("not text")
    return value


def _workers(value: object) -> object:
    if value == "auto":
        return value
    count = _whole(value)
    if count < 1:
        raise ValueError("at least one process is needed")
    return count


def _network(value: object) -> Network:
    if isinstance(value, (ipaddress.IPv4Network, ipaddress.IPv6Network)):
        return value
    if not isinstance(value, str):
        raise ValueError("not text")
    return ipaddress.ip_network(value)


def _route_host(value: object) -> str:
    text = _text(value)
    if not text.isascii():
        raise ValueError("an international name is written in its xn-- form")
    if not _ROUTE_HOST.fullmatch(text):
        raise ValueError("a host has no scheme, port or path")
    return text.lower().removesuffix(".")


def _route_path(value: object) -> str:
    text = _text(value)
    if not _VISIBLE.fullmatch(text) or "?" in text or "#" in text:
        raise ValueError("not a path")
    # Prefixes are compared segment by segment, so that a final slash says nothing.
    return text.rstrip("/") or "/"


def _target(value: object) -> str:
    text = _text(value)
    if not _VISIBLE.fullmatch(text) or "#" in text:
        raise ValueError("not a path")
    return text


def _host_field(value: object) -> str:
    text = _text(value)
    if not _HOST_FIELD.fullmatch(text):
        raise ValueError("not a host")
    return text


def _server_name(value: object) -> str:
    """A host name in small letters and without a final dot, or an IP address without brackets."""
    text = _text(value)
    try:
        return str(ipaddress.ip_address(text.removeprefix("[").removesuffix("]")))
    except ValueError:
        # Not an address.
        name = text.lower().removesuffix(".")
    if not re.fullmatch(_HOST_LABELS, name) or not all(0 < len(label) < 64 for label in name.split(".")):
        raise ValueError("not a host name")
    return name


def _on_or_table(value: object) -> object:
    """`true` for a table that is empty, `false` for none."""
    if value is True or value == "true":
        return {}
    if value is False or value == "false":
        return None
    return value


def _token(value: object) -> str:
    text = _text(value).lower()
    if not _TOKEN.fullmatch(text):
        raise ValueError("not a token")
    return text


def _hash_key(value: object) -> str:
    text = _text(value)
    kind, colon, name = text.partition(":")
    named = kind in ("header", "cookie") and bool(_TOKEN.fullmatch(name))
    if not (named or (kind in ("client", "uri") and not colon)):
        raise ValueError("not a hash key")
    return text


def _retry_cause(value: object) -> object:
    """Statuses may be written as numbers."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


class _OrSwitch:
    """In a JSON Schema: what stands here may also be `true` or `false`."""

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """See pydantic."""
        inner = handler(schema)
        return {"anyOf": [{"type": "boolean"}, *inner.get("anyOf", [inner])]}


def _text_or_number(pattern: str, number: str) -> WithJsonSchema:
    text = {"type": "string", "pattern": pattern}
    return WithJsonSchema({"anyOf": [text, {"type": number, "minimum": 0}]})


def _quoted(value: object) -> str:
    return f'"{value}"'


Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    _text_or_number(DURATION_PATTERN, "number"),
    Accepts(
        'a duration such as "10s", "500ms", "1m30s", "1h", "7d", or a number of seconds',
        lambda seconds: _quoted(format_duration(seconds)),
        brief="a duration",
    ),
]
Size = Annotated[
    int,
    BeforeValidator(parse_size),
    _text_or_number(SIZE_PATTERN, "integer"),
    Accepts(
        'a size such as "64KiB", "10GiB", "1MB" (KiB MiB GiB, KB MB GB, B), or a number of bytes',
        lambda size: _quoted(format_size(size)),
        brief="a size",
    ),
]
Whole = Annotated[int, BeforeValidator(_whole)]
Flag = Annotated[bool, BeforeValidator(_flag)]
FileName = Annotated[str, BeforeValidator(_text), Accepts("the path of a file")]
LogTarget = Annotated[str, BeforeValidator(_text), Accepts('the path of a file, or "-"')]
Text = Annotated[str, BeforeValidator(_text), Accepts("text")]
Workers = Annotated[
    Literal["auto"] | int,
    BeforeValidator(_workers),
    WithJsonSchema({"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1}]}),
    Accepts('"auto" or a whole number from 1 up'),
]
_TEXT_SCHEMA = WithJsonSchema({"type": "string"})
ListenAddress = Annotated[
    Bind,
    BeforeValidator(parse_bind),
    PlainSerializer(str),
    _TEXT_SCHEMA,
    Accepts('"host:port", "[v6]:port", ":port" (all interfaces) or "unix:/path"', _quoted),
]
ServerAddress = Annotated[
    Bind,
    BeforeValidator(parse_address),
    PlainSerializer(str),
    _TEXT_SCHEMA,
    Accepts('"host:port", "[v6]:port", "srv:_service._proto.name" or "unix:/path"', _quoted),
]
NameServer = Annotated[
    Bind,
    BeforeValidator(parse_nameserver),
    PlainSerializer(str),
    _TEXT_SCHEMA,
    Accepts('an IP address with or without port, such as "10.0.0.53", "10.0.0.53:5353", "[v6]:53"', _quoted),
]
Statuses = Annotated[
    StatusSet,
    BeforeValidator(parse_statuses),
    PlainSerializer(str),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "integer", "minimum": 100, "maximum": 599}]}),
    Accepts('"200", "2xx", "200-399", or several of these separated by commas', _quoted),
]
TrustedNetwork = Annotated[
    Network,
    BeforeValidator(_network),
    PlainSerializer(str),
    _TEXT_SCHEMA,
    Accepts('a network such as "10.0.0.0/8" or "fd00::/8", or an address'),
]
RouteHost = Annotated[
    str, BeforeValidator(_route_host), Accepts('a host name, or "*.example.com" for those below it')
]
RoutePath = Annotated[str, BeforeValidator(_route_path), Accepts('a path from "/" on, without query')]
Target = Annotated[str, BeforeValidator(_target), Accepts('a path from "/" on, query allowed')]
HostField = Annotated[str, BeforeValidator(_host_field), Accepts("a host name, with or without port")]
UpstreamHost = Annotated[
    str, BeforeValidator(_host_field), Accepts('"preserve", "server", or a host name, with or without port')
]
UpgradeToken = Annotated[str, BeforeValidator(_token), Accepts('the name of a protocol, such as "websocket"')]
ServerName = Annotated[
    str, BeforeValidator(_server_name), Accepts("a host name or an IP address, without port")
]
OnOrTable = (
    BeforeValidator(_on_or_table),
    _OrSwitch(),
    Accepts("true for the defaults, or a table", brief="true, or a table, below"),
)
HashKey = Annotated[
    str, BeforeValidator(_hash_key), Accepts('"client", "uri", "header:NAME" or "cookie:NAME"')
]
RetryCauseFrom = BeforeValidator(_retry_cause)
