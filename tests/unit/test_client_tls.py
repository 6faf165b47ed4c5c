"""What TLS to servers is made of: contexts, names, reasons in words, and which idle connections may carry a POST."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from support.tls_servers import Authority
from vsproxy.config.check import check_file
from vsproxy.config.model import Config, PoolConfig, PoolTls
from vsproxy.errors import ConfigError, VsproxyError
from vsproxy.timers import Sweep
from vsproxy.tls_buffers import TlsBuffers
from vsproxy.upstream.connect import establish
from vsproxy.upstream.http1 import UpstreamConnection
from vsproxy.upstream.keepalive import Keepalive
from vsproxy.upstream.server import Server
from vsproxy.upstream.tls import ClientTls, describe_failure, load_pool_tls, make_client_context


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca")


def pools_of(**tls: Any) -> dict[str, PoolConfig]:
    config = Config.model_validate(
        {
            "listeners": [{"bind": "127.0.0.1:0"}],
            "pools": {"main": {"servers": [{"address": "a.example:443"}], "tls": tls}},
        }
    )
    return config.pools


@pytest.mark.parametrize(
    ("name", "host", "expected"),
    [
        ("backend1:8443", "10.0.0.7", "backend1"),
        ("backend1.example.com.:443", "10.0.0.7", "backend1.example.com"),
        ("10.0.0.7:443", "10.0.0.7", "10.0.0.7"),
        ("[fd00::7]:443", "fd00::7", "fd00::7"),
        ("srv:_https._tcp.shop.example.com", "10.0.0.7", "shop.example.com"),
        ("srv:_https._tcp.example.com.", "10.0.0.7", "example.com"),
    ],
)
def test_the_name_of_a_server(name: str, host: str, expected: str) -> None:
    """Without port (RFC 6066), of a service that which was asked for."""
    server = Server("main", name, host, 443)
    assert ClientTls(PoolTls(), b"", TlsBuffers()).name_of(server) == expected
    named = ClientTls(PoolTls(server_name="other.example"), b"", TlsBuffers())
    assert named.name_of(server) == "other.example"


def test_the_defaults_verify() -> None:
    context = make_client_context(PoolTls())
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_RENEGOTIATION


def test_only_false_does_not() -> None:
    context = make_client_context(PoolTls(verify=False, min_version="1.3"))
    assert context.verify_mode == ssl.CERT_NONE
    assert not context.check_hostname
    assert context.minimum_version == ssl.TLSVersion.TLSv1_3


def test_the_own_ca_takes_the_place_of_the_systems(authority: Authority) -> None:
    assert make_client_context(PoolTls(ca=str(authority.ca))).cert_store_stats()["x509_ca"] == 1


@pytest.mark.parametrize("key", ["ca", "cert", "key"])
@pytest.mark.parametrize("content", [None, b"nothing\n"])
def test_unusable_files_are_named(authority: Authority, tmp_path: Path, key: str, content: bytes | None) -> None:
    pair = authority.issue("a.example", client=True)
    bad = tmp_path / "bad.pem"
    if content is not None:
        bad.write_bytes(content)
    files = {"ca": str(authority.ca), "cert": str(pair.cert), "key": str(pair.key)} | {key: str(bad)}
    with pytest.raises(VsproxyError, match=r"bad\.pem: "):
        load_pool_tls(pools_of(**files), {})
    file = tmp_path / "lb.toml"
    lines = "".join(f'{name} = "{path}"\n' for name, path in files.items())
    file.write_text(
        '[[listeners]]\nbind = "127.0.0.1:0"\n[pools.main]\nservers = [{ address = "10.0.0.1:443" }]\n'
        f"[pools.main.tls]\n{lines}"
    )
    (problem,) = check_file(str(file), os.environ).problems
    assert str(problem).startswith(f'{file}:{6 + list(files).index(key)}: pools.main.tls.{key}: found "{bad}"')


def test_a_key_of_another_certificate(authority: Authority) -> None:
    pair, other = authority.issue("a.example"), authority.issue("b.example", file="other")
    with pytest.raises(VsproxyError, match="does not belong to the certificate"):
        load_pool_tls(pools_of(cert=str(pair.cert), key=str(other.key)), {})


@pytest.mark.parametrize(
    ("pool", "found"),
    [
        ({"tls": {"key": "a.key"}}, "pools.main.tls.key: found a key without cert"),
        ({"tls": {"ca": "a", "verify": False}}, "pools.main.tls.ca: found a ca with verify = false"),
        ({"tls": {"server_name": "a:443"}}, 'pools.main.tls.server_name: found "a:443"'),
        ({"tls": 1}, "pools.main.tls: found 1; accepted true for the defaults, or a table with ca, cert"),
        ({"health": {"tls": True}}, "pools.main.health.tls: found true in a pool without tls"),
        ({"tls": True, "servers": [{"address": "unix:/x"}]}, "pools.main.servers[0].address: found"),
    ],
)
def test_mistakes_are_told(pool: dict[str, Any], found: str) -> None:
    servers = {"servers": [{"address": "a.example:443"}]}
    with pytest.raises(ConfigError) as error:
        Config.model_validate({"listeners": [{"bind": "127.0.0.1:0"}], "pools": {"main": servers | pool}})
    assert f"config: {found}" in str(error.value)


@pytest.mark.parametrize(("written", "there"), [(True, True), ("true", True), (False, False), ({}, True)])
def test_on_and_off(written: object, there: bool) -> None:
    pool = {"servers": [{"address": "a.example:443"}], "tls": written}
    config = Config.model_validate({"listeners": [{"bind": "127.0.0.1:0"}], "pools": {"main": pool}})
    assert (config.pools["main"].tls == PoolTls()) is there


def test_what_has_not_changed_is_kept(authority: Authority) -> None:
    first = load_pool_tls(pools_of(ca=str(authority.ca)), {})
    assert load_pool_tls(pools_of(ca=str(authority.ca)), first)["main"] is first["main"]
    other = load_pool_tls(pools_of(ca=str(authority.ca), min_version="1.3"), first)["main"]
    assert other is not first["main"]
    assert other.buffers is first["main"].buffers
    authority.ca.write_bytes(authority.ca.read_bytes() * 2)
    assert load_pool_tls(pools_of(ca=str(authority.ca)), first)["main"] is not first["main"]


def test_a_session_is_for_those_who_began_it() -> None:
    server = Server("main", "a.example:443", "10.0.0.7", 443)
    tls, other = (ClientTls(PoolTls(), b"", TlsBuffers()) for _ in range(2))
    assert tls.session_for(server) is None
    kept: Any = object()
    server.tls_session = (tls, kept)
    assert tls.session_for(server) is kept
    assert other.session_for(server) is None


def test_reasons_in_words() -> None:
    error = ssl.SSLCertVerificationError(1, "x")
    error.verify_message = "Hostname mismatch, certificate is not valid for 'a'."
    assert describe_failure(error) == "certificate verify failed: hostname mismatch, certificate is not valid for 'a'"
    error.verify_message = "IP address mismatch"
    assert describe_failure(error) == "certificate verify failed: IP address mismatch"
    broken = ssl.SSLError(1, "x")
    broken.reason = "TLSV1_ALERT_UNKNOWN_CA"
    assert describe_failure(broken) == "TLS: tlsv1 alert unknown ca"
    broken.reason = "WRONG_VERSION_NUMBER"
    assert describe_failure(broken) == "TLS: wrong version number (does the server speak TLS there?)"
    assert describe_failure(OSError("gone")) == "gone"


async def test_what_is_no_name_for_tls_is_a_failed_connect() -> None:
    """A resolver may know what no certificate can be for."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        server = Server("main", f"{'a' * 70}:{port}", "127.0.0.1", port)
        with pytest.raises(OSError, match="no name for TLS"):
            await establish(server, port, asyncio.Protocol(), ClientTls(PoolTls(), b"", TlsBuffers()), 10.0)
    assert server.tls_failures == 1


