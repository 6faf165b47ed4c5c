"""What `vsproxy check` does beyond reading the file: opens certificates and keys, resolves names.

Stands above the rest of this folder, for names are looked up here as they will be.
"""

from __future__ import annotations

import asyncio
import datetime
import ssl
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from vsproxy.config.check_clients import client_file_problems, client_file_warnings
from vsproxy.config.consistency import tables
from vsproxy.config.model import Bind, Config, ResolverSection
from vsproxy.config.positions import Path
from vsproxy.config.toml import Document, read_document
from vsproxy.errors import ConfigError, Problem
from vsproxy.tls_pair import names_of
from vsproxy.upstream.lookup import LookupFailed
from vsproxy.upstream.names import Names
from vsproxy.upstream.resolve import is_name

_CERTIFICATE = "a file with a certificate chain in PEM"
_AUTHORITIES = "a file with the certificates of those who vouch for servers, in PEM"
_KEY = "a file with the private key of the certificate in PEM, without a passphrase"


@dataclass(frozen=True)
class Checked:
    """A file that was read: its `config` if there are no `problems`, and where its keys stand."""

    document: Document
    config: Config | None
    problems: tuple[Problem, ...]


def check_file(path: str, environ: Mapping[str, str]) -> Checked:
    """Read the file at `path` and open the certificates it names. Never raises for a mistake in it."""
    try:
        document = read_document(path, environ)
    except ConfigError as error:
        return Checked(Document(path, {}), None, error.problems)
    config: Config | None = None
    problems: tuple[Problem, ...] = ()
    try:
        config = Config.from_document(document)
    except ConfigError as error:
        problems = error.problems
    unusable = (*certificate_problems(document), *client_file_problems(document))
    found = sorted((*problems, *unusable), key=lambda problem: problem.line)
    return Checked(document, None if found else config, tuple(found))


def load_checked(path: str, environ: Mapping[str, str]) -> Config:
    """The configuration at `path`; raises ConfigError with every mistake, certificates included."""
    checked = check_file(path, environ)
    if checked.config is None:
        raise ConfigError(checked.problems)
    return checked.config


def certificate_problems(document: Document) -> Iterator[Problem]:
    """Certificates and keys that cannot be used. Works on plain data: other keys may be wrong."""
    for path, cert, key in _certificates(document):
        unusable = [
            *_certificate_problem(document, (*path, "cert"), cert, _CERTIFICATE),
            *_key_problem(document, path, key, cert),
        ]
        yield from unusable
        if not unusable:
            yield from _pair_problem(document, path, cert, key)
    for path, tls in _pools_tls(document):
        ca = tls.get("ca")
        if isinstance(ca, str) and ca and (*path, "ca") not in document.unread:
            yield from _certificate_problem(document, (*path, "ca"), ca, _AUTHORITIES)


def _certificates(document: Document) -> Iterator[tuple[Path, str, str]]:
    """The path of each table that names a pair of files, with certificate and key file."""
    for path, table in (*_listeners_tls(document), *_pools_tls(document)):
        cert = table.get("cert")
        key = table.get("key", cert)
        if not (isinstance(cert, str) and cert and isinstance(key, str) and key):
            continue
        if not document.unread & {(*path, "cert"), (*path, "key")}:
            yield path, cert, key


def _listeners_tls(document: Document) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """The `tls` tables of listeners, and those of their further certificates, with their paths."""
    data = document.data if isinstance(document.data, Mapping) else {}
    for index, listener in tables(data, "listeners"):
        path: Path = ("listeners", index, "tls")
        tls = listener.get("tls")
        if isinstance(tls, Mapping):
            yield path, tls
            for number, pair in tables(tls, "certificates"):
                yield (*path, "certificates", number), pair


def _pools_tls(document: Document) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """The `tls` tables of pools, with their paths."""
    pools = document.data.get("pools") if isinstance(document.data, Mapping) else None
    for name, pool in pools.items() if isinstance(pools, Mapping) else ():
        tls = pool.get("tls") if isinstance(pool, Mapping) else None
        if isinstance(tls, Mapping):
            yield ("pools", name, "tls"), tls


