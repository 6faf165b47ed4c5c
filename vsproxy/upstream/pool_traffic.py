# cython: annotation_typing=False
"""What the data path asks of a pool and counts in it: how to choose, how long to wait, who is in the queue."""

from __future__ import annotations

from vsproxy.histogram import Histogram
from vsproxy.timers import Timed
from vsproxy.upstream.balancer import Balancer
from vsproxy.upstream.keepalive import Keepalive
from vsproxy.upstream.server import Server
from vsproxy.upstream.tls import ClientTls
from vsproxy.upstream.waiting import Waiting, WaitingLine
from vsproxy.wire.message import RequestHead


class PoolTraffic(Timed):
    """The part of a pool that every exchange passes. A subclass decides on servers, states and limits.

    `retry_statuses` has a byte for every status, 1 for those that send a request to another server. `introduces` is
    the version of the PROXY protocol by which servers are told who a client is, or empty.
    """

    __slots__ = (
        "balancer",
        "connect_timeout",
        "duration",
        "hashing",
        "introduces",
        "keepalive",
        "name",
        "no_server",
        "queue",
        "queue_timeouts",
        "read_timeout",
        "retry_causes",
        "retry_statuses",
        "retry_timeout",
        "send_timeout",
        "statuses",
        "tls",
        "tries",
        "up_count",
    )

    balancer: Balancer
    connect_timeout: float
    hashing: bool
    introduces: str
    keepalive: Keepalive
    read_timeout: float
    retry_causes: frozenset[str]
    retry_statuses: bytes
    retry_timeout: float
    send_timeout: float
    tries: int

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.queue = WaitingLine()
        self.up_count = 0
        self.queue_timeouts = 0
        self.no_server = 0
        self.statuses = [0, 0, 0, 0, 0, 0]
        self.duration = Histogram()
        #: None: plain HTTP is spoken to the servers.
        self.tls: ClientTls | None = None

    def key_of(self, head: RequestHead, client: str) -> int:
        """What `balance = "hash"` hashes of a request."""
        raise NotImplementedError

    def on_failure(self, server: Server, kind: str) -> None:
        """Traffic met a failure of `server`: connect, timeout, reset or bad_response."""
        raise NotImplementedError

    def enqueue(self, exchange: Waiting) -> bool:
        """Let `exchange` wait for a server; False if nothing can come of it."""
        raise NotImplementedError

    def wake(self) -> None:
        """Hand free servers to those who wait, in order."""
        raise NotImplementedError
