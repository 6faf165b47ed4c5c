"""What a worker writes on its board of each listener: the counts that are not worth a table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from vsproxy.binding import ListenerKey
from vsproxy.listener import Listener
from vsproxy.listener_stats import ListenerStats

_GROWING = (
    "accepted",
    "turned_away",
    "handshakes",
    "tls_failures",
    "plain_on_tls",
    "proxy_failures",
    "http2_connections",
)
_BY_REASON = ("bad_requests", "http2_events", "certificates_refused", "tls_cuts")
_PRESENT = ("active", "paused")


def listener_counts(listener: Listener) -> dict[str, Any]:
    """The counts of a listener, for JSON."""
    stats = listener.stats
    counts: dict[str, Any] = {name: getattr(stats, name) for name in _GROWING + _PRESENT}
    counts["key"] = listener.key
    counts["certificate_expiry"] = listener.certificate_expiry
    counts["crl_expiry"] = listener.crl_expiry
    counts.update({name: dict(getattr(stats, name)) for name in _BY_REASON})
    return counts


def add_counts(stats: ListenerStats | ListenerTotals, counts: Mapping[str, Any]) -> None:
    """Add what another process has counted, or an earlier one in our place had."""
    for name in _GROWING:
        setattr(stats, name, getattr(stats, name) + counts.get(name, 0))
    for name in _BY_REASON:
        own = getattr(stats, name)
        for reason, count in counts.get(name, {}).items():
            own[reason] = own.get(reason, 0) + count


class ListenerTotals:
    """A listener's counts, added up over the workers; `certificates_of` says what is in use there."""

    def __init__(
        self,
        address: str,
        boards: Iterable[Mapping[str, Any]],
        certificates_of: Callable[[ListenerKey], Mapping[str, float]],
    ) -> None:
        self.address = address
        self.accepted = 0
        self.active = 0
        self.turned_away = 0
        self.handshakes = 0
        self.tls_failures = 0
        self.plain_on_tls = 0
        self.http2_connections = 0
        self.proxy_failures = 0
        self.paused = False
        self.certificate_expiry: float | None = None
        self.certificates: Mapping[str, float] = {}
        self.crl_expiry: float | None = None
        self.bad_requests: dict[str, int] = {}
        self.http2_events: dict[str, int] = {}
        self.certificates_refused: dict[str, int] = {}
        self.tls_cuts: dict[str, int] = {}
        for board in boards:
            counts = board.get("listeners", {}).get(address, {})
            self._add(counts)
            if "key" in counts:
                bind, number = counts["key"]
                self.certificates = certificates_of((bind, number))

    @property
    def stats(self) -> ListenerTotals:
        """The counts, where a listener has them."""
        return self

    def _add(self, counts: Mapping[str, Any]) -> None:
        for name in ("certificate_expiry", "crl_expiry"):
            expiry = counts.get(name)
            if expiry is not None:
                # A worker that has not switched yet, or could not, is the one to worry about.
                setattr(self, name, min(expiry, getattr(self, name) or expiry))
        add_counts(self, counts)
        self.active += counts.get("active", 0)
        self.paused = self.paused or bool(counts.get("paused"))
