"""Server contexts for TLS: Mozilla's "intermediate" choice, ECDHE with AEAD only."""

from __future__ import annotations

import ssl
from typing import NamedTuple

from vsproxy.config.model import TlsConfig
from vsproxy.pem import fingerprint, load_pair
from vsproxy.tls_expiry import certificate_expiry

# TLS 1.2; the suites of 1.3 are all sound and stay as OpenSSL has them. The order is the client's, who knows
# whether it has AES in hardware.
CIPHERS = ":".join(
    (
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-RSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-RSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "ECDHE-RSA-CHACHA20-POLY1305",
    )
)
ALPN = ("h2", "http/1.1")
_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def make_server_context(config: TlsConfig) -> ssl.SSLContext:
    """The context of a listener. Raises VsproxyError that names the file that is missing or unusable."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[config.min_version]
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(ALPN)
    # Of TLS 1.3: OpenSSL's second costs each handshake 7 % more, and a connection that is resumed brings a new one.
    context.num_tickets = 1
    load_pair(context, config.cert, config.key or config.cert)
    return context


class ServerTls(NamedTuple):
    """The context of a listener, what tells it from one that was made of other files, and when it expires.

    `expiry` is the end of the certificate, in seconds since 1970.
    """

    context: ssl.SSLContext
    fingerprint: bytes
    expiry: float


def load_server_tls(config: TlsConfig, old: ServerTls | None = None) -> ServerTls:
    """The TLS side of a listener. Raises VsproxyError that names the file that is missing or unusable.

    `old` is kept while neither configuration nor files have changed: session tickets are sealed with its keys.
    """
    seen = fingerprint(config.model_dump_json(), (config.cert, config.key or config.cert))
    if old is not None and seen == old.fingerprint:
        return old
    return ServerTls(make_server_context(config), seen, certificate_expiry(config.cert))
