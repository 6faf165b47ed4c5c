"""The way of one connection to a server into TLS: the gate of its `TlsTransport`."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

from vsproxy.tls_transport import TlsTransport
from vsproxy.upstream.server import Server
from vsproxy.upstream.tls import ClientTls, note_failure

#: In so many answers a session ticket is looked for: it may come after the first, or never.
LOOKS = 2


class Handshake:
    """Makes `protocol` the one inside, once it is over. `done` has the result: None, or the OSError that there was.

    Needs a running loop. With `counted`, it goes on with the session that was kept with `server`, and what comes of it
    is counted, said and kept there.
    """

    __slots__ = ("_counted", "_looks", "_protocol", "_server", "_tls", "arriving", "done", "opened")

    def __init__(self, tls: ClientTls, server: Server, protocol: Any, counted: bool) -> None:
        self.arriving = tls.buffers.arriving
        self.opened = tls.buffers.opened
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tls = tls
        self._server = server
        self._protocol: Any = protocol
        self._counted = counted
        self._looks = LOOKS

    def overdue(self) -> None:
        """It has taken too long."""
        if self._counted:
            note_failure(self._server, TimeoutError("TLS: the server takes too long for the handshake"))

    # What the transport reports

    def begun(self, transport: TlsTransport) -> None:
        """The connection stands: we speak first."""
        session = self._tls.session_for(self._server) if self._counted else None
        try:
            transport.speak_first(self._tls.name_of(self._server), session)
        except ValueError as error:
            # What is no name for TLS; the configuration lets some through that only a resolver may know.
            transport.error = OSError(f"no name for TLS: {error}")
            transport.abort()

    def passed(self, transport: TlsTransport) -> Any:
        """The handshake is over: the protocol that goes on."""
        server = self._server
        protocol, self._protocol = self._protocol, None
        if self._counted:
            server.tls_handshakes += 1
            server.tls_resumed += bool(transport.tls.session_reused)
            server.tls_trouble = ""
            transport.watched = self._tls.wants_session(server, transport.tls)
        if not self.done.done():
            self.done.set_result(None)
        return protocol

    def answered(self, transport: TlsTransport) -> None:
        """The server has sent something: its session ticket came before, if it gives one at all."""
        self._looks -= 1
        transport.watched = not self._tls.keep_session(self._server, transport.tls) and self._looks > 0

    def broken(self, error: ssl.SSLError) -> None:
        """The server says, after its handshake, that it will not have us; or it has broken the protocol."""
        if self._counted:
            note_failure(self._server, error)

    def failed(self, transport: TlsTransport, error: ssl.SSLError | None) -> None:
        """It has failed, or was too large (None)."""
        transport.error = error or ConnectionAbortedError("TLS: a handshake without end")
        if error is None:
            transport.abort()
        else:
            # After the alert that says why.
            transport.raw.close()

    def cut(self, reason: str) -> None:
        """The connection is cut for what has come through TLS, or has not."""
        if self._counted:
            note_failure(self._server, ConnectionAbortedError(f"TLS: cut for {reason.replace('_', ' ')}"))

    def lost(self, transport: TlsTransport, shaking: bool) -> None:
        """The connection is gone before it passed."""
        self._protocol = None
        if self.done.done():
            return
        error = transport.error or ConnectionResetError("TLS: the server closed the connection in the handshake")
        if self._counted:
            note_failure(self._server, error)
        self.done.set_exception(error)
