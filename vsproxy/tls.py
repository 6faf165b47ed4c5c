"""Contexts for TLS on listeners: one for each group of certificates, and which of them a name gets."""

from __future__ import annotations

import hashlib
import ssl

from vsproxy.config.tls import TlsConfig
from vsproxy.tls_clients import ClientCheck, clients_of
from vsproxy.tls_pair import Pair, Pairs, load

_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
#: What may change without making sessions of before unacceptable.
_NOT_OF_SESSIONS = {"cert", "key", "certificates", "client_cert_field", "hsts"}
#: Certificates with keys of different kinds, of which a client gets the one that it can use.
Group = tuple[Pair, ...]


def apply_settings(context: ssl.SSLContext, config: TlsConfig, clients: ClientCheck | None) -> None:
    """Give `context` everything that `config` says but the certificates; whatever it had before is replaced.

    So nothing may stand here that only adds to a front that another listener may get, as authorities do.

    OpenSSL asks partly the front context and partly the one that was chosen by name: versions, options, tickets and
    whether a client needs a certificate are copied at the beginning of a connection; ciphers, ALPN, certificates and
    who may vouch for a client are looked up when they are needed. So both get all of it.
    """
    context.minimum_version = _VERSIONS[config.min_version]
    context.set_ciphers(config.ciphers)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    # The order is the client's, who knows whether it has AES in hardware.
    context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(config.alpn)
    # Of TLS 1.3: OpenSSL's second costs each handshake 7 % more, and a connection that is resumed brings a new one.
    context.num_tickets = 1
    if clients is not None:
        clients.demand(context)
    else:
        context.verify_mode = ssl.CERT_NONE
        context.verify_flags = ssl.VerifyFlags.VERIFY_X509_TRUSTED_FIRST


def session_identity(config: TlsConfig, pairs: Pairs) -> bytes:
    """What has to be the same for a session of before to be resumed: a client must not get past what is new."""
    digest = hashlib.sha256(config.model_dump_json(exclude=_NOT_OF_SESSIONS).encode())
    if config.client_files is not None:
        digest.update(pairs[config.client_files].fingerprint)
    return digest.digest()


class CertificateTable:
    """The certificates of one listener, and the context for each name. Frozen: a new pair makes a new table.

    What `old` has of the same groups, under the same settings, is used again. Raises ssl.SSLError or VsproxyError
    if a context cannot be made, which of pairs that were judged means that something is short.
    """

    __slots__ = (
        "_below",
        "_contexts",
        "_default",
        "_exact",
        "clients",
        "config",
        "identity",
        "made_of",
        "only",
        "pairs",
    )

    def __init__(self, config: TlsConfig, pairs: Pairs, old: CertificateTable | None = None) -> None:
        self.config = config
        self.pairs = {files: pairs[files] for files in config.pairs}
        #: The same with what says who may come in.
        self.made_of = dict(self.pairs)
        if config.client_files is not None:
            self.made_of[config.client_files] = pairs[config.client_files]
        self.identity = session_identity(config, pairs)
        #: None: clients are not asked for certificates.
        self.clients = clients_of(config, pairs)
        reusable = old is not None and old.identity == self.identity
        self._contexts: dict[Group, ssl.SSLContext] = {}
        known = old._contexts if old is not None and reusable else {}
        groups = _groups(tuple(self.pairs.values()))
        default = _default_group(tuple(self.pairs.values()))
        for group in (default, *groups.values()):
            if group not in self._contexts:
                self._contexts[group] = known.get(group) or _make_context(config, group, self.clients)
        #: The group of all names, None if there are several.
        self.only = default if len(self._contexts) == 1 else None
        self._default = self._contexts[default]
        self._exact = {name: self._contexts[group] for name, group in groups.items() if "*" not in name}
        self._below = {
            name.removeprefix("*."): self._contexts[group]
            for name, group in groups.items()
            if name.startswith("*.")
        }

    @property
    def expiry(self) -> float:
        """When the first of the certificates expires, in seconds since 1970."""
        return min(pair.expiry for pair in self.pairs.values())

    def find(self, name: str | None) -> ssl.SSLContext:
        """The context for the name that a client asks for, None if it asks for none."""
        if name is None:
            return self._default
        name = name.lower().removesuffix(".")
        found = self._exact.get(name)
        if found is None:
            label, _, rest = name.partition(".")
            found = self._below.get(rest) if label else None
        return found if found is not None else self._default


def _groups(pairs: Group) -> dict[str, Group]:
    """By name: the pairs for it, the first of each kind of key."""
    found: dict[str, dict[str, Pair]] = {}
    for pair in pairs:
        for name in pair.names:
            found.setdefault(name, {}).setdefault(pair.kind, pair)
    return {name: tuple(kinds.values()) for name, kinds in found.items()}


def _default_group(pairs: Group) -> Group:
    """The first pair, with those of other kinds that are for all of its names."""
    first = pairs[0]
    kinds = {first.kind: first}
    for pair in pairs[1:]:
        if first.names and pair.names >= first.names:
            kinds.setdefault(pair.kind, pair)
    return tuple(kinds.values())


def _make_context(config: TlsConfig, group: Group, clients: ClientCheck | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    apply_settings(context, config, clients)
    if clients is not None:
        clients.trust(context)
    for pair in group:
        load(context, pair)
    return context
