# cython: annotation_typing=False
"""What is counted on the side of the clients, and the descriptors that they hold."""

from __future__ import annotations

from collections.abc import Callable

from vsproxy.descriptors import Descriptors


class ListenerStats:
    """The counts of one listener, and how a connection says that it has come and gone.

    The downstream connection calls `opened` in connection_made and `closed` in connection_lost, once each.
    """

    __slots__ = (
        "_descriptors",
        "_on_release",
        "accepted",
        "active",
        "bad_requests",
        "certificates_refused",
        "handshakes",
        "http2_connections",
        "http2_events",
        "paused",
        "pauses",
        "pending",
        "plain_on_tls",
        "proxy_failures",
        "tls_cuts",
        "tls_failures",
        "turned_away",
    )

    def __init__(self, descriptors: Descriptors, on_release: Callable[[], None]) -> None:
        self.accepted = 0  # clients accepted so far
        self.pending = 0  # accepted, but not yet a connection: the TLS handshake, above all
        self.active = 0  # connections now
        self.turned_away = 0  # accepted, but never became a connection
        self.handshakes = 0  # TLS handshakes completed
        self.tls_failures = 0  # handshakes that failed or took too long
        self.plain_on_tls = 0  # clients that spoke plain HTTP to a TLS port
        self.proxy_failures = 0  # fronts whose PROXY header was missing, malformed or late
        self.bad_requests: dict[str, int] = {}  # requests refused, by reason
        self.http2_connections = 0  # connections of HTTP/2, of those accepted
        self.http2_events: dict[str, int] = {}  # what went wrong on them: with a stream, or with all of it
        self.certificates_refused: dict[str, int] = {}  # clients refused for their certificate, by reason
        self.tls_cuts: dict[str, int] = {}  # connections cut for what TLS carried or did not, by reason
        self.paused = False
        self.pauses = 0
        self._descriptors = descriptors
        self._on_release = on_release

    @property
    def held(self) -> int:
        """Descriptors that clients of this listener hold."""
        return self.pending + self.active

    def admitted(self) -> None:
        """A client was accepted; `opened` or `refused` follows."""
        self.accepted += 1
        self.pending += 1
        self._descriptors.take()

    def opened(self) -> None:
        """A connection was made; `closed` follows."""
        self.pending -= 1
        self.active += 1

    def refused(self) -> None:
        """An admitted client never became a connection."""
        self.pending -= 1
        self.turned_away += 1
        self._release()

    def closed(self) -> None:
        """A connection was lost."""
        self.active -= 1
        self._release()

    def count_bad_request(self, reason: str) -> None:
        """A request was refused as malformed; `reason` is that of BadMessage."""
        self.bad_requests[reason] = self.bad_requests.get(reason, 0) + 1

    def note_http2(self, event: str) -> None:
        """Something went wrong with a stream of HTTP/2, or a connection was ended for what the client has done."""
        self.http2_events[event] = self.http2_events.get(event, 0) + 1

    def count_certificate(self, reason: str) -> None:
        """A client was refused for its certificate, or for lack of one."""
        self.certificates_refused[reason] = self.certificates_refused.get(reason, 0) + 1

    def count_cut(self, reason: str) -> None:
        """A connection was cut for what TLS carried, or did not."""
        self.tls_cuts[reason] = self.tls_cuts.get(reason, 0) + 1

    def _release(self) -> None:
        self._descriptors.give_back()
        if self.paused:
            self._on_release()
