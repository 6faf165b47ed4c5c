"""The values that a configuration writes as text: durations, sizes, addresses, sets of statuses.

Each `parse_` function raises ValueError with the reason only; what would have been accepted is said by the
type in `vsproxy.config.types`, so that it is the same in an error message and in the reference page.
"""

from __future__ import annotations

import ipaddress
import math
import re
from dataclasses import dataclass
from typing import Literal

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {
    "B": 1,
    "KB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "KiB": 1024,
    "MiB": 1024**2,
    "GiB": 1024**3,
}
_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
DURATION_PATTERN = rf"^(?:{_NUMBER}(?:ms|s|m|h|d))+$|^{_NUMBER}$"
SIZE_PATTERN = rf"^{_NUMBER}(?:B|KB|MB|GB|KiB|MiB|GiB)?$"
_DURATION = re.compile(DURATION_PATTERN)
_DURATION_PART = re.compile(rf"({_NUMBER})(ms|s|m|h|d)?")
_SIZE = re.compile(SIZE_PATTERN)
_SIZE_PART = re.compile(rf"({_NUMBER})([A-Za-z]*)")
_HOST_NAME = re.compile(r"^[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,252}[A-Za-z0-9_])?\.?$")
_SERVICE_NAME = re.compile(r"_[A-Za-z0-9-]+\._[A-Za-z0-9-]+\.[A-Za-z0-9_.-]+")
_DNS_PORT = 53
# sun_path of Linux: 108 bytes with the final NUL.
_MAX_UNIX_PATH = 107


