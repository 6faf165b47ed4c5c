"""TLS to servers: what a pool's connections are made with, who has to be at the other end, and failures in words."""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Mapping

from vsproxy.config.pools import PoolConfig, PoolTls
from vsproxy.pem import fingerprint, load_authorities, load_pair
from vsproxy.tls_buffers import TlsBuffers
from vsproxy.upstream.server import Server

ALPN = ("http/1.1",)
_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
#: What OpenSSL calls an answer that is no TLS at all.
_NOT_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE"})

logger = logging.getLogger("vsproxy.tls")


class ClientTls:
    """What the connections of a pool are made with. Another one means that connections made before are of no more use.

    `mark` tells it from one made of other settings or files.
    """

    __slots__ = ("buffers", "context", "mark", "server_name")

    def __init__(self, config: PoolTls, mark: bytes, buffers: TlsBuffers) -> None:
        """Raises VsproxyError that names the file that is missing or unusable."""
        self.context = make_client_context(config)
        self.mark = mark
        self.buffers = buffers
        self.server_name = config.server_name

    def name_of(self, server: Server) -> str:
        """The name or address that the certificate of `server` has to be for. OpenSSL sends no SNI for the latter.

        Neither has a port (RFC 6066 section 3). Of a service, it is its domain: what SRV records say of targets is
        nothing that a certificate could be held against (RFC 9525 section 6.1).
        """
        if self.server_name is not None:
            return self.server_name
        name = server.name
        if name.startswith("srv:"):
            return name.split(".", 2)[2].removesuffix(".")
        host = name.rpartition(":")[0].removeprefix("[").removesuffix("]").partition("%")[0]
        return host.removesuffix(".")

    def session_for(self, server: Server) -> ssl.SSLSession | None:
        """The session to go on with; None if there is none that was begun with this."""
        kept = server.tls_session
        if not isinstance(kept, tuple) or kept[0] is not self:
            return None
        session: ssl.SSLSession = kept[1]
        return session

    def wants_session(self, server: Server, tls: ssl.SSLObject) -> bool:
        """Whether the session of a connection is to be kept for the next ones: to read one costs as much as it saves.

        So one that still served is gone on with, until half of the time is over for which it is good.
        """
        kept = self.session_for(server) if tls.session_reused else None
        return kept is None or time.time() > kept.time + kept.timeout / 2

    def keep_session(self, server: Server, tls: ssl.SSLObject) -> bool:
        """Keep the session of a connection for the next one, unless there is none yet; whether there was."""
        session = tls.session
        if session is None or not (session.has_ticket or (session.id and tls.version() == "TLSv1.2")):
            return False
        server.tls_session = (self, session)
        return True


def make_client_context(config: PoolTls) -> ssl.SSLContext:
    """The context for connections to the servers of a pool. Raises VsproxyError that names the unusable file."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = _VERSIONS[config.min_version]
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(ALPN)
    if not config.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif config.ca is not None:
        # A certificate in that file is trusted for what it is, also one that others vouch for.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        load_authorities(context, config.ca)
    else:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    if config.cert is not None:
        load_pair(context, config.cert, config.key or config.cert)
    return context


def files_of(config: PoolTls) -> list[str]:
    """The files that `config` names."""
    return [path for path in (config.ca, config.cert, config.key) if path is not None]


def load_pool_tls(pools: Mapping[str, PoolConfig], old: Mapping[str, ClientTls]) -> dict[str, ClientTls]:
    """By pool, for those with TLS. Raises VsproxyError that names the file that is missing or unusable.

    Those of `old` whose settings and files have not changed are kept, and their connections with them.
    """
    found: dict[str, ClientTls] = {}
    buffers = next((tls.buffers for tls in old.values()), None) or TlsBuffers()
    for name, pool in pools.items():
        tls = pool.tls
        if tls is None:
            continue
        mark = fingerprint(tls.model_dump_json(), files_of(tls))
        known = old.get(name)
        found[name] = known if known is not None and known.mark == mark else ClientTls(tls, mark, buffers)
    return found


def describe_failure(error: BaseException) -> str:
    """Why there is no TLS, in the words that an operator looks for."""
    if isinstance(error, ssl.SSLCertVerificationError):
        first, space, rest = error.verify_message.rstrip(".").partition(" ")
        # "Hostname mismatch", but "IP address mismatch".
        return f"certificate verify failed: {first if first.isupper() else first.lower()}{space}{rest}"
    if isinstance(error, ssl.SSLError) and error.reason:
        text = f"TLS: {error.reason.lower().replace('_', ' ')}"
        return f"{text} (does the server speak TLS there?)" if error.reason in _NOT_TLS else text
    return str(error) or type(error).__name__


def note_failure(server: Server, error: BaseException) -> None:
    """Count a connection that did not come to TLS, or was cut for it; say why, once for each reason."""
    server.tls_failures += 1
    # Should it be what the server stumbles over.
    server.tls_session = None
    reason = describe_failure(error)
    if reason != server.tls_trouble:
        server.tls_trouble = reason
        logger.warning("pool %s: no TLS with %s (%s): %s", server.pool_name, server.name, server.address, reason)
