"""What metrics are read from: live objects, or the sums of what several processes have counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized
from typing import NamedTuple, Protocol

from vsproxy.histogram import Histogram


class ServerSource(Protocol):
    """What is read of a server; `vsproxy.upstream.server.Server` is one.

    `statuses` counts responses by the first digit of their status, `changes` how often each state was
    entered, in the order of `STATE_NAMES`. `check_successes` and `check_failures` count active checks,
    `tls_handshakes` those that were completed, `tls_resumed` those of them that went on with a session.
    """

    name: str
    active: int
    requests: int
    retries: int
    bytes_sent: int
    bytes_received: int
    statuses: list[int]
    failures: dict[str, int]
    first_byte: Histogram
    connect_time: Histogram
    changes: list[int]
    check_successes: int
    check_failures: int
    check_time: Histogram
    tls_handshakes: int
    tls_resumed: int
    tls_failures: int

    @property
    def address(self) -> str:
        """`host:port`, `[v6]:port` or `unix:/path`."""

    @property
    def state_name(self) -> str:
        """One of `STATE_NAMES`."""

    @property
    def idle(self) -> Sized:
        """Connections kept for the next request."""


class PoolSource(Protocol):
    """What is read of a pool.

    `statuses` counts responses to clients by the first digit of their status, the proxy's own answers
    included. `queue_timeouts` counts exchanges that waited for a server in vain, `no_server` these and
    those that found none to wait for.
    """

    queue_timeouts: int
    no_server: int
    statuses: list[int]
    duration: Histogram

    @property
    def secure(self) -> bool:
        """Whether TLS is spoken to its servers."""

    @property
    def queued(self) -> int:
        """Exchanges that wait for a server."""

    @property
    def servers(self) -> Sequence[ServerSource]:
        """Its servers as they are now."""


class ListenerCounts(Protocol):
    """What a listener counts; `http2_events` by kind, `bad_requests`, `certificates_refused` and `tls_cuts` by reason.

    All but `active` and `paused` only grow.
    """

    accepted: int
    active: int
    turned_away: int
    handshakes: int
    tls_failures: int
    plain_on_tls: int
    proxy_failures: int
    bad_requests: dict[str, int]
    http2_connections: int
    http2_events: dict[str, int]
    certificates_refused: dict[str, int]
    tls_cuts: dict[str, int]
    paused: bool


class ListenerSource(Protocol):
    """What is read of a listener."""

    @property
    def address(self) -> str:
        """The bound address."""

    @property
    def certificate_expiry(self) -> float | None:
        """When the first of its certificates expires, in seconds since 1970; None without TLS."""

    @property
    def certificates(self) -> Mapping[str, float]:
        """When each of its certificates expires, by file."""

    @property
    def crl_expiry(self) -> float | None:
        """When the first of its revocation lists is out of date, in seconds since 1970; None without any."""

    @property
    def stats(self) -> ListenerCounts:
        """Its counts."""


class CertificateSource(Protocol):
    """What became of the changes of a certificate's files, and of what is there now.

    `refused_now` is empty if that is in use.
    """

    @property
    def taken(self) -> int:
        """New ones that came into use."""

    @property
    def refused(self) -> int:
        """New ones that could not be used."""

    @property
    def refused_now(self) -> str:
        """What is there and cannot be used."""


class AccessLogSource(Protocol):
    """What is read of the access log, in lines."""

    @property
    def written(self) -> int:
        """Lines written."""

    @property
    def lost(self) -> int:
        """Lines that could not be written."""


class ProcessSource(NamedTuple):
    """One process of the load balancer: `supervisor`, `control`, `worker0`..., or `proxy` in an embedder.

    `pid` is 0 while it is down. `heartbeat_age` is the seconds since it last said that it lives; None: it
    does not say so, or has not yet.
    """

    name: str
    pid: int
    restarts: int = 0
    heartbeat_age: float | None = None


class ReloadSource(NamedTuple):
    """How reloads went. The reading at the start is not counted, but until the first reload it is the last.

    `last_time` is when the last one ended, in seconds since 1970.
    """

    succeeded: int
    refused: int
    last_ok: bool
    last_time: float


class MetricsSource(Protocol):
    """Where the numbers come from: a proxy, or the control process for all workers."""

    @property
    def pools(self) -> Mapping[str, PoolSource]:
        """By name."""

    @property
    def listeners(self) -> Sequence[ListenerSource]:
        """In the order of the configuration."""

    @property
    def certificates(self) -> Mapping[str, CertificateSource]:
        """By the file of the certificate."""

    @property
    def access_log(self) -> AccessLogSource | None:
        """None: nothing is logged."""

    @property
    def processes(self) -> Sequence[ProcessSource]:
        """Each name once."""

    @property
    def reloads(self) -> ReloadSource:
        """Since the start."""
