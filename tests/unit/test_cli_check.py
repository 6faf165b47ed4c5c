"""`vsproxy check`: every mistake with its line and status 2, certificates, names that do not resolve."""

from __future__ import annotations

import asyncio
import datetime
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from typer.testing import CliRunner, Result

from support.certificates import make_certificates
from support.nameserver import nameserver
from vsproxy.cli import app

GOOD = """\
[[listeners]]
bind = "127.0.0.1:0"
[[routes]]
pool = "app"
[pools.app]
servers = [{ address = "127.0.0.1:1" }]
"""
TLS = """\
[[listeners]]
bind = "127.0.0.1:0"
tls = {{ cert = "{cert}", key = "{key}" }}
"""


@pytest.fixture(autouse=True)
def in_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def checked(text: str, *options: str) -> Result:
    Path("lb.toml").write_text(text)
    return CliRunner().invoke(app, ["check", "lb.toml", *options])


def pair(name: str, days: int = 1, encryption: KeySerializationEncryption | None = None) -> tuple[Path, Path]:
    """A self-signed certificate that ends in `days`, and its key, as files."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
    cert = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(end - datetime.timedelta(days=10))
        .not_valid_after(end)
        .sign(key, hashes.SHA256())
    )
    files = Path(f"{name}.pem"), Path(f"{name}.key")
    files[0].write_bytes(cert.public_bytes(Encoding.PEM))
    encoded = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())
    files[1].write_bytes(encoded)
    return files


def test_a_good_file() -> None:
    result = checked(GOOD)
    assert (result.exit_code, result.output) == (0, "lb.toml: ok: 1 listener, 1 route, 1 pool, 1 server\n")


def test_mistakes_one_a_line() -> None:
    result = checked(GOOD.replace('"app"', '"ap"').replace("bind =", "bnd ="))
    assert result.exit_code == 2
    assert result.output.splitlines() == [
        'lb.toml:1: listeners[0].bind: found nothing; accepted "host:port", "[v6]:port", ":port" '
        '(all interfaces) or "unix:/path"',
        'lb.toml:2: listeners[0].bnd: found the unknown key "bnd", did you mean "bind"?; accepted '
        + result.output.splitlines()[1].split("accepted ")[1],
        'lb.toml:4: routes[0].pool: found "ap", which is not a pool; accepted one of "app"',
    ]


def test_a_file_that_is_not_there() -> None:
    result = CliRunner().invoke(app, ["check", "none.toml"])
    assert (result.exit_code, result.output) == (2, "none.toml: cannot be read: No such file or directory\n")


async def test_a_name_that_does_not_resolve_is_a_warning() -> None:
    pools = """\
