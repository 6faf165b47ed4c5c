"""Certificates of clients: whom a listener lets in, and why somebody was refused.

OpenSSL verifies them in a full handshake: the chain, of whatever length, up to a certificate of `client_ca`, the
dates, the purpose (clientAuth), the revocation lists. A session that is resumed brings its certificate without
being verified again, so `judge` looks at what may have changed since.
"""

from __future__ import annotations

import hashlib
import math
import re
import ssl
import time
from collections.abc import Iterator
from typing import NamedTuple

from cryptography import x509

from vsproxy.client_certificate import NO_CERTIFICATE, Identity, identify
from vsproxy.config.model import Config
from vsproxy.config.tls import PairFiles, TlsConfig
from vsproxy.errors import VsproxyError
from vsproxy.tls_pair import CLIENTS, Pair, Pairs, in_memory, read_bytes, read_pair

#: Clients of which it is remembered what is said of them: most come with more than one connection.
MAX_KNOWN = 64
_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)

# Why a client was refused, for the metric; the numbers are OpenSSL's X509_V_ERR_*.
MISSING = "missing"
EXPIRED = "expired"
CRL_EXPIRED = "crl_expired"
UNREADABLE = "unreadable"
OTHER = "other"
_REASONS = {
    2: "untrusted",
    7: "untrusted",
    18: "untrusted",
    19: "untrusted",
    20: "untrusted",
    21: "untrusted",
    24: "untrusted",
    9: "not_yet_valid",
    10: EXPIRED,
    23: "revoked",
    3: "crl_missing",
    33: "crl_missing",
    11: CRL_EXPIRED,
    12: CRL_EXPIRED,
    26: "wrong_purpose",
    66: "weak",
    67: "weak",
    68: "weak",
}


class Verdict(NamedTuple):
    """`refused` says why, empty if the client comes in; `lines` are what servers are told about its certificate."""

    refused: str
    lines: bytes


def read_all(config: Config) -> dict[PairFiles, Pair]:
    """What is in all files that the TLS listeners of `config` name. Raises VsproxyError that names the unusable one."""
    return {
        files: pair
        for listener in config.listeners
        if listener.tls is not None
        for files, pair in read_listener(listener.tls).items()
    }


def read_listener(config: TlsConfig) -> dict[PairFiles, Pair]:
    """As `read_all`, of one listener."""
    pairs = {files: read_pair(files) for files in config.pairs}
    if config.client_files is not None:
        pairs[config.client_files] = read_clients(config.client_files)
    return pairs


def read_clients(files: PairFiles) -> Pair:
    """What is in `client_files`: CAs in the place of the certificate, lists in that of the key, which may be empty.

    Raises VsproxyError that names the file that is unusable.
    """
    content, lists = read_bytes(files)
    parse_authorities(files.cert, content)
    updates = []
    if files.key == files.cert:
        lists = b""
    else:
        updates = [found.next_update_utc for found in parse_lists(files.key, lists)]
    expiry = min((update.timestamp() for update in updates if update is not None), default=math.inf)
    digest = hashlib.sha256(hashlib.sha256(content).digest() + lists).digest()
    return Pair(digest, content, lists, frozenset(), CLIENTS, expiry)


def clients_of(config: TlsConfig, pairs: Pairs) -> ClientCheck | None:
    """What the listener asks of its clients, None if nothing; `pairs` has what is in its files."""
    return ClientCheck(config, pairs[config.client_files]) if config.client_files is not None else None


