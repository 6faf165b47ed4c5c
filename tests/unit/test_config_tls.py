"""What may be said about TLS on a listener, and how mistakes in it are told."""

from __future__ import annotations

from typing import Any

import pytest

from vsproxy.config.model import Config
from vsproxy.config.tls import PairFiles, TlsConfig
from vsproxy.errors import ConfigError

NOT_HERE = "has no place here: the order is the client's, the level that of the system"


def read(**tls: Any) -> TlsConfig:
    config = Config.model_validate({"listeners": [{"bind": "127.0.0.1:0", "tls": tls}]})
    found = config.listeners[0].tls
    assert found is not None
    return found


def mistakes(**tls: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(**tls)
    return [str(problem) for problem in caught.value.problems]


def test_the_pairs_in_their_order() -> None:
    tls = read(cert="a.pem", certificates=[{"cert": "b.pem", "key": "b.key"}, {"cert": "c.pem"}])
    assert tls.pairs == (PairFiles("a.pem", "a.pem"), PairFiles("b.pem", "b.key"), PairFiles("c.pem", "c.pem"))


@pytest.mark.parametrize(
    "ciphers",
    ["ECDHE-RSA-AES128-GCM-SHA256", "ECDHE+AESGCM:ECDHE+CHACHA20", "HIGH:!aNULL:-SHA1:+AES", "HIGH,AES CHACHA20"],
)
def test_ciphers_as_openssl_writes_them(ciphers: str) -> None:
    assert read(cert="a.pem", ciphers=ciphers).ciphers == ciphers


@pytest.mark.parametrize(
    ("ciphers", "reason"),
    [
        ("ECDHE-RSA-AES128-GCM-SHA265", 'OpenSSL has no cipher of TLS 1.2 for "ECDHE-RSA-AES128-GCM-SHA265"'),
        # By itself, OpenSSL would take the first and say nothing of the second.
        ("ECDHE-RSA-AES128-GCM-SHA256:AES256-GMC", 'OpenSSL has no cipher of TLS 1.2 for "AES256-GMC"'),
        ("HIGH:!RC5X", 'OpenSSL has no cipher of TLS 1.2 for "RC5X"'),
        ("TLS_AES_128_GCM_SHA256", 'OpenSSL has no cipher of TLS 1.2 for "TLS_AES_128_GCM_SHA256"'),
        ("HIGH:!ALL", "OpenSSL finds no cipher of TLS 1.2 in it"),
        ("HIGH:@SECLEVEL=0", f'"@SECLEVEL=0" {NOT_HERE}'),
        ("@STRENGTH", f'"@STRENGTH" {NOT_HERE}'),
        ("", "not text"),
        ("hîgh", "not text"),
    ],
)
def test_ciphers_that_openssl_would_not_take_or_would_skip(ciphers: str, reason: str) -> None:
    (mistake,) = mistakes(cert="a.pem", ciphers=ciphers)
    key = "config: listeners[0].tls.ciphers"
    assert mistake.startswith(f'{key}: found "{ciphers}" ({reason}); accepted ciphers of TLS 1.2 as')


def test_every_mistake_is_told_at_once() -> None:
    found = mistakes(
        ciphers="no", alpn=["spdy"], min_version="1.1", certificates=[{"key": "b.key"}, {"cert": "c", "kye": "d"}]
    )
    keys = {line.split(":")[1].strip() for line in found}
    assert keys == {
        "listeners[0].tls.cert", "listeners[0].tls.ciphers", "listeners[0].tls.alpn[0]",
        "listeners[0].tls.min_version", "listeners[0].tls.certificates[0].cert",
        "listeners[0].tls.certificates[1].kye",
    }  # fmt: skip


def test_alpn_offers_something() -> None:
    (mistake,) = mistakes(cert="a.pem", alpn=[])
    assert 'accepted a list, each "h2" or "http/1.1", at least one' in mistake


def test_a_certificate_stands_there_once() -> None:
    found = mistakes(cert="a.pem", certificates=[{"cert": "b.pem"}, {"cert": "a.pem"}, {"cert": "b.pem"}])
    assert [line.split("; ")[0] for line in found] == [
        'config: listeners[0].tls.certificates[1].cert: found "a.pem", which cert has already',
        'config: listeners[0].tls.certificates[2].cert: found "b.pem", which certificates[0] has already',
    ]
