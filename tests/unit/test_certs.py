"""The generator of development certificates: what it writes, with which rights, and what it will not do."""

from __future__ import annotations

import ipaddress
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from support.certificates import GENERATOR, load_generator

generator = load_generator()


def server_certificate(directory: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate((directory / "server.pem").read_bytes())


def test_the_command_writes_a_pair_signed_by_the_ca(tmp_path: Path) -> None:
    command = [sys.executable, str(GENERATOR), "--out", str(tmp_path / "new")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    directory = tmp_path / "new"
    assert done.stdout.split() == [str(directory / name) for name in ("ca.pem", "server.pem", "server.key")]
    certificate = server_certificate(directory)
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate((directory / "ca.pem").read_bytes()))
    key = load_pem_private_key((directory / "server.key").read_bytes(), None)
    assert key.public_key() == certificate.public_key()


def test_names_are_localhost_and_what_was_asked_for(tmp_path: Path) -> None:
    assert generator.main(["*.app.test", "10.1.2.3", "localhost", "--out", str(tmp_path)]) == 0
    names = server_certificate(tmp_path).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "*.app.test"]
    assert names.get_values_for_type(x509.IPAddress) == [
        ipaddress.ip_address(address) for address in ("127.0.0.1", "::1", "10.1.2.3")
    ]


def test_only_the_ca_may_sign_and_only_the_server_may_serve(tmp_path: Path) -> None:
    issued = generator.issue()
    ca = x509.load_pem_x509_certificate(issued.ca).extensions
    server = x509.load_pem_x509_certificate(issued.certificate).extensions
    assert ca.get_extension_for_class(x509.BasicConstraints).value.ca
    assert not server.get_extension_for_class(x509.BasicConstraints).value.ca
    assert not server.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    usage = list(server.get_extension_for_class(x509.ExtendedKeyUsage).value)
    assert usage == [ExtendedKeyUsageOID.SERVER_AUTH]


@pytest.mark.parametrize("umask", [0o000, 0o022])
def test_only_the_owner_reads_the_key(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        generator.main(["--out", str(tmp_path)])
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "server.key").stat().st_mode) == 0o600


def test_no_key_of_the_ca_is_written(tmp_path: Path) -> None:
    generator.main(["--out", str(tmp_path)])
    keys = [path.name for path in tmp_path.iterdir() if b"PRIVATE KEY" in path.read_bytes()]
    assert keys == ["server.key"]


def test_nothing_is_replaced_without_force(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "server.key").write_text("precious")
    assert generator.main(["--out", str(tmp_path)]) == 1
    assert "server.key: already there" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["server.key"]
    assert (tmp_path / "server.key").read_text() == "precious"


def test_force_replaces_and_corrects_the_rights(tmp_path: Path) -> None:
    key = tmp_path / "server.key"
    key.write_text("old")
    key.chmod(0o644)
    assert generator.main(["--out", str(tmp_path), "--force"]) == 0
    assert b"PRIVATE KEY" in key.read_bytes()
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_a_name_that_cannot_be_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert generator.main(["bücher.test", "--out", str(tmp_path)]) == 1
    assert "no certificate made" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
