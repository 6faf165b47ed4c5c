"""TLS contexts for listeners."""

from __future__ import annotations

import ssl

from vsproxy.config.model import TlsConfig
from vsproxy.errors import VsproxyError

#: Mozilla's "intermediate" profile for TLS 1.2; TLS 1.3 brings its own.
CIPHERS = (
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
)
MIN_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def make_server_context(config: TlsConfig) -> ssl.SSLContext:
    """A context with the listener's certificate. Raises `VsproxyError` that names the file."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = MIN_VERSIONS[config.min_version]
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(config.cert, config.key)
    except OSError as error:
        # ssl.SSLError is one of them.
        raise VsproxyError(f"cannot use certificate {config.cert} with key {config.key}: {error}") from error
    return context
