"""Certificates of clients: the files that say who may come in, and what is said of a session that is resumed."""

from __future__ import annotations

import ssl
from datetime import timedelta
from pathlib import Path

import pytest

from support.authorities import DAY, Authority, Pair
from support.certificates import make_certificates
from vsproxy.client_certificate import NO_CERTIFICATE, identify, printable
from vsproxy.config.tls import TlsConfig
from vsproxy.errors import VsproxyError
from vsproxy.tls import apply_settings
from vsproxy.tls_clients import ClientCheck, clients_of, read_clients, read_listener
from vsproxy.tls_front import load_tls, make_tls


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


class Finished:
    """The other end of a handshake: a client that has shown `der`."""

    def __init__(self, der: bytes | None) -> None:
        self.der = der

    def getpeercert(self, binary_form: bool) -> bytes | None:
        assert binary_form
        return self.der


def check(authority: Authority, **tls: object) -> ClientCheck:
    config = TlsConfig(**{"cert": "unused", "client_ca": str(authority.file), **tls})  # type: ignore[arg-type]
    assert config.client_files is not None
    return ClientCheck(config, read_clients(config.client_files))


def judged(clients: ClientCheck, pair: Pair | None) -> tuple[str, bytes]:
    return tuple(clients.judge(Finished(pair.der if pair is not None else None)))  # type: ignore[arg-type, return-value]


def test_a_session_without_a_certificate_is_no_way_in(authority: Authority) -> None:
    assert judged(check(authority), None) == ("missing", NO_CERTIFICATE)
    assert judged(check(authority, client_auth="optional"), None) == ("", NO_CERTIFICATE)


def test_a_session_ends_with_its_certificate(authority: Authority) -> None:
    clients = check(authority)
    assert judged(clients, authority.issue())[0] == ""
    ended = authority.issue(lasts=timedelta(seconds=-1))
    assert judged(clients, ended)[0] == "expired"
    # What is remembered of it is judged anew.
    assert judged(clients, ended)[0] == "expired"


def test_a_session_ends_with_the_list_that_it_was_checked_against(authority: Authority, tmp_path: Path) -> None:
    lists = tmp_path / "lists.pem"
    pair = authority.issue()
    lists.write_bytes(authority.revocation_list())
    assert judged(check(authority, client_crl=str(lists)), pair)[0] == ""
    lists.write_bytes(authority.revocation_list() + authority.revocation_list(lasts=timedelta(seconds=-1)))
    assert judged(check(authority, client_crl=str(lists)), pair) == ("crl_expired", b"")


def test_what_cannot_be_read_does_not_come_in(authority: Authority) -> None:
    clients = check(authority)
    # The version 3 is written as 2; there is no 7.
    unknown = authority.issue().der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x06", 1)
    for der in (b"\x30\x00", b"", unknown):
        assert clients.judge(Finished(der)) == ("unreadable", b"")  # type: ignore[arg-type]


def test_as_many_are_remembered_as_is_bounded(authority: Authority) -> None:
    clients = check(authority)
    pair = authority.issue()
    first = judged(clients, pair)
    for number in range(70):
        other = authority.issue(f"client {number}")
        assert f"CN=client {number}\r\n".encode() in judged(clients, other)[1]
    assert judged(clients, pair) == first


def test_lines_are_bounded(authority: Authority) -> None:
    with pytest.raises(ValueError, match="more than fits"):
        identify(authority.issue(extra=bytes(20_000)).der, True)
    assert len(identify(authority.issue(extra=bytes(20_000)).der, False).lines) < 1000


@pytest.mark.parametrize("char", ["\r", "\n", "\0", "\x7f", "\x80", "\u00e9", "\ud800", "\U0010ffff"])
def test_printable_leaves_printable_ascii(char: str) -> None:
    text = printable(f"CN=a{char}b")
    assert text.startswith("CN=a\\")
    assert text.endswith("b")
    assert all(" " <= found <= "~" for found in text)


def test_flags_follow_the_lists(authority: Authority, tmp_path: Path) -> None:
    lower = Authority(tmp_path / "lower", "lower", authority)
    both, lists = tmp_path / "both.pem", tmp_path / "lists.pem"
    both.write_bytes(authority.pem + lower.pem)
    chain = ssl.VerifyFlags.VERIFY_CRL_CHECK_CHAIN
    leaf = ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
    partial = ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN

    def flags(authorities: Path, content: bytes) -> ssl.VerifyFlags:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        lists.write_bytes(content)
        check(authority, client_ca=str(authorities), client_crl=str(lists) if content else None).demand(context)
        return context.verify_flags

    assert flags(both, b"") & (chain | partial) == 0
    assert flags(both, authority.revocation_list()) & chain == leaf
    assert flags(both, authority.revocation_list() + lower.revocation_list()) & chain == chain
    assert flags(lower.file, b"") & partial == partial


