"""When a certificate expires: told before it does, since afterwards nobody gets in."""

from __future__ import annotations

from pathlib import Path

from cryptography import x509

from vsproxy.errors import VsproxyError


def certificate_expiry(path: str) -> float:
    """When the first certificate in the PEM file `path` expires, in seconds since 1970.

    The first is the server's own; what follows are those that vouch for it. Raises VsproxyError that names
    the file if it cannot be read.
    """
    try:
        certificate = x509.load_pem_x509_certificate(Path(path).read_bytes())
    except OSError as exc:
        raise VsproxyError(f"{path}: {exc.strerror}") from exc
    except ValueError as exc:
        raise VsproxyError(f"{path}: no usable certificate in PEM form") from exc
    return certificate.not_valid_after_utc.timestamp()
