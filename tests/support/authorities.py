"""CAs for clients, what they sign and what they revoke."""

from __future__ import annotations

import datetime
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

DAY = datetime.timedelta(days=1)
_SAID = {"digital_signature": True, "key_cert_sign": False, "crl_sign": False}
_UNSAID = dict.fromkeys(
    ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only"),
    False,
)


@dataclass(frozen=True)
class Pair:
    """A certificate with its key in one file, as clients have it; `chain` are those of CAs that it is sent with."""

    certificate: x509.Certificate
    file: Path

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    def context(self, trusted: Path) -> ssl.SSLContext:
        """A client that shows it, and trusts the CA in the file `trusted`."""
        context = ssl.create_default_context(cafile=str(trusted))
        context.load_cert_chain(self.file)
        return context


def name(common: str, *more: tuple[ObjectIdentifier, str]) -> x509.Name:
    """The name of a subject."""
    attributes = [x509.NameAttribute(kind, value) for kind, value in more]
    return x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, common)])


class Authority:
    """A CA of its own, or one below `parent`. `file` has its certificate."""

    def __init__(
        self,
        directory: Path,
        common: str = "clients",
        parent: Authority | None = None,
        lasts: datetime.timedelta = DAY,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.subject = name(common)
        self._parent = parent
        issuer = parent or self
        self.certificate = (
            _builder(self.subject, issuer.subject, self._key.public_key(), lasts)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(
                x509.KeyUsage(**{**_SAID, **_UNSAID, "key_cert_sign": True, "crl_sign": True}), critical=True
            )
            .sign(issuer._key, hashes.SHA256())
        )
        self.pem = self.certificate.public_bytes(Encoding.PEM)
        self.file = directory / f"{common}-ca.pem"
        self.file.write_bytes(self.pem)

    def issue(
        self,
        subject: x509.Name | str = "alice",
        purpose: ObjectIdentifier | None = ExtendedKeyUsageOID.CLIENT_AUTH,
        lasts: datetime.timedelta = DAY,
        extra: bytes = b"",
    ) -> Pair:
        """A certificate, sent with that of this CA if it has one above it. `extra`: an extension of so many bytes."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = name(subject) if isinstance(subject, str) else subject
        builder = _builder(subject, self.subject, key.public_key(), lasts)
        if purpose is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        if extra:
            unknown = x509.UnrecognizedExtension(ObjectIdentifier("1.3.6.1.4.1.99999.1"), extra)
            builder = builder.add_extension(unknown, critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        file = self._directory / f"{certificate.serial_number:x}.pem"
        chain = self.pem if self._parent is not None else b""
        file.write_bytes(
            certificate.public_bytes(Encoding.PEM)
            + chain
            + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )
        return Pair(certificate, file)

    def revocation_list(self, revoked: Sequence[Pair | Authority] = (), lasts: datetime.timedelta = DAY) -> bytes:
        """The list of who is revoked, PEM, good until `lasts` from now, which may be before now."""
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.subject)
        builder = builder.last_update(now - 2 * DAY).next_update(now + lasts)
        for pair in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(pair.certificate.serial_number)
            builder = builder.add_revoked_certificate(entry.revocation_date(now - DAY).build())
        return builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, lasts: datetime.timedelta
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 2 * DAY)
        .not_valid_after(now + lasts)
    )