def test_asking_no_more_takes_everything_back(authority: Authority, tmp_path: Path) -> None:
    """A front context may have served another listener before."""
    config = make_certificates(tmp_path / "own").tls
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    before = context.verify_flags
    lists = tmp_path / "lists.pem"
    lists.write_bytes(authority.revocation_list())
    apply_settings(context, config, check(authority, client_crl=str(lists)))
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.verify_flags != before
    apply_settings(context, config, check(authority, client_auth="optional"))
    assert context.verify_mode is ssl.CERT_OPTIONAL
    apply_settings(context, config, None)
    assert (context.verify_mode, context.verify_flags) == (ssl.CERT_NONE, before)


@pytest.mark.parametrize("key", ["client_ca", "client_crl"])
def test_changed_files_make_a_new_front(authority: Authority, tmp_path: Path, key: str) -> None:
    """With new keys for tickets: whoever was let in by the old files has to be looked at again."""
    own = make_certificates(tmp_path / "own")
    lists = tmp_path / "lists.pem"
    lists.write_bytes(authority.revocation_list())
    config = TlsConfig(
        cert=str(own.cert), key=str(own.key), client_ca=str(authority.file), client_crl=str(lists)
    )
    first = load_tls(config)
    assert make_tls(config, read_listener(config), None, first) is first
    if key == "client_ca":
        authority.file.write_bytes(authority.pem + Authority(tmp_path / "more", "more").pem)
    else:
        lists.write_bytes(authority.revocation_list([authority.issue()]))
    changed = make_tls(config, read_listener(config), None, first)
    assert changed.front is not first.front
    assert changed.front.context is not first.front.context


def test_a_new_certificate_of_the_server_s_keeps_the_front(authority: Authority, tmp_path: Path) -> None:
    own = make_certificates(tmp_path / "own")
    config = TlsConfig(cert=str(own.cert), key=str(own.key), client_ca=str(authority.file))
    first = load_tls(config)
    other = make_certificates(tmp_path / "other")
    own.cert.write_bytes(other.cert.read_bytes())
    own.key.write_bytes(other.key.read_bytes())
    renewed = make_tls(config, read_listener(config), None, first)
    assert renewed.front is first.front
    assert renewed.table is not first.table
    assert clients_of(config, renewed.table.made_of) is not None


BAD = {
    "missing": (None, "No such file"),
    "empty": (b"", "no {what} in PEM form"),
    "nonsense": (b"-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n", "cannot be read"),
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize(
    ("key", "label", "what"),
    [("client_ca", "CERTIFICATE", "certificate"), ("client_crl", "X509 CRL", "revocation list")],
)
def test_unusable_files_are_named(
    authority: Authority, tmp_path: Path, key: str, label: str, what: str, kind: str
) -> None:
    content, message = BAD[kind]
    file = tmp_path / "bad.pem"
    if content is not None:
        file.write_bytes(content.replace(b"{label}", label.encode()))
    with pytest.raises(VsproxyError) as caught:
        check(authority, **{key: str(file)})
    assert str(caught.value).startswith(f"{file}: ")
    assert message.replace("{what}", what) in str(caught.value)


def test_a_certificate_among_lists_is_not_trusted_unseen(authority: Authority, tmp_path: Path) -> None:
    """OpenSSL would take it for one more CA."""
    lists = tmp_path / "lists.pem"
    lists.write_bytes(authority.revocation_list() + Authority(tmp_path / "other").pem)
    with pytest.raises(VsproxyError, match="CERTIFICATE in a file that may have nothing but a revocation list"):
        check(authority, client_crl=str(lists))
    both = tmp_path / "both.pem"
    both.write_bytes(authority.pem + authority.revocation_list())
    with pytest.raises(VsproxyError, match="X509 CRL in a file"):
        check(authority, client_ca=str(both))


def test_the_end_of_the_lists_is_known(authority: Authority, tmp_path: Path) -> None:
    lists = tmp_path / "lists.pem"
    lists.write_bytes(authority.revocation_list(lasts=DAY))
    clients = check(authority, client_crl=str(lists))
    assert clients.crl_expiry is not None
    assert check(authority).crl_expiry is None
