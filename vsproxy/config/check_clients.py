"""What `vsproxy check` finds in the files about clients' certificates. Stands above the rest of this folder."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from pathlib import Path as FilePath
from typing import Any

from vsproxy.config.consistency import tables
from vsproxy.config.positions import Path
from vsproxy.config.toml import Document
from vsproxy.errors import Problem, VsproxyError
from vsproxy.tls_clients import parse_authorities, parse_lists

_AUTHORITIES = "a file with certificates of CAs in PEM, and nothing else"
_LISTS = "a file with revocation lists in PEM, and nothing else"


def client_file_problems(document: Document) -> Iterator[Problem]:
    """CAs and revocation lists that cannot be used. Works on plain data: other keys may be wrong."""
    for path, tls in _tls_tables(document):
        for key, parse, accepted in (
            ("client_ca", parse_authorities, _AUTHORITIES),
            ("client_crl", parse_lists, _LISTS),
        ):
            name = tls.get(key)
            at = (*path, key)
            if isinstance(name, str) and name and at not in document.unread:
                try:
                    parse(name, FilePath(name).read_bytes())
                except OSError as error:
                    yield document.problem(at, f'"{name}" ({error.strerror})', accepted)
                except VsproxyError as error:
                    reason = str(error).removeprefix(f"{name}: ")
                    yield document.problem(at, f'"{name}" ({reason})', accepted)


def client_file_warnings(document: Document) -> Iterator[Problem]:
    """Lists and CAs that are out of date: `document` has no mistakes."""
    now = datetime.datetime.now(datetime.UTC)
    for path, tls in _tls_tables(document):
        if tls.get("client_ca") is not None:
            for authority in parse_authorities(tls["client_ca"], FilePath(tls["client_ca"]).read_bytes()):
                if authority.not_valid_after_utc < now:
                    ended = f"{authority.not_valid_after_utc:%Y-%m-%d}"
                    text = f'warning: a CA in "{tls["client_ca"]}" ended on {ended}; its clients are refused'
                    yield document.problem((*path, "client_ca"), text, "")
        if tls.get("client_crl") is not None:
            for found in parse_lists(tls["client_crl"], FilePath(tls["client_crl"]).read_bytes()):
                update = found.next_update_utc
                if update is not None and update < now:
                    text = f'warning: a list in "{tls["client_crl"]}" ended on {update:%Y-%m-%d}; clients are refused'
                    yield document.problem((*path, "client_crl"), text, "")


def _tls_tables(document: Document) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    data = document.data if isinstance(document.data, Mapping) else {}
    for index, listener in tables(data, "listeners"):
        tls = listener.get("tls")
        if isinstance(tls, Mapping):
            yield ("listeners", index, "tls"), tls
