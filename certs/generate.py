"""Makes certificates for development: a throw-away CA, and a server certificate signed by it.

    python certs/generate.py [NAME ...] [--only] [--rsa] [--out DIRECTORY] [--days DAYS] [--force]

Writes `ca.pem` (for clients to trust), `server.pem` and `server.key` (for the listener). The CA's own key is
never written: who trusts this CA must not have to fear that somebody else signs with it.
"""

from __future__ import annotations

import argparse
import datetime
import ipaddress
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DEFAULT_NAMES = ("localhost", "127.0.0.1", "::1")
DEFAULT_DAYS = 365
# Clocks of virtual machines may be behind.
_BACKDATED = datetime.timedelta(hours=1)
_RSA_BITS = 2048

_PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True)
class Issued:
    """A CA certificate, a server certificate signed by it, and the server's key; all PEM."""

    ca: bytes
    certificate: bytes
    key: bytes


def issue(
    names: tuple[str, ...] = (), days: float = DEFAULT_DAYS, only: bool = False, rsa_key: bool = False
) -> Issued:
    """A new CA and a server certificate for `DEFAULT_NAMES` and `names` (hosts, wildcards, addresses).

    With `only`, for `names` alone; with `rsa_key`, its key is an RSA key and not one of an elliptic curve.
    """
    end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca_name = _name("vsproxy development CA")
    ca = _sign_ca(ca_key, ca_name, end)
    server_key = _server_key(rsa_key)
    all_names = names if only else tuple(dict.fromkeys(DEFAULT_NAMES + names))
    server = _sign_server(server_key, all_names, ca_key, ca_name, end)
    return Issued(
        ca=ca.public_bytes(serialization.Encoding.PEM),
        certificate=server.public_bytes(serialization.Encoding.PEM),
        key=server_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    )


def _server_key(rsa_key: bool) -> _PrivateKey:
    if rsa_key:
        return rsa.generate_private_key(public_exponent=65537, key_size=_RSA_BITS)
    return ec.generate_private_key(ec.SECP256R1())


def write(issued: Issued, directory: Path, force: bool = False) -> list[Path]:
    """Write the three files into `directory`; returns their paths. Raises FileExistsError unless `force`."""
    contents = {"ca.pem": issued.ca, "server.pem": issued.certificate, "server.key": issued.key}
    paths = [directory / name for name in contents]
    existing = [path for path in paths if os.path.lexists(path)]
    if existing and not force:
        raise FileExistsError(", ".join(map(str, existing)))
    directory.mkdir(parents=True, exist_ok=True)
    for path, content in zip(paths, contents.values(), strict=True):
        # A new file each time: the mode given to open() has no effect on one that is there already.
        path.unlink(missing_ok=True)
        mode = 0o600 if path.suffix == ".key" else 0o644
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
    return paths


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(description="Make a development CA and a server certificate.")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="more names or addresses for the certificate"
    )
    parser.add_argument(
        "--only", action="store_true", help="leave out localhost, 127.0.0.1 and ::1, which are in it otherwise"
    )
    parser.add_argument("--rsa", action="store_true", help="an RSA key (default: of the elliptic curve P-256)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="directory (default: certs/)")
    parser.add_argument("--days", type=int, default=DEFAULT_DAYS, help="validity (default: %(default)s)")
    parser.add_argument("--force", action="store_true", help="replace the files of an earlier run")
    options = parser.parse_args(arguments)
    if options.only and not options.names:
        parser.error("--only takes a NAME")
    try:
        issued = issue(tuple(options.names), options.days, options.only, options.rsa)
        paths = write(issued, options.out, options.force)
    except FileExistsError as exc:
        print(f"{exc}: already there; --force replaces them", file=sys.stderr)
        return 1
    except (OSError, ValueError) as exc:
        print(f"no certificate made: {exc}", file=sys.stderr)
        return 1
    print("\n".join(map(str, paths)))
    return 0


def _sign_ca(key: ec.EllipticCurvePrivateKey, name: x509.Name, end: datetime.datetime) -> x509.Certificate:
    public = key.public_key()
    return (
        _builder(name, name, public, end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .sign(key, hashes.SHA256())
    )


def _sign_server(
    server_key: _PrivateKey,
    names: tuple[str, ...],
    ca_key: ec.EllipticCurvePrivateKey,
    ca_name: x509.Name,
    end: datetime.datetime,
) -> x509.Certificate:
    public = server_key.public_key()
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    return (
        _builder(_name("vsproxy development server"), ca_name, public, end)
        .add_extension(x509.SubjectAlternativeName([_alternative(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(authority, critical=False)
        .sign(ca_key, hashes.SHA256())
    )


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey | rsa.RSAPublicKey,
    end: datetime.datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.datetime.now(datetime.UTC) - _BACKDATED)
        .not_valid_after(end)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _usage(
    digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


if __name__ == "__main__":
    sys.exit(main())