class Idle:
    """An idle connection of a trusted server through TLS, whose socket is one end of a pair."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.tls = ClientTls(PoolTls(), b"", TlsBuffers())
        self.server = Server("main", "a.example:443", "10.0.0.7", 443)
        self.server.reuse_until = 60.0
        self.keepalive = Keepalive(8, 60.0, 1000, 3600.0)
        self.keepalive.tls = self.tls
        self.connection = UpstreamConnection(self.server, Sweep(asyncio.new_event_loop()), self.tls)
        transport: Any = SimpleNamespace(
            is_closing=lambda: False, close=lambda: None, sender=SimpleNamespace(descriptor=self.ours.fileno())
        )
        self.connection.transport = transport
        self.server.idle.append(self.connection)


@pytest.fixture
def idle() -> Iterator[Idle]:
    idle = Idle()
    yield idle
    idle.ours.close()
    idle.theirs.close()


def test_a_post_takes_a_connection_on_which_nothing_has_come(idle: Idle) -> None:
    assert idle.keepalive.take(idle.server, 1.0, False) is idle.connection


@pytest.mark.parametrize("end", [True, False])
def test_a_post_does_not_take_one_on_which_something_has(idle: Idle, end: bool) -> None:
    """It may be a session ticket, so it stays, and a GET may have it; nothing is held against the server."""
    if end:
        idle.theirs.shutdown(socket.SHUT_WR)
    else:
        idle.theirs.send(b"\x17\x03\x03\x00\x10" + bytes(16))
    assert idle.keepalive.take(idle.server, 1.0, False) is None
    assert idle.server.idle == [idle.connection]
    assert idle.server.reuse_streak >= 0
    assert idle.keepalive.take(idle.server, 1.0, True) is idle.connection


def test_one_that_was_made_otherwise_is_not_kept(idle: Idle) -> None:
    idle.server.idle.clear()
    idle.connection.reusable = True
    idle.connection.requests = 1
    for tls in (ClientTls(PoolTls(), b"", TlsBuffers()), None):
        idle.keepalive.tls = tls
        idle.keepalive.put(idle.connection, 1.0)
        assert idle.server.idle == []
    idle.keepalive.tls = idle.tls
    idle.keepalive.put(idle.connection, 1.0)
    assert idle.server.idle == [idle.connection]
