"""Finds keys that are right by themselves and wrong together.

Works on plain data, not on the models, so that these mistakes are told together with those that keep a
model from being built; anything of the wrong shape is skipped here, since it is reported elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from vsproxy.config.hsts import preload_contradictions
from vsproxy.config.positions import Path
from vsproxy.config.units import Bind, parse_address, parse_bind

Contradiction = tuple[Path, str, str]

_ALL_INTERFACES = ("", "0.0.0.0", "::")  # noqa: S104 - compared, not bound


def contradictions(data: Any) -> Iterator[Contradiction]:
    """Every contradiction in `data`: the path of the key, what was found, what would be accepted."""
    if not isinstance(data, Mapping):
        return
    pools = data.get("pools") or {}
    yield from _binds(data)
    yield from _client_certificates(data)
    yield from _routes(data, [str(name) for name in pools] if isinstance(pools, Mapping) else [])
    for name, pool in pools.items() if isinstance(pools, Mapping) else ():
        if isinstance(pool, Mapping):
            yield from _hash_key(("pools", name), pool)
            yield from _servers(("pools", name), pool)
            yield from _pool_tls(("pools", name), pool)


def raise_contradictions(data: Any) -> None:
    """Raise pydantic's ValidationError with all contradictions in `data`, if there are any."""
    found = [
        InitErrorDetails(
            type=PydanticCustomError(
                "contradiction", "found {found}; accepted {accepted}", {"found": found, "accepted": accepted}
            ),
            loc=path,
            input=data,
        )
        for path, found, accepted in contradictions(data)
    ]
    if found:
        raise ValidationError.from_exception_data("Config", found)


