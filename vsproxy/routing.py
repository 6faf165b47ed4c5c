# cython: annotation_typing=False
"""(host, path) to Route: exact host, then the longest wildcard, then no host; the longest path in each."""

from __future__ import annotations

from collections.abc import Iterable

from vsproxy.config.model import RouteConfig
from vsproxy.upstream.pool_traffic import PoolTraffic


class Route:
    """A route with its pool, resolved once from the configuration.

    `preserve_host`: servers see the client's Host; else `fixed_host`, or their own name where that is empty.
    """

    __slots__ = (
        "fixed_host",
        "half_close_wait",
        "host",
        "max_body",
        "path",
        "pool",
        "preserve_host",
        "tunnel_timeout",
        "upgrades",
    )

    def __init__(self, config: RouteConfig, pool: PoolTraffic) -> None:
        self.host = config.host
        self.path = config.path
        self.pool = pool
        self.max_body = -1 if config.max_body is None else config.max_body
        self.upgrades = frozenset(name.lower().encode() for name in config.effective_upgrades)
        self.tunnel_timeout = config.tunnel_timeout
        host = config.upstream_host
        self.preserve_host = host == "preserve"
        self.fixed_host = b"" if host in ("preserve", "server") else host.encode("latin-1")
        self.half_close_wait = config.half_close == "wait"


class Router:
    """Looks routes up in dictionaries: the cost does not grow with their number, only with path depth."""

    __slots__ = ("_default", "_exact", "_wildcards", "routes")

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = tuple(routes)
        self._exact: dict[bytes, dict[bytes, Route]] = {}
        self._wildcards: dict[bytes, dict[bytes, Route]] = {}
        self._default: dict[bytes, Route] = {}
        for route in self.routes:
            self._table(route.host)[_normal_prefix(route.path)] = route

    def _table(self, host: str | None) -> dict[bytes, Route]:
        if host is None:
            return self._default
        if host.startswith("*."):
            return self._wildcards.setdefault(host[1:].encode("latin-1"), {})
        return self._exact.setdefault(host.encode("latin-1"), {})

    def find(self, host: bytes, path: bytes) -> Route | None:
        """The route for a Host value and the raw path of a target; None if nothing matches.

        The path is normalised for the comparison only (RFC 3986 section 6.2.2): what goes on is untouched.
        """
        if not is_plain(path):
            path = normalise(path)
        if self._exact or self._wildcards:
            found = self._find_by_host(normal_host(host), path)
            if found is not None:
                return found
        return longest_prefix(self._default, path)

    def _find_by_host(self, host: bytes, path: bytes) -> Route | None:
        table = self._exact.get(host)
        if table is not None:
            found = longest_prefix(table, path)
            if found is not None:
                return found
        dot = host.find(b".") if self._wildcards else -1
        while dot >= 0:
            table = self._wildcards.get(host[dot:])
            if table is not None:
                found = longest_prefix(table, path)
                if found is not None:
                    return found
            dot = host.find(b".", dot + 1)
        return None


def longest_prefix(table: dict[bytes, Route], path: bytes) -> Route | None:
    """The route whose path is the longest segment-wise prefix of `path`."""
    if not table:
        return None
    if len(table) == 1:
        found = table.get(b"/")
        if found is not None:
            return found
    while path:
        found = table.get(path)
        if found is not None:
            return found
        cut = path.rfind(b"/")
        if cut <= 0:
            break
        path = path[:cut]
    return table.get(b"/")


def normal_host(host: bytes) -> bytes:
    """A Host value without port and trailing dot, in lower case."""
    if host.startswith(b"["):
        end = host.find(b"]")
        return host[: end + 1].lower()
    colon = host.find(b":")
    if colon >= 0:
        host = host[:colon]
    return host.removesuffix(b".").lower()


def is_plain(path: bytes) -> bool:
    """Whether `normalise` would leave `path` as it is: no "%", no segment that is empty or begins with "."."""
    buf = path
    slash = False
    i = 0
    size = len(path)
    while i < size:
        byte = buf[i]
        if byte == 37 or (slash and (byte == 46 or byte == 47)):
            return False
        slash = byte == 47
        i += 1
    return True


def normalise(path: bytes) -> bytes:
    """`path` with unreserved characters decoded, empty and dot segments resolved.

    `%2F` stays encoded: it is data of a segment, not a separator.
    """
    segments: list[bytes] = []
    for segment in _decode_unreserved(path).split(b"/"):
        if segment in (b"", b"."):
            continue
        if segment == b"..":
            if segments:
                segments.pop()
        else:
            segments.append(segment)
    return b"/" + b"/".join(segments)


def _normal_prefix(path: str) -> bytes:
    return normalise(path.encode("utf-8"))


_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_HEX = {ord(digit): value for value, digit in enumerate("0123456789abcdef")} | {
    ord(digit): value for value, digit in enumerate("ABCDEF", 10)
}


def _decode_unreserved(path: bytes) -> bytes:
    pieces = path.split(b"%")
    decoded = [pieces[0]]
    for piece in pieces[1:]:
        high, low = (_HEX.get(piece[0]), _HEX.get(piece[1])) if len(piece) >= 2 else (None, None)
        if high is not None and low is not None and high * 16 + low in _UNRESERVED:
            decoded.append(bytes((high * 16 + low,)) + piece[2:])
        else:
            decoded.append(b"%" + piece)
    return b"".join(decoded)
