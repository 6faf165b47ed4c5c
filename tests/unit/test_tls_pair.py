"""A certificate with its key: its names, its end, and what is wrong with one that cannot be used."""

from __future__ import annotations

import datetime
import pickle
import ssl
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from support.certificates import make_certificates
from vsproxy.config.tls import PairFiles
from vsproxy.errors import VsproxyError
from vsproxy.tls_pair import Pair, load, read_pair

DAY = 24 * 3600


def self_signed(directory: Path, common_name: str, *alternative: str) -> Pair:
    """A pair with this common name, and these alternative names if there are any."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    if alternative:
        names = x509.SubjectAlternativeName([x509.DNSName(name) for name in alternative])
        builder = builder.add_extension(names, critical=False)
    file = directory / "pair.pem"
    encoded = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM) + encoded)
    return read_pair(PairFiles(str(file), str(file)))


def test_the_names_are_the_alternative_ones_in_lower_case(tmp_path: Path) -> None:
    pair = self_signed(tmp_path, "ignored.example", "A.Example", "*.b.example", "xn--mnchen-3ya.example")
    assert pair.names == {"a.example", "*.b.example", "xn--mnchen-3ya.example"}


@pytest.mark.parametrize(
    ("common", "name"), [("Shop.Example.", "shop.example"), ("münchen.example", "xn--mnchen-3ya.example")]
)
def test_without_alternative_names_the_common_name_is_one(tmp_path: Path, common: str, name: str) -> None:
    assert self_signed(tmp_path, common).names == {name}


@pytest.mark.parametrize("common", ["ü..example", "A server", "*", "w*.example", "a..example"])
def test_a_common_name_that_is_none_of_a_host(tmp_path: Path, common: str) -> None:
    assert self_signed(tmp_path, common).names == frozenset()


def test_addresses_are_not_names(tmp_path: Path) -> None:
    assert read_pair(make_certificates(tmp_path, "10.1.2.3").files).names == {"localhost"}


def test_the_kind_is_that_of_the_key(tmp_path: Path) -> None:
    assert read_pair(make_certificates(tmp_path / "ec").files).kind == "EC"
    assert read_pair(make_certificates(tmp_path / "rsa", rsa=True).files).kind == "RSA"


def test_the_end_is_that_of_the_first_certificate_wherever_the_key_stands(tmp_path: Path) -> None:
    soon, later = make_certificates(tmp_path / "soon", days=10), make_certificates(tmp_path / "later", days=20)
    file = tmp_path / "all.pem"
    file.write_bytes(soon.key.read_bytes() + soon.cert.read_bytes() + later.cert.read_bytes())
    pair = read_pair(PairFiles(str(file), str(file)))
    assert pair.expiry == pytest.approx(time.time() + 10 * DAY, abs=60)


def test_the_key_is_taken_from_its_own_file_also_if_there_is_another_beside_the_certificate(tmp_path: Path) -> None:
    one, other = make_certificates(tmp_path / "one"), make_certificates(tmp_path / "other")
    both = tmp_path / "both.pem"
    both.write_bytes(other.key.read_bytes() + one.cert.read_bytes())
    read_pair(PairFiles(str(both), str(one.key)))


def test_a_pair_can_be_used_when_its_files_are_gone_and_in_another_process(tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path)
    pair = pickle.loads(pickle.dumps(read_pair(certificates.files)))
    for path in certificates.files:
        Path(path).unlink()
    load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), pair)


def test_pairs_are_the_same_by_what_is_in_them(tmp_path: Path) -> None:
    one, other = make_certificates(tmp_path / "one"), make_certificates(tmp_path / "other")
    assert read_pair(one.files) == read_pair(one.files)
    assert read_pair(one.files) != read_pair(other.files)


def test_the_key_is_not_in_what_is_said_of_a_pair(tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path)
    assert "PRIVATE" not in repr(read_pair(certificates.files))


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.pem")
    with pytest.raises(VsproxyError, match=r"missing\.pem: No such file or directory"):
        read_pair(PairFiles(missing, missing))


@pytest.mark.parametrize("kept", [0, 0.5, 0.97])
def test_a_file_that_is_half_written(tmp_path: Path, kept: float) -> None:
    certificates = make_certificates(tmp_path)
    whole = certificates.cert.read_bytes()
    certificates.cert.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(VsproxyError, match=r"server\.pem: no usable certificate in PEM form"):
        read_pair(certificates.files)
