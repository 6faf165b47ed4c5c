"""What a listener offers unless it is told otherwise: Mozilla's "intermediate" profile, and nothing beside it.

Asked by clients that are willing to speak anything, Python's and openssl's.
"""

from __future__ import annotations

import asyncio
import datetime
import re
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from support.authorities import DAY, name
from support.certificates import make_certificates
from support.http import request_bytes
from support.stage import Stage

ECDSA = {
    "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305",
}  # fmt: skip
RSA = {"ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-RSA-CHACHA20-POLY1305"}
THIRTEEN = {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"}
#: Everything that the library has, weak and anonymous ones included.
ANYTHING = "ALL:COMPLEMENTOFALL:@SECLEVEL=0"


@dataclass
class Offers:
    """The addresses of two listeners: one with an ECDSA key, one with an RSA key."""

    ecdsa: str
    rsa: str


def rsa_pair(directory: Path) -> dict[str, str]:
    """A certificate with an RSA key, signed by itself."""
    key = rsa.generate_private_key(65537, 2048)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name("localhost"))
        .issuer_name(name("localhost"))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(_now() - DAY)
        .not_valid_after(_now() + DAY)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = directory / "rsa.pem"
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(certificate.public_bytes(Encoding.PEM) + pem)
    return {"cert": str(file)}


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


@pytest.fixture
async def offers(stage: Stage, tmp_path: Path) -> Offers:
    own = make_certificates(tmp_path)
    pairs = [{"cert": str(own.cert), "key": str(own.key)}, rsa_pair(tmp_path)]
    listeners = [{"bind": "127.0.0.1:0", "tls": pair} for pair in pairs]
    proxy = await stage.proxy(await stage.server(), listeners=listeners)
    return Offers(*proxy.addresses[:2])


def willing() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def agreed(address: str, context: ssl.SSLContext) -> str | None:
    """The suite of a handshake, None if there was none."""
    host, port = address.split(":")
    with socket.create_connection((host, int(port)), 20) as plain:
        try:
            with context.wrap_socket(plain, server_hostname="localhost") as tls:
                suite = tls.cipher()
                return suite[0] if suite is not None else None
        except (ssl.SSLError, ConnectionError):
            return None


def suites_of_twelve(address: str) -> set[str]:
    """Every suite of TLS 1.2 and before that the listener agrees to, asked for each by itself."""
    probe = willing()
    probe.set_ciphers(ANYTHING)
    names = {suite["name"] for suite in probe.get_ciphers()} - THIRTEEN
    assert {"AES128-SHA", "DHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-SHA"} <= names
    found = set()
    for suite in sorted(names):
        context = willing()
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(f"{suite}:@SECLEVEL=0")
        if agreed(address, context) is not None:
            found.add(suite)
    return found


async def test_six_suites_of_tls_1_2(offers: Offers) -> None:
    assert await asyncio.to_thread(suites_of_twelve, offers.ecdsa) == ECDSA
    assert await asyncio.to_thread(suites_of_twelve, offers.rsa) == RSA


async def openssl(address: str, *options: str, stdin: bytes = b"") -> tuple[int, str]:
    """What `openssl s_client` says, and its status."""
    process = await asyncio.create_subprocess_exec(
        *("openssl", "s_client", "-connect", address, "-servername", "localhost", *options),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(30):
        output, _ = await process.communicate(stdin)
    assert process.returncode is not None
    return process.returncode, output.decode(errors="replace")


@pytest.mark.parametrize("suite", sorted(THIRTEEN))
async def test_the_suites_of_tls_1_3(offers: Offers, suite: str) -> None:
    status, output = await openssl(offers.ecdsa, "-tls1_3", "-ciphersuites", suite)
    assert status == 0
    assert f"Cipher is {suite}" in output


@pytest.mark.parametrize("suite", ["TLS_AES_128_CCM_SHA256", "TLS_AES_128_CCM_8_SHA256"])
async def test_no_other_suite_of_tls_1_3(offers: Offers, suite: str) -> None:
    status, output = await openssl(offers.ecdsa, "-tls1_3", "-ciphersuites", suite)
    assert status != 0
    assert "alert handshake failure" in output


def hello(version: bytes) -> bytes:
    """The record of a ClientHello of SSL 3.0 to TLS 1.1, with every suite that they had in common use."""
    suites = b"".join(bytes(pair) for pair in [(0, 0x2F), (0, 0x35), (0, 0x0A), (0, 0x05), (0xC0, 0x13), (0xC0, 0x09)])
    body = version + bytes(32) + b"\0" + len(suites).to_bytes(2, "big") + suites + b"\x01\0"
    message = b"\x01" + len(body).to_bytes(3, "big") + body
    return b"\x16" + version + len(message).to_bytes(2, "big") + message


@pytest.mark.parametrize("version", [b"\x03\x00", b"\x03\x01", b"\x03\x02"], ids=["SSL 3.0", "TLS 1.0", "TLS 1.1"])
async def test_older_versions_are_refused_with_an_alert(offers: Offers, version: bytes) -> None:
    for address in (offers.ecdsa, offers.rsa):
        reader, writer = await asyncio.open_connection(*address.split(":"))
        writer.write(hello(version))
        async with asyncio.timeout(20):
            # A fatal alert: protocol_version, or handshake_failure where the library knows of no such version.
            answer = await reader.read()
        assert answer[:1] == b"\x15"
        assert answer[5:] in (b"\x02\x46", b"\x02\x28")
        writer.close()


async def test_ssl_2_is_not_known(offers: Offers) -> None:
    reader, writer = await asyncio.open_connection(*offers.rsa.split(":"))
    writer.write(b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10\x01\x00\x80" + bytes(34))
    async with asyncio.timeout(20):
        assert await reader.read() == b""
    writer.close()


@pytest.mark.parametrize(("group", "taken"), [("X25519", True), ("P-256", True), ("P-384", True), ("P-224", False)])
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
async def test_curves(offers: Offers, version: str, group: str, taken: bool) -> None:
    if group == "P-224" and version == "-tls1_3":
        pytest.skip("TLS 1.3 has no P-224")
    status, output = await openssl(offers.rsa, version, "-groups", group, "-cipher", "DEFAULT:@SECLEVEL=0")
    assert (status == 0) is taken
    if taken:
        assert re.search(r"Server Temp Key: (X25519|ECDH, prime256v1|ECDH, secp384r1)", output)


async def test_no_compression_and_a_sound_handshake(offers: Offers) -> None:
    _, output = await openssl(offers.rsa, "-tls1_2")
    assert "Compression: NONE" in output
    assert "Secure Renegotiation IS supported" in output
    assert "Extended master secret: yes" in output
    assert "ALPN: server accepted" not in output
    _, output = await openssl(offers.rsa, "-tls1_3", stdin=b"Q\n")
    assert "Max Early Data: 0" in output or "Early data was not sent" in output


async def test_a_client_cannot_renegotiate(offers: Offers) -> None:
    """`R` on a line by itself makes s_client begin again."""
    status, output = await openssl(offers.rsa, "-tls1_2", stdin=b"R\n")
    assert "RENEGOTIATING" in output
    assert status != 0 or "no renegotiation" in output
    request = request_bytes(fields={"Connection": "close"})
    status, output = await openssl(offers.rsa, "-tls1_2", "-ign_eof", stdin=request)
    assert "server1" in output


async def test_the_order_is_the_client_s(offers: Offers) -> None:
    for first in sorted(RSA):
        context = willing()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(":".join([first, *sorted(RSA - {first})]))
        assert await asyncio.to_thread(agreed, offers.rsa, context) == first
