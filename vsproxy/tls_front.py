"""The context with which connections of a listener begin, kept over all changes of certificates.

OpenSSL seals session tickets with the keys of the context that a connection began with, and `ssl` cannot give these
keys to another one. So that one is kept, and the certificate comes from another context, which the callback for the
name (SNI) puts in its place. One that was made before a fork resumes the sessions of all processes.
"""

from __future__ import annotations

import ssl
from typing import NamedTuple

from vsproxy.config.tls import TlsConfig
from vsproxy.errors import VsproxyError
from vsproxy.tls import CertificateTable, Group, apply_settings, session_identity
from vsproxy.tls_clients import clients_of, read_listener
from vsproxy.tls_pair import Pairs, load


class Front:
    """One such context. It has nothing but what `configure` and `use` set anew, so another listener may have it
    later."""

    __slots__ = ("_kinds", "_loaded", "_table", "context", "identity")

    def __init__(self) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        #: Of the settings that it has; empty before the first.
        self.identity = b""
        self._table: CertificateTable | None = None
        self._loaded: Group | None = None
        # Of the certificates that were ever put in: they can be replaced, but not be taken out.
        self._kinds: frozenset[str] = frozenset()

    def configure(self, config: TlsConfig, pairs: Pairs) -> None:
        """Take the settings of `config`, whose files are those of `pairs`."""
        apply_settings(self.context, config, clients_of(config, pairs))
        self.identity = session_identity(config, pairs)

    def use(self, table: CertificateTable) -> None:
        """Serve those who come from now on by `table`."""
        self._table = table
        # Without a choice there need not be a callback, which is 2 % of a handshake. Who may vouch for clients is put
        # into no front, since it cannot be taken out again.
        chosen = table.only is None or table.clients is not None or not self._has(table.only)
        self.context.sni_callback = self._choose if chosen else None

    def _has(self, group: Group) -> bool:
        """Whether the context itself has exactly this group, now."""
        kinds = frozenset(pair.kind for pair in group)
        if self._loaded == group:
            return True
        if not self._kinds <= kinds:
            return False
        self._kinds = kinds
        self._loaded = None
        try:
            for pair in group:
                load(self.context, pair)
        except (OSError, VsproxyError):
            # Descriptors are short. The table has what is needed.
            return False
        self._loaded = group
        return True

    def _choose(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        """ssl: a client asks for `name`."""
        assert self._table is not None
        connection.context = self._table.find(name)


class ServerTls(NamedTuple):
    """The TLS side of a listener: where its connections begin, and which certificates they get."""

    front: Front
    table: CertificateTable


def make_tls(
    config: TlsConfig, pairs: Pairs, front: Front | None = None, old: ServerTls | None = None
) -> ServerTls:
    """The TLS side of a listener, whose `front` is used by nobody else; `old` is what it has.

    Without a `front` it keeps the one that it has as long as its sessions may be resumed. Nothing of what is in use
    is changed before `front.use(table)`. Raises VsproxyError or ssl.SSLError if something is short.
    """
    identity = session_identity(config, pairs)
    if old is not None and front in (None, old.front) and old.front.identity == identity:
        front = old.front
    else:
        if front is None or (old is not None and front is old.front):
            front = Front()
        front.configure(config, pairs)
    if old is not None and front is old.front and _is_same(old.table, config, pairs):
        return old
    return ServerTls(front, CertificateTable(config, pairs, old.table if old is not None else None))


def _is_same(table: CertificateTable, config: TlsConfig, pairs: Pairs) -> bool:
    return table.config == config and all(pair == pairs[files] for files, pair in table.made_of.items())


def load_tls(config: TlsConfig) -> ServerTls:
    """The TLS side of a listener that stands alone. Raises VsproxyError that names the file that is unusable."""
    return make_tls(config, read_listener(config))
