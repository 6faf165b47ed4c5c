"""Certificates and keys from PEM files into a context, with errors that name the file and what is wrong with it."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Iterable
from pathlib import Path

from vsproxy.errors import VsproxyError


def load_pair(context: ssl.SSLContext, cert: str, key: str) -> None:
    """Let `context` show the chain in `cert`, whose private key is in `key`. Raises VsproxyError."""
    _check_readable(cert)
    _check_readable(key)
    _check_certificate(cert)
    asked: list[bool] = []

    def no_password() -> str:
        # Without this, OpenSSL would ask on the terminal and wait.
        asked.append(True)
        return ""

    try:
        context.load_cert_chain(cert, key, no_password)
    except (OSError, ValueError) as exc:
        raise VsproxyError(_key_problem(cert, key, exc, encrypted=bool(asked))) from exc


def load_authorities(context: ssl.SSLContext, path: str) -> None:
    """Let `context` trust whom the certificates in `path` vouch for. Raises VsproxyError."""
    _check_readable(path)
    try:
        context.load_verify_locations(cafile=path)
    except ssl.SSLError as exc:
        raise VsproxyError(f"{path}: no usable certificate in PEM form") from exc


def fingerprint(settings: str, paths: Iterable[str]) -> bytes:
    """What tells `settings` with these files from others, or from others in these files. Raises VsproxyError."""
    digest = hashlib.sha256(settings.encode())
    for path in paths:
        try:
            digest.update(hashlib.sha256(Path(path).read_bytes()).digest())
        except OSError as exc:
            raise VsproxyError(f"{path}: {exc.strerror}") from exc
    return digest.digest()


def _key_problem(cert: str, key: str, exc: Exception, encrypted: bool) -> str:
    if encrypted:
        return f"{key}: the private key is protected by a password"
    if isinstance(exc, ssl.SSLError) and exc.reason == "KEY_VALUES_MISMATCH":
        return f"{key}: the private key does not belong to the certificate in {cert}"
    if isinstance(exc, ssl.SSLError) and exc.reason and exc.reason.endswith("_TOO_SMALL"):
        return f"{cert}: the certificate is too weak ({exc.reason.lower().replace('_', ' ')})"
    return f"{key}: no usable private key in PEM form"


def _check_readable(path: str) -> None:
    try:
        with open(path, "rb"):
            pass
    except OSError as exc:
        raise VsproxyError(f"{path}: {exc.strerror}") from exc


def _check_certificate(cert: str) -> None:
    """Tell a bad certificate from a bad key, which `load_cert_chain` does not."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cafile=cert)
    except ssl.SSLError as exc:
        raise VsproxyError(f"{cert}: no usable certificate in PEM form") from exc
