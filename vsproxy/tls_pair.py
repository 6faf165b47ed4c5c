"""A certificate with its key, as read from their files: judged as a whole, and kept so that the files may go."""

from __future__ import annotations

import hashlib
import os
import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from vsproxy.config.tls import PairFiles
from vsproxy.errors import VsproxyError

#: The kinds of keys of which a context can have one each.
_KINDS = (
    (rsa.RSAPublicKey, "RSA"),
    (ec.EllipticCurvePublicKey, "EC"),
    (ed25519.Ed25519PublicKey, "Ed25519"),
    (ed448.Ed448PublicKey, "Ed448"),
)


#: Not of a key: CAs and revocation lists, for the certificates of clients.
CLIENTS = "clients"
#: What a client may ask for, or a wildcard for it; a common name may be anything.
_HOST = re.compile(r"(?:\*\.)?[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")


@dataclass(frozen=True, slots=True)
class Pair:
    """A chain and its key that belong together. Two are the same if `fingerprint`, of both files, is the same.

    `names` are those that it is for, in lower case and without a final dot, wildcards as `*.example.com`. `kind` is
    the type of its key, `expiry` the end of the own certificate in seconds since 1970.
    """

    fingerprint: bytes
    cert: bytes = field(compare=False, repr=False)
    key: bytes = field(compare=False, repr=False)
    names: frozenset[str] = field(compare=False)
    kind: str = field(compare=False)
    expiry: float = field(compare=False)


#: What is in force, or is to be, by the files it came from.
Pairs = Mapping[PairFiles, Pair]


def read_pair(files: PairFiles) -> Pair:
    """The pair in `files`. Raises VsproxyError that names the file that is missing or unusable."""
    cert, key = read_bytes(files)
    return make_pair(files, cert, key)


def read_bytes(files: PairFiles) -> tuple[bytes, bytes]:
    """What is in both files. Raises VsproxyError that names the one that cannot be read."""
    return _content(files.cert), _content(files.key)


def _content(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as exc:
        raise VsproxyError(f"{path}: {exc.strerror}") from exc


def make_pair(files: PairFiles, cert: bytes, key: bytes) -> Pair:
    """The pair that was read from `files`. Raises VsproxyError if it is none, and says in which file that shows."""
    try:
        # The first is the server's own; what follows are those that vouch for it.
        own = x509.load_pem_x509_certificates(cert)[0]
        kind = _kind(own)
    except ValueError as exc:
        raise VsproxyError(f"{files.cert}: no usable certificate in PEM form") from exc
    pair = Pair(fingerprint(cert, key), cert, key, names_of(own), kind, own.not_valid_after_utc.timestamp())
    asked: list[bool] = []
    try:
        load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), pair, asked)
    except (ssl.SSLError, ValueError) as exc:
        raise VsproxyError(_problem(files, exc, encrypted=bool(asked))) from exc
    return pair


def fingerprint(cert: bytes, key: bytes) -> bytes:
    """What tells the content of two files from any other."""
    return hashlib.sha256(hashlib.sha256(cert).digest() + key).digest()


def load(context: ssl.SSLContext, pair: Pair, asked: list[bool] | None = None) -> None:
    """Put `pair` into `context`, in the place of one with the same kind of key.

    `asked` gets an item if the key turns out to be protected. Raises ssl.SSLError or ValueError if OpenSSL refuses
    the pair, and VsproxyError if there is no way to hand it over.
    """

    def no_password() -> str:
        # Without this, OpenSSL would ask on the terminal and wait.
        if asked is not None:
            asked.append(True)
        return ""

    # OpenSSL reads files only. These have no name, and hold what was judged, whatever has become of the real ones.
    with ExitStack() as stack:
        try:
            cert, key = (stack.enter_context(in_memory(content)) for content in (pair.cert, pair.key))
        except OSError as exc:
            raise VsproxyError(f"a certificate cannot be handed over in /proc/self/fd: {exc.strerror}") from exc
        context.load_cert_chain(cert, key, no_password)


@contextmanager
def in_memory(content: bytes) -> Iterator[str]:
    """The name of a file with `content`, for OpenSSL, which reads nothing else. Raises OSError."""
    file = os.memfd_create("vsproxy-pair", os.MFD_CLOEXEC)
    try:
        with open(file, "wb", closefd=False) as writer:
            writer.write(content)
        path = f"/proc/self/fd/{file}"
        # OpenSSL would say of a system without /proc that the certificate is bad.
        os.stat(path)
        yield path
    finally:
        os.close(file)


def _problem(files: PairFiles, exc: Exception, encrypted: bool) -> str:
    cert, key = files
    if encrypted:
        return f"{key}: the private key is protected by a password"
    if isinstance(exc, ssl.SSLError) and exc.reason == "KEY_VALUES_MISMATCH":
        return f"{key}: the private key does not belong to the certificate in {cert}"
    if isinstance(exc, ssl.SSLError) and exc.reason and exc.reason.endswith("_TOO_SMALL"):
        return f"{cert}: the certificate is too weak ({exc.reason.lower().replace('_', ' ')})"
    return f"{key}: no usable private key in PEM form"


def _kind(certificate: x509.Certificate) -> str:
    public = certificate.public_key()
    return next((name for kind, name in _KINDS if isinstance(public, kind)), "other")


def names_of(certificate: x509.Certificate) -> frozenset[str]:
    """The names of hosts that a certificate is for: those among its alternative names, the common name without any.

    A client asks for a name in its ASCII form (RFC 6066 section 3), and so are they here.
    """
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        names = extension.value.get_values_for_type(x509.DNSName)
    except (x509.ExtensionNotFound, ValueError):
        names = []
    if not names:
        common = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        names = [str(attribute.value) for attribute in common]
    return frozenset(filter(None, map(_ascii, names)))


def _ascii(name: str) -> str:
    if not name.isascii():
        try:
            name = name.encode("idna").decode()
        except UnicodeError:
            return ""
    name = name.lower().removesuffix(".")
    return name if _HOST.fullmatch(name) else ""
