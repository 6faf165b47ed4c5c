"""Clients that show a certificate, and those that do not: who comes in, what servers are told, what the others see."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from support.authorities import DAY, Authority, Pair, name
from support.certificates import Certificates, make_certificates
from support.http import chunked, request_bytes
from support.proxies import Settings, eventually
from support.stage import Stage
from vsproxy import Proxy

ADMIN = {"bind": "127.0.0.1:0"}
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
FIELDS = re.compile(r"(?i)(x[-_])?client[-_]cert")
SPOOFED = {
    "X-Client-Cert-Subject": "CN=root",
    "x-client-cert-verify": "SUCCESS",
    "X-CLIENT-CERT-FINGERPRINT": "00",
    "X-Client-Cert-Serial": "00",
    "X-Client-Cert-Issuer": "CN=nobody",
    "X-Client-Cert-Not-After": "never",
    "Client-Cert": ":AA==:",
    "Client-Cert-Chain": ":AA==:",
    "X_Client_Cert_Subject": "CN=root",
    "x-client_cert-verify": "SUCCESS",
    "client_cert": ":AA==:",
}


@dataclass
class Scene:
    """A stage, the listener's own certificate, and a CA for clients."""

    stage: Stage
    own: Certificates
    authority: Authority

    def tls(self, **more: object) -> Settings:
        files = {"cert": str(self.own.cert), "key": str(self.own.key)}
        return {**files, "client_ca": str(self.authority.file), **more}

    async def proxy(self, tls: Settings | None = None, **listener: object) -> Proxy:
        listener = {"tls": tls if tls is not None else self.tls(), **listener}
        return await self.stage.proxy(await self.stage.server(), listener=listener, admin=ADMIN)

    def anonymous(self) -> ssl.SSLContext:
        return self.own.client_context()

    def with_pair(self, pair: Pair) -> ssl.SSLContext:
        return pair.context(self.own.ca)

    async def get(self, context: ssl.SSLContext, fields: dict[str, str] | None = None, **options: str) -> bytes:
        """One request; the whole answer. Raises ssl.SSLError if the client is refused."""
        return await talk(self.stage.address, context, request_bytes(fields=fields or {}), **options)

    @property
    def told(self) -> dict[str, list[str]]:
        """What the first server was told about certificates in its last request."""
        fields = self.stage.servers[0].requests[-1].fields
        found: dict[str, list[str]] = {}
        for field, value in fields:
            if FIELDS.match(field):
                found.setdefault(field, []).append(value)
        return found


async def talk(address: str, context: ssl.SSLContext, request: bytes, sni: str = "localhost") -> bytes:
    host, port = address.split(":")
    async with asyncio.timeout(20):
        reader, writer = await asyncio.open_connection(host, int(port), ssl=context, server_hostname=sni)
        try:
            writer.write(request)
            return await reader.readuntil(b"server1")
        finally:
            writer.transport.abort()


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("own"), "other.example")


@pytest.fixture
def scene(stage: Stage, own: Certificates, tmp_path: Path) -> Scene:
    return Scene(stage, own, Authority(tmp_path / "clients"))


