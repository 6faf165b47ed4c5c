"""The part of the configuration that says how listeners speak TLS."""

from __future__ import annotations

import re
import ssl
from typing import Annotated, Literal, NamedTuple

from pydantic import BeforeValidator, Field

from vsproxy.config.hsts import Hsts
from vsproxy.config.pools import Section
from vsproxy.config.types import Accepts, FileName, Flag

#: Of TLS 1.2: Mozilla's "intermediate" choice, ECDHE with AEAD only. Those of 1.3 are all sound, and stay as OpenSSL
#: has them.
DEFAULT_CIPHERS = ":".join(
    (
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-RSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-RSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "ECDHE-RSA-CHACHA20-POLY1305",
    )
)
AlpnProtocol = Literal["h2", "http/1.1"]
#: The one place that says what a listener speaks unless it is told otherwise.
DEFAULT_ALPN: tuple[AlpnProtocol, ...] = ("h2", "http/1.1")

_SEPARATORS = re.compile(r"[:, ]+")


def _ciphers(value: object) -> str:
    """A list that OpenSSL takes, of which it knows every part: by itself, it skips what it does not know."""
    if not isinstance(value, str) or not value or not value.isascii() or "\0" in value:
        raise ValueError("not text")
    for part in _SEPARATORS.split(value):
        name = part.lstrip("!-+")
        if name.startswith("@"):
            # A level would be one for certificates as well, which are judged before anybody knows where they are used.
            raise ValueError(f'"{name}" has no place here: the order is the client\'s, the level that of the system')
        if name and not _selects(name):
            raise ValueError(f'OpenSSL has no cipher of TLS 1.2 for "{name}"')
    if not _selects(value):
        raise ValueError("OpenSSL finds no cipher of TLS 1.2 in it")
    return value


def _selects(ciphers: str) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).set_ciphers(ciphers)
    except ssl.SSLError:
        return False
    return True


Ciphers = Annotated[
    str,
    BeforeValidator(_ciphers),
    Accepts(
        'ciphers of TLS 1.2 as `openssl ciphers` lists them, such as "ECDHE+AESGCM:ECDHE+CHACHA20"',
        lambda value: f'"{value}"',
    ),
]


class PairFiles(NamedTuple):
    """The files of a certificate chain and of its key, which may be one."""

    cert: str
    key: str


class CertificateConfig(Section):
    """One more certificate of a listener, for the names that are in it."""

    cert: FileName = Field(description="File with the certificate chain (PEM), the own certificate first.")
    key: FileName | None = Field(
        default=None, description="File with the private key, PEM. Default: the key is in the file of `cert`."
    )

    @property
    def files(self) -> PairFiles:
        """The files of this pair."""
        return PairFiles(self.cert, self.key or self.cert)


class TlsConfig(CertificateConfig):
    """TLS on a listener.

    Certificates and keys are looked at every second, and a new pair is for the connections that come from then on.
    """

    certificates: tuple[CertificateConfig, ...] = Field(
        default=(),
        description=(
            "More certificates. A client gets the one for the name that it asks for (SNI): by the whole name, then by "
            "a wildcard, which stands for one label; else, or without a name, that of `cert`. Of two for the same "
            "names, with keys of different types, it gets what it can use."
        ),
    )
    min_version: Literal["1.2", "1.3"] = Field(default="1.2", description="Oldest TLS version accepted.")
    ciphers: Ciphers = Field(
        default=DEFAULT_CIPHERS,
        description="Ciphers of TLS 1.2; of those, the client's first choice is taken. TLS 1.3 has its own.",
    )
    alpn: tuple[AlpnProtocol, ...] = Field(
        default=DEFAULT_ALPN,
        min_length=1,
        description="Protocols that are offered (ALPN); of those that the client knows, the first is taken.",
    )

    client_ca: FileName | None = Field(
        default=None,
        description=(
            "File (PEM) with the certificates of those who vouch for clients: ask clients for a certificate, and let "
            "in only whose chain leads here. Default: clients are not asked."
        ),
    )
    client_auth: Literal["required", "optional"] | None = Field(
        default=None,
        description=(
            "`required`: nobody comes in without a certificate. `optional`: who shows none comes in, who shows one "
            'that does not hold does not. Default: "required", where there is `client_ca`.'
        ),
    )
    client_crl: FileName | None = Field(
        default=None,
        description=(
            "File (PEM) with revocation lists: one of each CA that issues certificates of clients. If there is one of "
            "every CA in `client_ca`, the certificates of CAs are looked up too. Once a list is past its next update, "
            "its clients are refused."
        ),
    )
    client_cert_field: Flag = Field(
        default=False,
        description="Send servers the client's certificate as a whole too, in the field `Client-Cert` (RFC 9440).",
    )
    hsts: Hsts | None = Field(
        default=None,
        description=(
            "Add Strict-Transport-Security to answers that have none: a duration, or the table below. Default: no."
        ),
    )

    @property
    def requires_certificate(self) -> bool:
        """Whether nobody comes in without a certificate."""
        return self.client_ca is not None and self.client_auth != "optional"

    @property
    def client_files(self) -> PairFiles | None:
        """The files with CAs and revocation lists, of which the first stands for both if there are no lists. None:
        clients are not asked."""
        return PairFiles(self.client_ca, self.client_crl or self.client_ca) if self.client_ca is not None else None

    @property
    def pairs(self) -> tuple[PairFiles, ...]:
        """All pairs; the first is for those who ask for none of the names."""
        return (self.files, *(pair.files for pair in self.certificates))