[pools.app]
servers = [
{ address = "known.test:1" },
{ address = "nowhere.test:1" },
{ address = "localhost:1" },
{ address = "srv:_http._tcp.known.test" },
{ address = "srv:_http._tcp.off.test" },
{ address = "srv:_http._tcp.nowhere.test" },
]
[pools.unused]
servers = [{ address = "elsewhere.test:1" }]
"""
    async with nameserver() as server:
        server.put("known.test", "A", "192.0.2.1")
        server.put("_http._tcp.known.test", "SRV", "0 1 80 known.test.")
        server.put("_http._tcp.off.test", "SRV", "0 0 0 .")
        resolver = f'[resolver]\nnameservers = ["{server.address}"]\n'
        # The command has a loop of its own.
        result = await asyncio.to_thread(checked, GOOD[: GOOD.index("[pools")] + pools + resolver)
        assert server.count("elsewhere.test", "A") == 0
    assert result.exit_code == 0
    warned = "lb.toml:{}: pools.app.servers[{}].address: warning: "
    assert result.output.splitlines() == [
        warned.format(8, 1)
        + '"nowhere.test" does not resolve (no A or AAAA record); the server is down until it does',
        warned.format(11, 4)
        + '"_http._tcp.off.test" does not resolve (the service is not offered); '
        "the server is down until it does",
        warned.format(12, 5)
        + '"_http._tcp.nowhere.test" does not resolve (no SRV record); the server is down until it does',
        "lb.toml: ok: 1 listener, 1 route, 2 pools, 7 servers",
    ]


def test_json() -> None:
    result = checked(GOOD, "--json")
    assert (result.exit_code, json.loads(result.output)) == (
        0,
        {"file": "lb.toml", "ok": True, "problems": [], "warnings": []},
    )


def test_json_of_a_mistake() -> None:
    result = checked(GOOD.replace('"app"', '"ap"'), "--json")
    report: dict[str, Any] = json.loads(result.output)
    assert (result.exit_code, report["ok"]) == (2, False)
    assert report["problems"] == [
        {
            "file": "lb.toml",
            "line": 4,
            "key": "routes[0].pool",
            "found": '"ap", which is not a pool',
            "accepted": 'one of "app"',
        }
    ]


def test_a_pair_that_fits() -> None:
    cert, key = pair("one")
    assert checked(TLS.format(cert=cert, key=key)).exit_code == 0


def test_one_file_for_both() -> None:
    cert, key = pair("one")
    Path("both.pem").write_bytes(cert.read_bytes() + key.read_bytes())
    assert checked('[[listeners]]\nbind = ":0"\ntls = { cert = "both.pem" }\n').exit_code == 0


def test_a_key_of_another_certificate() -> None:
    cert, _ = pair("one")
    _, key = pair("two")
    result = checked(TLS.format(cert=cert, key=key))
    assert result.exit_code == 2
    assert result.output.startswith(
        'lb.toml:3: listeners[0].tls.key: found "two.key", which is not the key of "one.pem"'
    )


def test_a_key_with_a_passphrase_is_not_asked_for() -> None:
    cert, key = pair("one", encryption=BestAvailableEncryption(b"secret"))
    result = checked(TLS.format(cert=cert, key=key))
    assert result.exit_code == 2
    assert 'listeners[0].tls.key: found "one.key", which has a passphrase; accepted' in result.output


def test_files_that_are_not_there_or_not_pem() -> None:
    Path("text").write_text("hello")
    result = checked(TLS.format(cert="none.pem", key="text"))
    assert result.exit_code == 2
    assert result.output.splitlines() == [
        'lb.toml:3: listeners[0].tls.cert: found "none.pem" (No such file or directory); '
        "accepted a file with a certificate chain in PEM",
        'lb.toml:3: listeners[0].tls.key: found "text", in which there is no usable key; '
        "accepted a file with the private key of the certificate in PEM, without a passphrase",
    ]


def test_certificates_are_opened_although_other_keys_are_wrong() -> None:
    result = checked(TLS.format(cert="none.pem", key="none.key") + "max_requests = 0\n")
    assert [line.split(": ")[1] for line in result.output.splitlines()] == [
        "listeners[0].tls.cert",
        "listeners[0].tls.key",
        "listeners[0].max_requests",
    ]


def test_a_certificate_that_has_ended_is_a_warning() -> None:
    cert, key = pair("old", days=-2)
    result = checked(TLS.format(cert=cert, key=key))
    assert result.exit_code == 0
    assert 'listeners[0].tls.cert: warning: the certificate in "old.pem" ended on' in result.output


def test_all_certificates_of_a_listener_are_opened() -> None:
    cert, key = pair("one")
    _, other = pair("two")
    result = checked(
        TLS.format(cert=cert, key=key).replace(" }\n", ', ciphers = "AES256-GMC", certificates = [\n')
        + f'{{ cert = "none.pem", key = "{key}" }},\n'
        + f'{{ cert = "one.pem", key = "{other}" }},\n'
        + '{ cert = "text" },\n] }\n'
    )
    assert result.exit_code == 2
    found = [line.split("; accepted")[0] for line in result.output.splitlines()]
    assert found == [
        'lb.toml:3: listeners[0].tls.ciphers: found "AES256-GMC" (OpenSSL has no cipher of TLS 1.2 for "AES256-GMC")',
        'lb.toml:4: listeners[0].tls.certificates[0].cert: found "none.pem" (No such file or directory)',
        'lb.toml:5: listeners[0].tls.certificates[1].cert: found "one.pem", which cert has already',
        'lb.toml:5: listeners[0].tls.certificates[1].key: found "two.key", which is not the key of "one.pem"',
        'lb.toml:6: listeners[0].tls.certificates[2].cert: found "text" (No such file or directory)',
    ]


def test_a_certificate_that_nobody_can_ask_for_is_a_warning(tmp_path: Path) -> None:
    cert, key = pair("one")
    nameless = make_certificates(tmp_path / "nameless", "10.0.0.1", only=True)
    text = TLS.format(cert=cert, key=key).replace(
        " }", f', certificates = [{{ cert = "{nameless.cert}", key = "{nameless.key}" }}] }}'
    )
    result = checked(text)
    assert result.exit_code == 0
    assert result.output.splitlines()[0] == (
        f'lb.toml:3: listeners[0].tls.certificates[0].cert: warning: the certificate in "{nameless.cert}" has no name '
        "of a host, so no client gets it"
    )