async def run(*command: str, stdin: bytes = b"") -> tuple[int, str]:
    """A client's exit status, and all that it says."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(30):
        output, _ = await process.communicate(stdin)
    assert process.returncode is not None
    return process.returncode, output.decode(errors="replace")


def refused(proxy: Proxy) -> dict[str, int]:
    return proxy.listeners[0].stats.certificates_refused


async def expect_refusal(scene: Scene, context: ssl.SSLContext, reason: str, alert: str, proxy: Proxy) -> None:
    """An alert in time, and a count; no request reaches a server."""
    for version in VERSIONS:
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1_2, version
        before = refused(proxy).get(reason, 0)
        with pytest.raises(ssl.SSLError, match=alert):
            await scene.get(context)
        await eventually(lambda before=before: refused(proxy).get(reason, 0) == before + 1, 20, what=reason)
    assert list(refused(proxy)) == [reason]
    assert scene.stage.servers[0].requests == []


# Who comes in


@pytest.mark.parametrize("version", VERSIONS)
async def test_servers_are_told_who_the_client_is(scene: Scene, version: ssl.TLSVersion) -> None:
    pair = scene.authority.issue(name("alice", (NameOID.ORGANIZATION_NAME, "Example, Inc.")))
    await scene.proxy()
    context = scene.with_pair(pair)
    context.minimum_version = context.maximum_version = version
    assert b" 200 " in await scene.get(context)
    serial = f"{pair.certificate.serial_number:X}"
    assert scene.told == {
        "X-Client-Cert-Verify": ["SUCCESS"],
        "X-Client-Cert-Subject": ["CN=alice,O=Example\\, Inc."],
        "X-Client-Cert-Issuer": ["CN=clients"],
        "X-Client-Cert-Serial": ["0" * (len(serial) % 2) + serial],
        "X-Client-Cert-Fingerprint": [hashlib.sha256(pair.der).hexdigest()],
        "X-Client-Cert-Not-After": [f"{pair.certificate.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}"],
    }


async def test_curl_shows_its_certificate(scene: Scene) -> None:
    proxy = await scene.proxy()
    pair = scene.authority.issue()
    port = proxy.addresses[0].rpartition(":")[2]
    base = ("curl", "-sS", "--noproxy", "*", "--cacert", str(scene.own.ca), f"https://localhost:{port}/")
    assert await run(*base, "--cert", str(pair.file)) == (0, "server1")
    assert scene.told["X-Client-Cert-Subject"] == ["CN=alice"]
    status, output = await run(*base)
    assert status != 0
    assert "alert" in output


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
async def test_openssl_sees_the_alert(scene: Scene, version: str) -> None:
    proxy = await scene.proxy()
    status, output = await run(
        *("openssl", "s_client", version, "-connect", proxy.addresses[0], "-ign_eof"), stdin=request_bytes()
    )
    assert status != 0
    assert re.search(r"alert (certificate required|handshake failure)|alert number (116|40)", output)


async def test_nobody_comes_in_without_a_certificate(scene: Scene) -> None:
    proxy = await scene.proxy()
    alert = "ALERT_CERTIFICATE_REQUIRED|ALERT_HANDSHAKE_FAILURE"
    await expect_refusal(scene, scene.anonymous(), "missing", alert, proxy)


async def test_a_certificate_of_another_ca_is_refused(scene: Scene, tmp_path: Path) -> None:
    # Of the same name: only the signature tells them apart.
    other = Authority(tmp_path / "others").issue()
    await expect_refusal(scene, scene.with_pair(other), "untrusted", "ALERT", await scene.proxy())


async def test_a_server_s_certificate_is_none_of_a_client(scene: Scene) -> None:
    pair = scene.authority.issue(purpose=ExtendedKeyUsageOID.SERVER_AUTH)
    await expect_refusal(scene, scene.with_pair(pair), "wrong_purpose", "ALERT", await scene.proxy())


async def test_an_expired_certificate_is_refused(scene: Scene) -> None:
    pair = scene.authority.issue(lasts=-DAY)
    await expect_refusal(scene, scene.with_pair(pair), "expired", "ALERT_CERTIFICATE_EXPIRED", await scene.proxy())


async def test_optional_lets_in_who_shows_none(scene: Scene) -> None:
    await scene.proxy(scene.tls(client_auth="optional"))
    assert b" 200 " in await scene.get(scene.anonymous())
    assert scene.told == {"X-Client-Cert-Verify": ["NONE"]}
    assert b" 200 " in await scene.get(scene.with_pair(scene.authority.issue()))
    assert scene.told["X-Client-Cert-Verify"] == ["SUCCESS"]


async def test_optional_refuses_who_shows_one_that_does_not_hold(scene: Scene, tmp_path: Path) -> None:
    other = Authority(tmp_path / "others").issue()
    proxy = await scene.proxy(scene.tls(client_auth="optional"))
    await expect_refusal(scene, scene.with_pair(other), "untrusted", "ALERT", proxy)


@pytest.mark.parametrize("several", [False, True], ids=["one certificate", "two"])
async def test_what_is_demanded_does_not_depend_on_the_name_asked_for(
    scene: Scene, tmp_path: Path, several: bool
) -> None:
    second = make_certificates(tmp_path / "second", "nobody.example")
    more = [{"cert": str(second.cert), "key": str(second.key)}] if several else []
    proxy = await scene.proxy(scene.tls(certificates=more))
    context = scene.anonymous()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    for sni in ("localhost", "other.example", "nobody.example"):
        with pytest.raises(ssl.SSLError):
            await scene.get(context, sni=sni)
    status, _ = await run("openssl", "s_client", "-noservername", "-connect", proxy.addresses[0], "-ign_eof")
    assert status != 0
    await eventually(lambda: refused(proxy) == {"missing": 4}, 20)
    for sni in ("other.example", "nobody.example"):
        context = scene.with_pair(scene.authority.issue())
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        assert b" 200 " in await scene.get(context, sni=sni)


# Chains and lists


async def test_a_chain_leads_over_what_the_client_sends(scene: Scene, tmp_path: Path) -> None:
    lower = Authority(tmp_path / "lower", "lower", Authority(tmp_path / "middle", "middle", scene.authority))
    proxy = await scene.proxy()
    # The client sends its own CA and not the one between.
    await expect_refusal(scene, scene.with_pair(lower.issue()), "untrusted", "ALERT", proxy)
    lowest = Authority(tmp_path / "one", "one", scene.authority)
    assert b" 200 " in await scene.get(scene.with_pair(lowest.issue("bob")))
    assert scene.told["X-Client-Cert-Issuer"] == ["CN=one"]


async def test_a_ca_between_may_be_trusted_without_its_root(scene: Scene, tmp_path: Path) -> None:
    ours = Authority(tmp_path / "ours", "ours", scene.authority)
    theirs = Authority(tmp_path / "theirs", "theirs", scene.authority)
    proxy = await scene.proxy(scene.tls(client_ca=str(ours.file)))
    await expect_refusal(scene, scene.with_pair(theirs.issue()), "untrusted", "ALERT", proxy)
    assert b" 200 " in await scene.get(scene.with_pair(ours.issue()))


async def test_a_revoked_certificate_is_refused(scene: Scene, tmp_path: Path) -> None:
    pair = scene.authority.issue()
    lists = tmp_path / "lists.pem"
    lists.write_bytes(scene.authority.revocation_list([pair]))
    proxy = await scene.proxy(scene.tls(client_crl=str(lists)))
    await expect_refusal(scene, scene.with_pair(pair), "revoked", "ALERT_CERTIFICATE_REVOKED", proxy)
    assert b" 200 " in await scene.get(scene.with_pair(scene.authority.issue()))


async def test_a_revoked_ca_takes_its_clients_along_where_all_have_lists(scene: Scene, tmp_path: Path) -> None:
    lower = Authority(tmp_path / "lower", "lower", scene.authority)
    both, lists = tmp_path / "both.pem", tmp_path / "lists.pem"
    both.write_bytes(scene.authority.pem + lower.pem)
    lists.write_bytes(scene.authority.revocation_list([lower]) + lower.revocation_list())
    proxy = await scene.proxy(scene.tls(client_ca=str(both), client_crl=str(lists)))
    await expect_refusal(scene, scene.with_pair(lower.issue()), "revoked", "ALERT_CERTIFICATE_REVOKED", proxy)


async def test_a_ca_without_a_list_vouches_for_nobody(scene: Scene, tmp_path: Path) -> None:
    lower = Authority(tmp_path / "lower", "lower", scene.authority)
    lists = tmp_path / "lists.pem"
    lists.write_bytes(scene.authority.revocation_list())
    proxy = await scene.proxy(scene.tls(client_crl=str(lists)))
    await expect_refusal(scene, scene.with_pair(lower.issue()), "crl_missing", "ALERT", proxy)


async def test_an_old_list_refuses_all_and_is_told_of(
    scene: Scene, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lists = tmp_path / "lists.pem"
    lists.write_bytes(scene.authority.revocation_list(lasts=-DAY))
    proxy = await scene.proxy(scene.tls(client_crl=str(lists)))
    pair = scene.authority.issue()
    await expect_refusal(scene, scene.with_pair(pair), "crl_expired", "ALERT", proxy)
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    # Once, for both clients.
    assert errors == [f"{lists}: a revocation list is out of date, clients are refused until it is new"]


# What clients say of themselves


@pytest.mark.parametrize("underscores", ["drop", "keep"])
@pytest.mark.parametrize("kind", ["plain", "without client_ca", "optional", "required"])
async def test_what_a_client_says_of_its_certificate_goes_nowhere(scene: Scene, kind: str, underscores: str) -> None:
    files = {"cert": str(scene.own.cert), "key": str(scene.own.key)}
    tls = {"plain": None, "without client_ca": files, "optional": scene.tls(client_auth="optional")}
    listener = {"bind": "127.0.0.1:0", "underscore_headers": underscores, "tls": tls.get(kind, scene.tls())}
    listener = {key: value for key, value in listener.items() if value is not None}
    await scene.stage.proxy(await scene.stage.server(), listener=listener)
    body = chunked(b"x", trailers="X-Client-Cert-Subject: CN=root\r\nX_Client_Cert_Verify: SUCCESS\r\n")
    request = request_bytes("POST", fields={"Transfer-Encoding": "chunked", **SPOOFED}) + body
    pair = scene.authority.issue()
    if kind == "plain":
        client = await scene.stage.connect()
        await client.send(request)
        assert (await client.response()).status == 200
    else:
        context = scene.anonymous() if kind != "required" else scene.with_pair(pair)
        assert b" 200 " in await talk(scene.stage.address, context, request)
    seen = scene.stage.servers[0].requests[-1]
    assert [field for field, _ in seen.trailers if FIELDS.match(field)] == []
    if kind == "optional":
        assert scene.told == {"X-Client-Cert-Verify": ["NONE"]}
    elif kind == "required":
        assert scene.told["X-Client-Cert-Subject"] == ["CN=alice"]
        assert all(len(values) == 1 for values in scene.told.values())
        assert len(scene.told) == 6
    else:
        assert scene.told == {}


async def test_connection_cannot_name_our_fields_away(scene: Scene) -> None:
    await scene.proxy()
    pair = scene.authority.issue()
    nominated = {"Connection": "X-Client-Cert-Subject, X-Client-Cert-Verify"}
    await scene.get(scene.with_pair(pair), nominated)
    assert scene.told["X-Client-Cert-Subject"] == ["CN=alice"]


async def test_a_trusted_front_is_believed_where_we_ask_for_none(scene: Scene) -> None:
    await scene.stage.proxy(
        await scene.stage.server(), listener={"bind": "127.0.0.1:0", "trusted_proxies": ["127.0.0.1"]}
    )
    client = await scene.stage.connect()
    await client.request(fields=SPOOFED)
    kept = {field: [value] for field, value in SPOOFED.items() if "_" not in field}
    assert scene.told == kept


async def test_a_trusted_front_is_not_believed_where_we_ask_ourselves(scene: Scene) -> None:
    await scene.proxy(scene.tls(client_auth="optional"), trusted_proxies=["127.0.0.1"])
    await scene.get(scene.anonymous(), SPOOFED)
    assert scene.told == {"X-Client-Cert-Verify": ["NONE"]}
    await scene.get(scene.with_pair(scene.authority.issue()), SPOOFED)
    assert scene.told["X-Client-Cert-Subject"] == ["CN=alice"]


async def test_two_clients_of_one_address_are_not_taken_for_each_other(scene: Scene) -> None:
    await scene.proxy()
    contexts = [scene.with_pair(scene.authority.issue(who)) for who in ("alice", "bob")]
    for _ in range(2):
        for context, who in zip(contexts, ("alice", "bob"), strict=True):
            await scene.get(context)
            assert scene.told["X-Client-Cert-Subject"] == [f"CN={who}"]


# What stands in a certificate


EVIL = ["a\r\nX-Admin: yes", "a\0b", "a\nb", "\x7f", "Jos\u00e9 \u4e2d", "\U0001f600", ' lead, "q" + # ; <>\\ ']


@pytest.mark.parametrize("common", EVIL)
async def test_no_subject_breaks_a_head(scene: Scene, common: str) -> None:
    await scene.proxy()
    pair = scene.authority.issue(name(common))
    assert b" 200 " in await scene.get(scene.with_pair(pair))
    [subject] = scene.told["X-Client-Cert-Subject"]
    assert all(" " <= char <= "~" for char in subject)
    assert scene.stage.servers[0].requests[-1].fields.get("X-Admin") is None
    # RFC 4514: a backslash and two digits are a byte, a backslash and a special character is that character.
    pattern = rb"\\([0-9A-Fa-f]{2})|\\(.)"
    raw = re.sub(pattern, lambda found: bytes.fromhex(found[1].decode()) if found[1] else found[2], subject.encode())
    assert raw.decode() == f"CN={common}"


async def test_the_certificate_itself_is_sent_if_asked_for(scene: Scene) -> None:
    await scene.proxy(scene.tls(client_cert_field=True))
    pair = scene.authority.issue()
    await scene.get(scene.with_pair(pair), SPOOFED)
    [value] = scene.told["Client-Cert"]
    assert value[0] == value[-1] == ":"
    assert base64.b64decode(value[1:-1], validate=True) == pair.der


async def test_a_certificate_too_large_for_a_head_is_refused(scene: Scene) -> None:
    proxy = await scene.proxy(scene.tls(client_cert_field=True))
    pair = scene.authority.issue(extra=bytes(20_000))
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError, ssl.SSLError)):
        await scene.get(scene.with_pair(pair))
    assert refused(proxy) == {"unreadable": 1}
    assert scene.stage.servers[0].requests == []


# Sessions


def session_of(
    address: str, context: ssl.SSLContext, session: ssl.SSLSession | None = None
) -> tuple[ssl.SSLSession, bool, bytes]:
    """One request with a blocking client: its session, whether `session` was resumed, the answer."""
    host, port = address.split(":")
    with socket.create_connection((host, int(port)), 20) as plain:
        with context.wrap_socket(plain, server_hostname="localhost", session=session) as tls:
            tls.sendall(request_bytes())
            data = b""
            while b"server1" not in data:
                more = tls.recv(65536)
                if not more:
                    break
                data += more
            assert tls.session is not None
            return tls.session, bool(tls.session_reused), data


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_resumed_session_brings_its_certificate(scene: Scene, version: ssl.TLSVersion) -> None:
    await scene.proxy()
    context = scene.with_pair(scene.authority.issue())
    context.minimum_version = context.maximum_version = version
    session, reused, _ = await asyncio.to_thread(session_of, scene.stage.address, context)
    assert not reused
    first = scene.told
    _, reused, answer = await asyncio.to_thread(session_of, scene.stage.address, context, session)
    assert reused
    assert b" 200 " in answer
    assert scene.told == first
    assert scene.told["X-Client-Cert-Subject"] == ["CN=alice"]


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_session_of_another_listener_is_no_way_in(scene: Scene, version: ssl.TLSVersion) -> None:
    files = {"cert": str(scene.own.cert), "key": str(scene.own.key)}
    listeners = [
        {"bind": "127.0.0.1:0", "tls": files},
        {"bind": "127.0.0.1:0", "tls": scene.tls(client_auth="optional")},
        {"bind": "127.0.0.1:0", "tls": scene.tls()},
    ]
    proxy = await scene.stage.proxy(await scene.stage.server(), listeners=listeners)
    context = scene.anonymous()
    context.minimum_version = context.maximum_version = version
    for lenient in proxy.addresses[:2]:
        session, _, answer = await asyncio.to_thread(session_of, lenient, context)
        assert b" 200 " in answer
        _, reused, _ = await asyncio.to_thread(session_of, lenient, context, session)
        assert reused
        with pytest.raises(ssl.SSLError):
            await asyncio.to_thread(session_of, proxy.addresses[2], context, session)
    assert proxy.listeners[2].stats.certificates_refused == {"missing": 2}