def parse_duration(value: object) -> float:
    """Seconds from `"10s"`, `"1m30s"`, `"365d"` or a plain number of seconds. Raises ValueError."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if not math.isfinite(value) or value < 0:
            raise ValueError("not a finite number of seconds from 0 up")
        return float(value)
    if not isinstance(value, str) or not _DURATION.fullmatch(value):
        raise ValueError("not a duration")
    parts = _DURATION_PART.findall(value)
    return math.fsum(float(number) * _SECONDS[unit or "s"] for number, unit in parts)


def format_duration(seconds: float) -> str:
    """The shortest way to write a duration that `parse_duration` reads back."""
    if 0 < seconds < 1:
        return f"{seconds * 1000:g}ms"
    if seconds >= 3600 and seconds % 3600 == 0:
        return f"{seconds / 3600:g}h"
    if seconds > 60 and seconds % 60 == 0:
        return f"{seconds / 60:g}m"
    return f"{seconds:g}s"


def parse_size(value: object) -> int:
    """Bytes from `"10GiB"`, `"1.5MB"`, `"512B"` or a plain number of bytes. Raises ValueError."""
    if isinstance(value, int) and not isinstance(value, bool):
        if value < 0:
            raise ValueError("negative")
        return value
    if not isinstance(value, str) or not _SIZE.fullmatch(value):
        raise ValueError("not a size")
    [(number, unit)] = _SIZE_PART.findall(value)
    # A whole number stays exact however large it is; only a fraction goes through a float.
    factor = _BYTES[unit or "B"]
    return round(float(number) * factor) if "." in number else int(number) * factor


def format_size(size: int) -> str:
    """The shortest way to write a size that `parse_size` reads back."""
    for unit in ("GiB", "MiB", "KiB"):
        if size and size % _BYTES[unit] == 0:
            return f"{size // _BYTES[unit]}{unit}"
    return f"{size}B"


@dataclass(frozen=True, slots=True)
class Bind:
    """An address to listen on or to connect to: TCP `host` and `port`, or the `path` of a Unix socket.

    `host` carries no brackets; it is empty when all interfaces are meant. Of kind `srv`, `host` is the name
    of SRV records (RFC 2782), which bring the ports. `str()` gives back what was parsed.
    """

    kind: Literal["tcp", "unix", "srv"]
    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.kind == "unix":
            return f"unix:{self.path}"
        if self.kind == "srv":
            return f"srv:{self.host}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse_bind(value: object) -> Bind:
    """A listening address: `host:port`, `[v6]:port`, `:port` or `unix:/path`. Raises ValueError."""
    if isinstance(value, Bind):
        return value
    if not isinstance(value, str):
        raise ValueError("not text")
    if value.startswith("unix:"):
        return _parse_unix(value[5:])
    if "://" in value or "/" in value:
        raise ValueError("an address has no scheme and no path")
    host, colon, port = value.rpartition(":")
    if not colon or port.endswith("]"):
        raise ValueError("the port is missing")
    if not (port.isascii() and port.isdigit() and int(port) <= 65535):
        raise ValueError(f'the port "{port}" is not a number from 0 to 65535')
    return Bind("tcp", _parse_host(host), int(port))


def parse_address(value: object) -> Bind:
    """The address of a server: `host:port`, `[v6]:port`, `srv:NAME` or `unix:/path`. Raises ValueError."""
    if isinstance(value, str) and value.startswith("srv:"):
        return _parse_service(value[4:])
    address = parse_bind(value)
    if address.kind == "tcp" and not address.host:
        raise ValueError("the host is missing")
    if address.kind == "tcp" and not address.port:
        raise ValueError("port 0 cannot be connected to")
    return address


def parse_nameserver(value: object) -> Bind:
    """A nameserver: an IP address, with or without port (53). Raises ValueError."""
    if isinstance(value, Bind):
        return value
    if not isinstance(value, str):
        raise ValueError("not text")
    try:
        return Bind("tcp", str(ipaddress.ip_address(value)), _DNS_PORT)
    except ValueError:
        # There is more to it than an address.
        address = parse_address(value)
    if address.kind != "tcp":
        raise ValueError("a nameserver is asked over UDP and TCP")
    ipaddress.ip_address(address.host)
    return address


def _parse_service(name: str) -> Bind:
    if not _SERVICE_NAME.fullmatch(name) or not _HOST_NAME.fullmatch(name):
        raise ValueError("the name of SRV records looks like _http._tcp.example.com")
    return Bind("srv", name)


def _parse_unix(path: str) -> Bind:
    if not path.startswith("/") or path.endswith("/") or "\0" in path:
        raise ValueError("a Unix socket needs an absolute path")
    if len(path.encode()) > _MAX_UNIX_PATH:
        raise ValueError(f"the path of a Unix socket has at most {_MAX_UNIX_PATH} bytes")
    return Bind("unix", path=path)


def _parse_host(host: str) -> str:
    if host.startswith("[") and host.endswith("]"):
        ipaddress.IPv6Address(host[1:-1])
        return host[1:-1]
    if ":" in host:
        raise ValueError("an IPv6 address stands in brackets")
    if host and not _HOST_NAME.fullmatch(host):
        raise ValueError(f'"{host}" is not a host name')
    if host and host.replace(".", "").isdigit():
        ipaddress.IPv4Address(host)
    return host


@dataclass(frozen=True, slots=True)
class StatusSet:
    """A set of HTTP statuses; `ranges` are inclusive pairs, `text` is what was written."""

    text: str
    ranges: tuple[tuple[int, int], ...]

    def matches(self, status: int) -> bool:
        """Whether `status` belongs to the set."""
        return any(first <= status <= last for first, last in self.ranges)

    def __str__(self) -> str:
        return self.text


def parse_statuses(value: object) -> StatusSet:
    """A set of statuses from `"200"`, `"2xx"`, `"200-399"`, several by commas, or 200. Raises ValueError."""
    if isinstance(value, StatusSet):
        return value
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise ValueError("not a set of statuses")
    text = str(value)
    return StatusSet(text, tuple(_parse_status_range(part.strip(" ")) for part in text.split(",")))


def _parse_status_range(part: str) -> tuple[int, int]:
    if re.fullmatch(r"[1-5]xx", part):
        return int(part[0]) * 100, int(part[0]) * 100 + 99
    match = re.fullmatch(r"([1-5][0-9]{2})(?:-([1-5][0-9]{2}))?", part)
    if not match:
        raise ValueError(f'"{part}" is not a status')
    first, last = int(match[1]), int(match[2] or match[1])
    if first > last:
        raise ValueError(f'the range "{part}" is empty')
    return first, last
