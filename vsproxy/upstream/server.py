# cython: annotation_typing=False
"""The live state of one server: what a pick reads, what an exchange counts, what a check decides."""

from __future__ import annotations

from vsproxy.histogram import Histogram

UP = 0
DOWN = 1
CHECKING = 2
DRAIN = 3
MAINT = 4
#: Successful reuses without an unannounced close before a server's idle connections are trusted.
REUSE_STREAK = 8
_REUSE_STREAK = REUSE_STREAK
#: Seconds (s) for which a server has to keep an idle connection to be taken for one that does.
SURVIVAL_TIME = 1.0
_SURVIVAL_TIME = SURVIVAL_TIME
#: Seconds of idleness that are trusted of a server that never closed an idle connection.
REUSE_UNKNOWN = 2.0
#: What traffic can fail on, in the order in which it is shared and shown.
FAILURE_KINDS = ("connect", "timeout", "reset", "bad_response")
STATE_NAMES = ("up", "down", "checking", "drain", "maint")


class Server:
    """One address of a pool.

    `name` is the address as configured (`backend1:8080`); `host` and `port` are what to connect to
    (`port` 0: `host` is the path of a Unix socket). A name that resolves to several addresses makes
    several servers of one `name`. `active` counts exchanges and tunnels in progress here,
    `elsewhere` those of the other workers as of the last sweep. Counters only grow; metrics read them.
    `changes` counts by state how often it was entered.
    """

    __slots__ = (
        "active",
        "after",
        "backup",
        "before",
        "bucket",
        "bytes_received",
        "bytes_sent",
        "changes",
        "check_failures",
        "check_successes",
        "check_time",
        "claim",
        "connect_time",
        "effective_weight",
        "elsewhere",
        "failures",
        "first_byte",
        "host",
        "idle",
        "last_check",
        "max_connections",
        "name",
        "pool_name",
        "port",
        "position",
        "promised",
        "removed",
        "requests",
        "retries",
        "reuse_bound",
        "reuse_streak",
        "reuse_until",
        "serial",
        "slot",
        "state",
        "state_reason",
        "state_since",
        "statuses",
        "tls_failures",
        "tls_handshakes",
        "tls_resumed",
        "tls_session",
        "tls_trouble",
        "weight",
    )

    def __init__(
        self,
        pool_name: str,
        name: str,
        host: str,
        port: int,
        weight: int = 1,
        backup: bool = False,
        max_connections: int = 0,
        state: int = UP,
    ) -> None:
        # What it is
        self.pool_name = pool_name
        self.name = name
        self.host = host
        self.port = port
        self.weight = weight
        self.effective_weight = float(weight)
        self.backup = backup
        self.max_connections = max_connections

        # Where its counts are shared between processes, and as what; -1: they are not
        self.slot = -1
        self.serial = 0
        #: This worker's part of `max_connections`; -1: all of it
        self.claim = -1

        # Its state
        self.state = state
        self.state_reason = ""
        self.state_since = 0.0
        self.removed = False
        self.last_check = ""
        self.check_successes = 0
        self.check_failures = 0
        self.check_time = Histogram()
        self.changes = [0, 0, 0, 0, 0]

        # What the balancer keeps with it
        self.bucket: object = None
        self.position = -1
        self.before: Server | None = None
        self.after: Server | None = None

        # What keepalive keeps with it
        self.idle: list[object] = []
        self.reuse_bound = REUSE_UNKNOWN
        self.reuse_streak = 0
        self.reuse_until = -1.0
        self.promised = False

        # What is counted
        self.active = 0
        self.elsewhere = 0
        self.requests = 0
        self.retries = 0
        self.connect_time = Histogram()
        self.first_byte = Histogram()
        self.bytes_sent = 0
        self.bytes_received = 0
        self.statuses = [0, 0, 0, 0, 0, 0]
        self.failures: dict[str, int] = {}
        self.tls_handshakes = 0
        self.tls_resumed = 0
        self.tls_failures = 0

        # What TLS keeps with it: the session to go on with, and whose it is; what was said last of a failure
        self.tls_session: object = None
        self.tls_trouble = ""

    def __repr__(self) -> str:
        return f"<Server {self.pool_name}/{self.name} {self.address} {STATE_NAMES[self.state]}>"

    @property
    def address(self) -> str:
        """`host:port`, `[v6]:port` or `unix:/path`."""
        if self.port == 0:
            return f"unix:{self.host}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def host_field(self) -> bytes:
        """What it is called in a Host field: as configured, but for a Unix socket or a service (SRV)."""
        if self.port == 0:
            return b"localhost"
        return (self.address if self.name.startswith("srv:") else self.name).encode("latin-1")

    @property
    def state_name(self) -> str:
        """One of `STATE_NAMES`."""
        return STATE_NAMES[self.state]

    def is_full(self) -> bool:
        """Whether `max_connections` (0: no limit) is reached."""
        if self.max_connections == 0:
            return False
        return self.active >= (self.max_connections if self.claim < 0 else self.claim)

    def load(self) -> float:
        """What is in progress, over all workers, per weight."""
        return (self.active + self.elsewhere) / self.effective_weight

    def count_failure(self, kind: str) -> None:
        """Count one failure of `kind`: connect, timeout, reset, bad_response."""
        self.failures[kind] = self.failures.get(kind, 0) + 1

    # Whether a request that may not be repeated can go out on an idle connection. The server may be
    # closing it at this very moment, and then nobody knows whether the request was read.

    def note_announced(self, timeout: float) -> None:
        """The server announced `Keep-Alive: timeout`, in seconds: less a second, or half, for the way."""
        self.reuse_until = max(timeout - 1.0, timeout / 2)

    def note_reuse(self) -> None:
        """An idle connection carried another request to its answer."""
        self.reuse_streak += 1

    def note_idle_close(self, idle: float) -> None:
        """The server closed a connection that had been idle for `idle` seconds, unannounced."""
        self.reuse_bound = min(self.reuse_bound, idle / 2)
        if idle < _SURVIVAL_TIME:
            # It closes while connections are in use: from here on that many good ones more are wanted.
            self.reuse_streak = -100

    def note_survival(self, idle: float) -> None:
        """A connection is still open after `idle` seconds.

        Of a server that says `Connection: keep-alive` this is worth as much as a streak of good reuses. Without it,
        where all requests are such as may not be repeated, none would ever be the first on a used connection.
        """
        if self.promised and idle >= _SURVIVAL_TIME and 0 <= self.reuse_streak < _REUSE_STREAK:
            self.reuse_streak = _REUSE_STREAK

    def is_trusted(self) -> bool:
        """Whether the server has announced or shown how long it keeps an idle connection."""
        return self.reuse_until >= 0.0 or self.reuse_streak >= _REUSE_STREAK

    def is_safe_to_reuse(self, idle: float) -> bool:
        """Whether a connection idle for `idle` seconds will surely still be read by the server.

        A server that announces `Keep-Alive: timeout=N` is believed; else it must have earned it,
        and idleness must stay below half of what it was ever seen to cut.
        """
        if self.reuse_streak < 0:
            return False
        if self.reuse_until >= 0.0:
            return idle < self.reuse_until
        return self.reuse_streak >= _REUSE_STREAK and idle < self.reuse_bound
