"""Who is on the way into TLS: how long that may take, what became of it, and plain HTTP that came by mistake.

A TLS library answers plain HTTP with a closed connection, which tells nobody what is wrong. So the first byte
is looked at before TLS begins.
"""

from __future__ import annotations

import asyncio
import logging
import ssl

from vsproxy.listener_stats import ListenerStats
from vsproxy.tls_buffers import TlsBuffers
from vsproxy.tls_clients import CRL_EXPIRED, ClientCheck, refusal
from vsproxy.tls_transport import TlsTransport

LINGER = 1.0
#: Seconds between two messages about the same.
COMPLAINT_INTERVAL = 60.0
_BODY = b"This port speaks HTTPS, and the request came as plain HTTP. Use https:// in the address.\n"
_ANSWER = (
    b"HTTP/1.1 400 Bad Request\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n"
    b"Content-Length: " + str(len(_BODY)).encode() + b"\r\n"
    b"Connection: close\r\n"
    b"\r\n" + _BODY
)

logger = logging.getLogger(__name__)


class TlsGate:
    """The handshakes of one listener. Each may take `timeout` seconds, from the accept on.

    One timer watches them all: since each has as long as the others, the first to begin is the first that is due.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, stats: ListenerStats, timeout: float) -> None:
        self._loop = loop
        self._stats = stats
        self._timeout = timeout
        buffers = TlsBuffers()
        self.arriving = buffers.arriving
        self.opened = buffers.opened
        self._begun: dict[TlsTransport, float] = {}
        self._told: dict[TlsTransport, asyncio.TimerHandle] = {}
        self._timer: asyncio.TimerHandle | None = None
        # When it was last said that a revocation list is out of date, which each client would be a reason for.
        self._complained = -COMPLAINT_INTERVAL

    def set_timeout(self, timeout: float) -> None:
        """From now on, a handshake may take `timeout` seconds, those that have begun included."""
        longer, self._timeout = timeout - self._timeout, timeout
        if longer == 0.0:
            return
        for client in self._begun:
            self._begun[client] += longer
        if self._timer is not None:
            self._timer.cancel()
            self._on_timer()

    def abort(self) -> None:
        """Cut off all that have not passed."""
        for client in (*self._begun, *self._told):
            client.abort()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # What a client's transport reports

    def begun(self, client: TlsTransport) -> None:
        """A client has come; `passed`, `failed`, `refused` or `lost` follows."""
        deadline = self._loop.time() + self._timeout
        self._begun[client] = deadline
        if self._timer is None:
            self._timer = self._loop.call_at(deadline, self._on_timer)

    def passed(self, client: TlsTransport) -> asyncio.BaseProtocol | None:
        """The handshake is over: the protocol that goes on. None: the client does not come in, and `lost` follows."""
        del self._begun[client]
        self._stats.handshakes += 1
        if client.clients is not None:
            verdict = client.clients.judge(client.tls)
            if verdict.refused:
                self._refuse_certificate(client.clients, verdict.refused)
                return None
            client.client_cert = verdict.lines
        protocol: asyncio.BaseProtocol
        if client.tls.selected_alpn_protocol() == "h2":
            protocol = client.offer(self._stats, -1, b"", http2=True)
        else:
            protocol = client.offer(self._stats, -1, b"")
        return protocol

    def failed(self, client: TlsTransport, error: ssl.SSLError | None) -> None:
        """The handshake has failed, and the client was told why, or was too large (None); `lost` follows."""
        del self._begun[client]
        self._stats.tls_failures += 1
        logger.debug("no TLS: %s", error or "a handshake without end")
        if error is None:
            self._stats.count_cut("handshake_too_large")
            client.abort()
            return
        reason = refusal(error)
        if reason and client.clients is not None:
            self._refuse_certificate(client.clients, reason)
        self._see_off(client)

    def _refuse_certificate(self, clients: ClientCheck, reason: str) -> None:
        self._stats.count_certificate(reason)
        logger.debug("client certificate refused: %s", reason)
        now = self._loop.time()
        if reason == CRL_EXPIRED and now - self._complained >= COMPLAINT_INTERVAL:
            self._complained = now
            logger.error("%s: a revocation list is out of date, clients are refused until it is new", clients.crl)

    def cut(self, reason: str) -> None:
        """A connection is cut that had passed."""
        self._stats.count_cut(reason)

    def broken(self, error: ssl.SSLError) -> None:
        """A client that had passed has broken the rules, or was not content with us."""
        reason = error.reason or ""
        if reason == "RECORD_TOO_SMALL":
            self.cut("empty_records")
        else:
            self.cut("client_alert" if "_ALERT_" in reason else "bad_record")

    def refused(self, client: TlsTransport, data: bytes) -> None:
        """The client does not speak TLS; `lost` follows."""
        del self._begun[client]
        if not data[:1].isalpha():
            client.raw.close()
            return
        self._stats.plain_on_tls += 1
        client.raw.write(_ANSWER)
        self._see_off(client)

    def _see_off(self, client: TlsTransport) -> None:
        """Closing on unread bytes would reset away what we have said, so what still comes is read for a while."""
        self._told[client] = self._loop.call_later(LINGER, client.abort)
        if client.raw.can_write_eof():
            client.raw.write_eof()

    def lost(self, client: TlsTransport, shaking: bool) -> None:
        """The client is gone before it passed; `shaking` in the middle of its handshake."""
        if self._begun.pop(client, None) is not None and shaking:
            self._stats.tls_failures += 1
            logger.debug("no TLS: the client left")
        timer = self._told.pop(client, None)
        if timer is not None:
            timer.cancel()
        self._stats.refused()

    # Deadlines

    def _on_timer(self) -> None:
        self._timer = None
        now = self._loop.time()
        for client, deadline in tuple(self._begun.items()):
            if deadline > now:
                self._timer = self._loop.call_at(deadline, self._on_timer)
                return
            del self._begun[client]
            self._stats.tls_failures += 1
            self._stats.count_cut("handshake_timeout")
            client.abort()
