"""What servers are told about a client's certificate: fields, made once for a connection.

What is in a certificate is whatever somebody got a CA to sign: nothing but printable ASCII goes into a field.
"""

from __future__ import annotations

import base64
import hashlib
from typing import NamedTuple

from cryptography import x509

#: The lines for a client that was asked for a certificate and has shown none.
NO_CERTIFICATE = b"X-Client-Cert-Verify: NONE\r\n"
#: Bytes of all lines about a certificate: servers have limits too, often 8 KiB for a line and 32 KiB for a head.
MAX_LINES = 16 * 1024


class Identity(NamedTuple):
    """`lines` are field lines, each with its CRLF; the times are seconds since 1970."""

    lines: bytes
    not_before: float
    not_after: float


def identify(der: bytes, whole: bool) -> Identity:
    """What is said of the certificate `der`; `whole`: the certificate itself too (RFC 9440 section 2.2).

    Raises ValueError if it cannot be read, or has more to say than fits into a head.
    """
    try:
        certificate = x509.load_der_x509_certificate(der)
    except x509.InvalidVersion as exc:
        raise ValueError("a version of X.509 that is not known") from exc
    serial = f"{certificate.serial_number:X}"
    fields = [
        ("Verify", "SUCCESS"),
        ("Subject", printable(certificate.subject.rfc4514_string())),
        ("Issuer", printable(certificate.issuer.rfc4514_string())),
        ("Serial", serial if len(serial) % 2 == 0 else f"0{serial}"),
        ("Fingerprint", hashlib.sha256(der).hexdigest()),
        ("Not-After", f"{certificate.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}"),
    ]
    text = "".join(f"X-Client-Cert-{name}: {value}\r\n" for name, value in fields)
    if whole:
        text += f"Client-Cert: :{base64.b64encode(der).decode('ascii')}:\r\n"
    if len(text) > MAX_LINES:
        raise ValueError("more than fits into a head")
    return Identity(
        text.encode("ascii"),
        certificate.not_valid_before_utc.timestamp(),
        certificate.not_valid_after_utc.timestamp(),
    )


def printable(name: str) -> str:
    """A name in the form of RFC 4514, of which section 2.4 lets any byte of UTF-8 be written in hexadecimal."""
    text = "".join(
        char if " " <= char <= "~" else "".join(f"\\{byte:02X}" for byte in char.encode("utf-8", "surrogatepass"))
        for char in name
    )
    # A blank at the end is escaped by a backslash, and would be no part of a field's value.
    return f"{text[:-1]}20" if text.endswith(" ") else text