def _certificate_problem(document: Document, at: Path, file: str, accepted: str) -> Iterator[Problem]:
    try:
        x509.load_pem_x509_certificates(FilePath(file).read_bytes())
    except OSError as error:
        yield document.problem(at, f'"{file}" ({error.strerror})', accepted)
    except ValueError:
        yield document.problem(at, f'"{file}", in which there is none', accepted)


def _key_problem(document: Document, path: Path, key: str, cert: str) -> Iterator[Problem]:
    at = (*path, "key")
    try:
        load_pem_private_key(FilePath(key).read_bytes(), password=None)
    except OSError as error:
        # One file for both, and not readable: said once, at `cert`.
        if key != cert:
            yield document.problem(at, f'"{key}" ({error.strerror})', _KEY)
    except TypeError:
        yield document.problem(at, f'"{key}", which has a passphrase', _KEY)
    except (ValueError, UnsupportedAlgorithm):
        yield document.problem(at, f'"{key}", in which there is no usable key', _KEY)


def _pair_problem(document: Document, path: Path, cert: str, key: str) -> Iterator[Problem]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(cert, key)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            found = f'"{key}", which is not the key of "{cert}"'
        else:
            found = f'"{key}" with "{cert}", which OpenSSL refuses: {error.reason or error}'
        yield document.problem((*path, "key"), found, _KEY)


def warnings(checked: Checked) -> list[Problem]:
    """What is worth knowing and keeps nothing from running; empty if there are mistakes."""
    if checked.config is None:
        return []
    document = checked.document
    unresolved = _unresolved(document, checked.config)
    return [*_expired(document), *_nameless(document), *client_file_warnings(document), *unresolved]


def _expired(document: Document) -> Iterator[Problem]:
    now = datetime.datetime.now(datetime.UTC)
    for path, cert, _ in _certificates(document):
        first = x509.load_pem_x509_certificates(FilePath(cert).read_bytes())[0]
        if first.not_valid_after_utc < now:
            ended = f"{first.not_valid_after_utc:%Y-%m-%d}"
            yield document.problem(
                (*path, "cert"), f'warning: the certificate in "{cert}" ended on {ended}', ""
            )


def _nameless(document: Document) -> Iterator[Problem]:
    """Certificates beside the first that nobody can ask for."""
    for path, cert, _ in _certificates(document):
        if "certificates" in path and not names_of(x509.load_pem_x509_certificates(FilePath(cert).read_bytes())[0]):
            message = f'warning: the certificate in "{cert}" has no name of a host, so no client gets it'
            yield document.problem((*path, "cert"), message, "")


def _unresolved(document: Document, config: Config) -> Iterator[Problem]:
    """Names of servers, in pools that a route uses, which do not resolve here and now."""
    used = {route.pool for route in config.routes}
    places = [
        (("pools", name, "servers", index, "address"), server.address)
        for name, pool in config.pools.items()
        for index, server in enumerate(pool.servers)
        if name in used and is_name(server.address)
    ]
    addresses = [address for _, address in places]
    reasons = asyncio.run(_lookup_failures(config.resolver, addresses)) if addresses else []
    for (path, address), reason in zip(places, reasons, strict=True):
        if reason:
            message = (
                f'warning: "{address.host}" does not resolve ({reason}); the server is down until it does'
            )
            yield document.problem(path, message, "")


async def _lookup_failures(config: ResolverSection, addresses: Sequence[Bind]) -> list[str]:
    """Why each of `addresses` does not resolve, empty if it does."""
    names = Names(config)

    async def failure(address: Bind) -> str:
        try:
            answer = await names.look_up(address)
        except LookupFailed as error:
            return str(error)
        return "" if answer.endpoints else "the service is not offered"

    try:
        return list(await asyncio.gather(*(failure(address) for address in addresses)))
    finally:
        await names.close()
