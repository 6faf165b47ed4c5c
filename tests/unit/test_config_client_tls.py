"""The configuration of client certificates and HSTS: what is accepted, and what is said of mistakes."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from support.authorities import Authority
from support.certificates import Certificates, make_certificates
from vsproxy.config.check import check_file, warnings
from vsproxy.config.hsts import hsts_line
from vsproxy.config.model import Config
from vsproxy.errors import ConfigError


def read(tls: dict[str, Any]) -> Config:
    return Config.model_validate({"listeners": [{"bind": "127.0.0.1:0", "tls": {"cert": "a.pem", **tls}}]})


def mistakes(tls: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(tls)
    return [line.removeprefix("config: listeners[0].tls.") for line in str(caught.value).splitlines()]


def test_a_certificate_is_required_unless_it_is_optional() -> None:
    found = [
        read(tls).listeners[0].tls
        for tls in ({}, {"client_ca": "b"}, {"client_ca": "b", "client_auth": "required"})
    ]
    assert [tls.requires_certificate for tls in found if tls is not None] == [False, True, True]
    optional = read({"client_ca": "b", "client_auth": "optional"}).listeners[0].tls
    assert optional is not None
    assert not optional.requires_certificate


@pytest.mark.parametrize(
    ("key", "value"), [("client_auth", "optional"), ("client_crl", "c"), ("client_cert_field", True)]
)
def test_what_asks_nobody_needs_no_details(key: str, value: object) -> None:
    found = f"{key}: found {key} where no client is asked for a certificate; accepted client_ca beside it"
    assert mistakes({key: value}) == [found]


def test_lists_have_a_file_of_their_own() -> None:
    found = "client_crl: found the file of client_ca; accepted a file of its own, with revocation lists"
    assert mistakes({"client_ca": "b", "client_crl": "b"}) == [found]


@pytest.mark.parametrize(
    ("hsts", "line"),
    [
        ("1d", b"Strict-Transport-Security: max-age=86400\r\n"),
        (90, b"Strict-Transport-Security: max-age=90\r\n"),
        (
            {"max_age": "1h", "include_subdomains": True},
            b"Strict-Transport-Security: max-age=3600; includeSubDomains\r\n",
        ),
    ],
)
def test_hsts_is_a_duration_or_a_table(hsts: object, line: bytes) -> None:
    config = read({"hsts": hsts})
    tls = config.listeners[0].tls
    assert tls is not None
    assert tls.hsts is not None
    assert hsts_line(tls.hsts) == line
    assert Config.model_validate(config.model_dump()) == config


@pytest.mark.parametrize("hsts", ["soon", True, ["1d"], -1])
def test_hsts_is_nothing_else(hsts: object) -> None:
    [mistake] = mistakes({"hsts": hsts})
    assert mistake.startswith("hsts: found ")
    assert 'accepted a duration such as "365d", or a table with max_age' in mistake


def test_mistakes_in_the_table_are_named() -> None:
    assert [line.partition(":")[0] for line in mistakes({"hsts": {"maxage": 1}})] == ["hsts.max_age", "hsts.maxage"]
    assert mistakes({"hsts": {"max_age": "364d", "preload": True}}) == [
        "hsts.preload: found true without include_subdomains; accepted include_subdomains = true beside it",
        'hsts.preload: found true with a max_age of less than 365 days; accepted max_age = "365d" or more',
    ]


@pytest.fixture
def own(tmp_path: Path) -> Certificates:
    return make_certificates(tmp_path / "own")


def write(tmp_path: Path, own: Certificates, **tls: object) -> str:
    file = tmp_path / "lb.toml"
    more = "".join(f'{key} = "{value}"\n' for key, value in tls.items())
    file.write_text(f'[[listeners]]\nbind = ":0"\n[listeners.tls]\ncert = "{own.cert}"\nkey = "{own.key}"\n{more}')
    return str(file)


def test_check_opens_the_files(tmp_path: Path, own: Certificates) -> None:
    authority = Authority(tmp_path / "clients")
    lists = tmp_path / "lists.pem"
    lists.write_bytes(authority.revocation_list())
    good = check_file(write(tmp_path, own, client_ca=authority.file, client_crl=lists), {})
    assert (good.problems, warnings(good)) == ((), [])
    bad = check_file(write(tmp_path, own, client_ca=tmp_path / "none.pem", client_crl=own.cert), {})
    assert bad.config is None
    assert [str(problem).partition("listeners[0].tls.")[2] for problem in bad.problems] == [
        f'client_ca: found "{tmp_path}/none.pem" (No such file or directory); '
        "accepted a file with certificates of CAs in PEM, and nothing else",
        f'client_crl: found "{own.cert}" (CERTIFICATE in a file that may have nothing but a revocation list in it); '
        "accepted a file with revocation lists in PEM, and nothing else",
    ]


def test_check_warns_of_what_is_out_of_date(tmp_path: Path, own: Certificates) -> None:
    authority = Authority(tmp_path / "clients", lasts=timedelta(seconds=-1))
    lists = tmp_path / "lists.pem"
    lists.write_bytes(authority.revocation_list(lasts=timedelta(seconds=-1)))
    checked = check_file(write(tmp_path, own, client_ca=authority.file, client_crl=lists), {})
    texts = [str(problem) for problem in warnings(checked)]
    assert len(texts) == 2
    assert f'warning: a CA in "{authority.file}" ended on ' in texts[0]
    assert f'warning: a list in "{lists}" ended on ' in texts[1]