class ClientCheck:
    """What a listener asks of its clients, with the CAs and lists in `pair`.

    `crl_expiry` is when the first of the revocation lists is past its next update, in seconds since 1970, None if
    none ever is. `crl` is the file that they came from.
    """

    __slots__ = ("_flags", "_known", "_pair", "_whole", "crl", "crl_expiry", "required")

    def __init__(self, config: TlsConfig, pair: Pair) -> None:
        self.required = config.requires_certificate
        self.crl = config.client_crl
        self.crl_expiry = None if math.isinf(pair.expiry) else pair.expiry
        self._whole = config.client_cert_field
        self._pair = pair
        self._flags = _flags(
            parse_authorities(config.client_ca or "", pair.cert),
            parse_lists(config.client_crl or "", pair.key) if pair.key else [],
        )
        self._known: dict[bytes, Identity] = {}

    def demand(self, context: ssl.SSLContext) -> None:
        """Let connections that begin with `context` be verified, whatever context they are given later.

        OpenSSL keeps these of the context that a connection began with (SSL_set_SSL_CTX), and takes the CAs of the
        last: see `trust`.
        """
        context.verify_mode = ssl.CERT_REQUIRED if self.required else ssl.CERT_OPTIONAL
        context.verify_flags = ssl.VerifyFlags(self._flags)

    def trust(self, context: ssl.SSLContext) -> None:
        """Let `context` have the CAs and the lists, which cannot be taken out again. Raises VsproxyError or
        ssl.SSLError if OpenSSL refuses them or something is short."""
        for content in filter(None, (self._pair.cert, self._pair.key)):
            try:
                with in_memory(content) as path:
                    context.load_verify_locations(cafile=path)
            except ssl.SSLError:
                raise
            except OSError as exc:
                raise VsproxyError(f"certificates of CAs cannot be handed over: {exc.strerror}") from exc

    def judge(self, connection: ssl.SSLObject) -> Verdict:
        """Whether the client at the other end of a finished handshake comes in, and what is said of it."""
        der = connection.getpeercert(True)
        if der is None:
            # Of a session, too, that was begun where nobody was asked.
            return Verdict(MISSING if self.required else "", NO_CERTIFICATE)
        try:
            known = self._known.get(der) or self._remember(der)
        except ValueError:
            return Verdict(UNREADABLE, b"")
        now = time.time()
        if now > known.not_after:
            return Verdict(EXPIRED, b"")
        if self.crl_expiry is not None and now > self.crl_expiry:
            return Verdict(CRL_EXPIRED, b"")
        return Verdict("", known.lines)

    def _remember(self, der: bytes) -> Identity:
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        self._known[der] = known = identify(der, self._whole)
        return known


def refusal(error: ssl.SSLError) -> str:
    """Why OpenSSL refused a client's certificate, empty if `error` is about something else."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _REASONS.get(error.verify_code, OTHER)
    return MISSING if error.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE" else ""


def parse_authorities(path: str, content: bytes) -> list[x509.Certificate]:
    """The certificates in `content` (PEM) of a file. Raises VsproxyError that names it."""
    try:
        blocks = _blocks(path, content, b"CERTIFICATE", "certificate")
        return [x509.load_pem_x509_certificate(block) for block in blocks]
    except ValueError as exc:
        raise VsproxyError(f"{path}: a certificate in it cannot be read") from exc


def parse_lists(path: str, content: bytes) -> list[x509.CertificateRevocationList]:
    """The revocation lists in `content` (PEM) of a file. Raises VsproxyError that names it."""
    try:
        return [x509.load_pem_x509_crl(block) for block in _blocks(path, content, b"X509 CRL", "revocation list")]
    except ValueError as exc:
        raise VsproxyError(f"{path}: a revocation list in it cannot be read") from exc


def _blocks(path: str, content: bytes, label: bytes, what: str) -> Iterator[bytes]:
    """The PEM blocks of a file that has only those: OpenSSL would take others, and trust a certificate among lists."""
    found = list(_BLOCK.finditer(content))
    if not found:
        raise VsproxyError(f"{path}: no {what} in PEM form")
    for block in found:
        if block[1] != label:
            kind = block[1].decode("ascii")
            raise VsproxyError(f"{path}: {kind} in a file that may have nothing but a {what} in it")
        yield block[0] + b"\n"


def _flags(authorities: list[x509.Certificate], lists: list[x509.CertificateRevocationList]) -> int:
    flags = int(ssl.VerifyFlags.VERIFY_X509_TRUSTED_FIRST)
    subjects = {certificate.subject for certificate in authorities}
    if any(certificate.issuer not in subjects for certificate in authorities):
        # An intermediate CA without its root: it is trusted itself, and not all that its root may vouch for.
        flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    if lists:
        whole = subjects <= {found.issuer for found in lists}
        flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_CHAIN if whole else ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
    return flags