def tables(data: Mapping[str, Any], key: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The items of the list of tables at `key`, with their index; whatever else is there is left out."""
    items = data.get(key)
    for index, item in enumerate(items if isinstance(items, (list, tuple)) else ()):
        if isinstance(item, Mapping):
            yield index, item


def _parsed(parse: Callable[[Any], Bind], value: Any) -> Bind | None:
    try:
        return parse(value)
    except ValueError:
        # Reported by the type of the key.
        return None


def _binds(data: Mapping[str, Any]) -> Iterator[Contradiction]:
    seen: dict[tuple[str, int, str], str] = {}
    binds: list[tuple[Path, Any]] = []
    for index, listener in tables(data, "listeners"):
        binds.append((("listeners", index, "bind"), listener.get("bind")))
        if listener.get("tls") and listener.get("redirect"):
            found = '"https" on a listener with tls'
            yield ("listeners", index, "redirect"), found, "redirect on a listener without tls"
        yield from _certificates(("listeners", index, "tls"), listener.get("tls"))
    admin = data.get("admin")
    if isinstance(admin, Mapping):
        binds.append((("admin", "bind"), admin.get("bind", "127.0.0.1:9900")))
    for path, value in binds:
        bind = _parsed(parse_bind, value)
        if bind is None or (bind.kind == "tcp" and bind.port == 0):
            continue
        host = "" if bind.host in _ALL_INTERFACES else bind.host.lower()
        place = (host, bind.port, bind.path)
        if place in seen:
            yield path, f'"{value}", which {seen[place]} has already', "an address of its own"
        seen.setdefault(place, f"{path[0]}[{path[1]}]" if path[0] == "listeners" else "admin")


def _certificates(at: Path, tls: Any) -> Iterator[Contradiction]:
    if not isinstance(tls, Mapping):
        return
    seen = {tls.get("cert"): "cert"}
    for index, pair in tables(tls, "certificates"):
        cert = pair.get("cert")
        if isinstance(cert, str) and cert in seen:
            found = f'"{cert}", which {seen[cert]} has already'
            yield (*at, "certificates", index, "cert"), found, "a certificate of its own"
        elif isinstance(cert, str):
            seen[cert] = f"certificates[{index}]"


def _client_certificates(data: Mapping[str, Any]) -> Iterator[Contradiction]:
    for index, listener in tables(data, "listeners"):
        tls = listener.get("tls")
        if not isinstance(tls, Mapping):
            continue
        at: Path = ("listeners", index, "tls")
        for key in ("client_auth", "client_crl", "client_cert_field"):
            if tls.get(key) not in (None, False) and tls.get("client_ca") is None:
                yield (*at, key), f"{key} where no client is asked for a certificate", "client_ca beside it"
        if tls.get("client_crl") is not None and tls.get("client_crl") == tls.get("client_ca"):
            yield (*at, "client_crl"), "the file of client_ca", "a file of its own, with revocation lists"
        for key, found, accepted in preload_contradictions(tls.get("hsts")):
            yield (*at, "hsts", key), found, accepted


def _routes(data: Mapping[str, Any], pools: list[str]) -> Iterator[Contradiction]:
    seen: dict[tuple[str, str], int] = {}
    names = ", ".join(f'"{name}"' for name in pools)
    accepted = f"one of {names}" if pools else "the name of a pool, but there is no [pools.NAME]"
    for index, route in tables(data, "routes"):
        pool = route.get("pool")
        if isinstance(pool, str) and pool and pool not in pools:
            yield ("routes", index, "pool"), f'"{pool}", which is not a pool', accepted
        host, path = route.get("host") or "", route.get("path", "/")
        if not isinstance(host, str) or not isinstance(path, str):
            continue
        place = (host.lower(), path.rstrip("/"))
        if place in seen:
            found = f'"{host}{path}", which routes[{seen[place]}] has already'
            yield ("routes", index), found, "another host or path"
        seen.setdefault(place, index)


def _hash_key(at: Path, pool: Mapping[str, Any]) -> Iterator[Contradiction]:
    hashed = pool.get("balance", "round_robin") == "hash"
    key = pool.get("hash_key")
    if hashed and key is None:
        accepted = 'hash_key = "client", "uri", "header:NAME" or "cookie:NAME"'
        yield (*at, "balance"), '"hash" without hash_key', accepted
    if not hashed and key is not None:
        yield (*at, "hash_key"), "a key to hash by, but nothing that hashes", 'balance = "hash" beside it'


def _pool_tls(at: Path, pool: Mapping[str, Any]) -> Iterator[Contradiction]:
    tls = pool.get("tls")
    health = pool.get("health")
    if not tls or tls == "false":
        if isinstance(health, Mapping) and health.get("tls") in (True, "true"):
            yield (*at, "health", "tls"), "true in a pool without tls", "tls = true in the pool"
        return
    for index, server in tables(pool, "servers"):
        address = _parsed(parse_address, server.get("address"))
        if address is not None and address.kind == "unix":
            place = (*at, "servers", index, "address")
            yield place, f'"{address}" in a pool with tls', "servers on TCP, or a pool without tls"
    if not isinstance(tls, Mapping):
        return
    if tls.get("key") is not None and tls.get("cert") is None:
        yield (*at, "tls", "key"), "a key without cert", "cert beside it"
    if tls.get("verify") in (False, "false") and tls.get("ca") is not None:
        yield (*at, "tls", "ca"), "a ca with verify = false", "ca with verify = true"


def _servers(at: Path, pool: Mapping[str, Any]) -> Iterator[Contradiction]:
    seen: dict[str, int] = {}
    health = pool.get("health")
    checks_port = isinstance(health, Mapping) and health.get("port") is not None
    for index, server in tables(pool, "servers"):
        address = _parsed(parse_address, server.get("address"))
        if address is None:
            continue
        place = str(address) if address.kind == "unix" else str(address).lower()
        if place in seen:
            yield (
                (*at, "servers", index, "address"),
                f'"{address}", which servers[{seen[place]}] has already',
                "an address of its own",
            )
        seen.setdefault(place, index)
        if checks_port and address.kind == "unix":
            yield (*at, "health", "port"), f'a port, but "{address}" has none', "port only with TCP servers"
