"""The part of the configuration that says where requests go: pools, their servers, checks and retries."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from vsproxy.config.types import (
    Duration,
    FileName,
    Flag,
    HashKey,
    HostField,
    OnOrTable,
    RetryCauseFrom,
    ServerAddress,
    ServerName,
    Statuses,
    Target,
    Text,
    Whole,
)
from vsproxy.config.units import StatusSet

_MAX_CHECK_TIMEOUT = 5.0


class Section(BaseModel):
    """A table of the configuration: frozen, and without room for a misspelt key."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ServerConfig(Section):
    """One server of a pool. A name stands for all the addresses it resolves to.

    `srv:` stands for the targets of SRV records: those of the lowest priority value are servers and the
    others backups, each with the port and the weight of its record.
    """

    address: ServerAddress = Field(description="Where the server listens.")
    weight: Whole = Field(
        default=1,
        ge=1,
        le=1000,
        description=(
            "Its share of the traffic, relative to the other servers. Weights of SRV records take its place."
        ),
    )
    backup: Flag = Field(
        default=False, description="Takes traffic only while no other server of the pool is available."
    )
    max_connections: Whole = Field(
        default=0,
        ge=0,
        description="Exchanges it may have at once; further ones wait in the pool's queue. 0: no limit.",
    )
    state: Literal["up", "drain", "maint"] = Field(
        default="up",
        description="State at start: `drain` finishes what it has and gets nothing new, `maint` is out.",
    )


class Timeouts(Section):
    """How long a server may take. `send` and `read` count silence: each byte that moves restarts them."""

    connect: Duration = Field(default=10.0, gt=0, description="To set up a connection to the server.")
    send: Duration = Field(default=60.0, gt=0, description="Between two writes to the server.")
    read: Duration = Field(default=60.0, gt=0, description="Between two reads from the server.")


class PoolTls(Section):
    """TLS to the servers of a pool; `tls = true` takes all defaults.

    A server has to show a certificate that is valid, that the CA vouches for, and that is for its name; else it is
    as good as not reachable. Files are followed: what changes in them is used for new connections within seconds.
    """

    ca: FileName | None = Field(
        default=None,
        description="File with the certificates (PEM) that are trusted to vouch for servers. Default: the system's.",
    )
    cert: FileName | None = Field(
        default=None,
        description="File with a certificate chain of our own (PEM), for servers that ask for one. Default: none.",
    )
    key: FileName | None = Field(
        default=None, description="File with its private key, PEM. Default: the key is in the file of `cert`."
    )
    verify: Flag = Field(
        default=True,
        description=(
            "`false`: take any certificate, of anybody, for any name. Encrypted, but not safe from who sits in between."
        ),
    )
    server_name: ServerName | None = Field(
        default=None,
        description=(
            "Name that the certificate has to be for, and that the server is told (SNI). Default: its host as in "
            "`address`; of `srv:` the domain of the service. An IP address is looked for in the certificate, but not "
            "told."
        ),
    )
    min_version: Literal["1.2", "1.3"] = Field(default="1.2", description="Oldest TLS version accepted.")


class HealthConfig(Section):
    """Active checks. Without this section there are none, and servers start up."""

    type: Literal["http", "tcp"] = Field(
        default="http", description="`http`: a GET over HTTP/1.1; `tcp`: a connection that opens is enough."
    )
    path: Target = Field(default="/", description="Target of the GET.")
    host: HostField | None = Field(default=None, description="Its Host field. Default: the server's address.")
    status: Statuses = Field(
        default=StatusSet("200-399", ((200, 399),)), description="Statuses that count as healthy."
    )
    body: Text | None = Field(default=None, description="Text the answer has to contain. Default: any.")
    inter: Duration = Field(default=5.0, gt=0, description="Interval between two checks; it is jittered.")
    fastinter: Duration | None = Field(
        default=None, gt=0, description="Interval while a change of state is being decided. Default: `inter`."
    )
    downinter: Duration | None = Field(
        default=None, gt=0, description="Interval while the server is down. Default: `inter`."
    )
    timeout: Duration | None = Field(
        default=None, gt=0, description='How long one check may take. Default: `inter`, at most "5s".'
    )
    port: Whole | None = Field(
        default=None, ge=1, le=65535, description="Port to check. Default: the port that carries traffic."
    )
    tls: Flag | None = Field(
        default=None,
        description=(
            "`false`: check without TLS where traffic has it, such as on a `port` of its own. Default: as traffic."
        ),
    )
    fall: Whole = Field(default=3, ge=1, description="Failed checks in a row that take the server down.")
    rise: Whole = Field(default=2, ge=1, description="Good checks in a row that bring it up again.")

    @property
    def effective_fastinter(self) -> float:
        """Seconds between checks while a change of state is being decided."""
        return self.inter if self.fastinter is None else self.fastinter

    @property
    def effective_downinter(self) -> float:
        """Seconds between checks while the server is down."""
        return self.inter if self.downinter is None else self.downinter

    @property
    def effective_timeout(self) -> float:
        """Seconds that one check may take."""
        return min(self.inter, _MAX_CHECK_TIMEOUT) if self.timeout is None else self.timeout


RetryCause = Annotated[Literal["connect", "reset", "timeout", "502", "503", "504"], RetryCauseFrom]


class RetryConfig(Section):
    """When an exchange moves on to the next server. What may have had an effect is never sent twice."""

    tries: Whole = Field(
        default=3, ge=1, description="Servers tried for one exchange, the first included. 1: no retry."
    )
    on: tuple[RetryCause, ...] = Field(
        default=("connect", "reset", "502", "503", "504"),
        description=(
            "What is tried again: a failed connect, a connection lost before an answer, a read timeout, "
            "a status. All but `connect` only for idempotent methods without a body that was consumed."
        ),
    )
    timeout: Duration = Field(
        default=30.0, description="No new try begins later than this after the exchange began."
    )


class PoolConfig(Section):
    """A named set of servers and how to choose among them."""

    balance: Literal["round_robin", "least_conn", "random", "hash"] = Field(
        default="round_robin",
        description=(
            "How a server is chosen: smooth weighted round robin, fewest active exchanges per weight, "
            "the better of two random ones, or by `hash_key`."
        ),
    )
    hash_key: HashKey | None = Field(
        default=None, description='What `balance = "hash"` hashes; required there and refused elsewhere.'
    )
    consistent: Flag = Field(
        default=True, description="With `hash`: a server that comes or goes moves only its own keys."
    )
    keepalive: Whole = Field(
        default=32, ge=0, description="Idle connections kept per server and worker. 0: none."
    )
    keepalive_timeout: Duration = Field(
        default=60.0, gt=0, description="How long a connection may be idle before it is closed."
    )
    keepalive_requests: Whole = Field(default=10000, ge=1, description="Requests sent on one connection.")
    keepalive_age: Duration = Field(
        default=3600.0, gt=0, description="Age from which a connection is not used again."
    )
    proxy_protocol: Literal["v1", "v2"] | None = Field(
        default=None,
        description=(
            "Begin each connection to a server with a PROXY header of this version, before anything else: the client's "
            "address and the one that it connected to. A connection is then used for one client connection alone. "
            "Checks introduce themselves. Default: none is sent."
        ),
    )
    queue_timeout: Duration = Field(
        default=5.0, description="How long an exchange waits for a server that is not full, then 503."
    )
    queue_size: Whole = Field(
        default=1024, ge=0, description="Exchanges that may wait at once, per worker; one more gets 503."
    )
    slow_start: Duration = Field(
        default=0.0, description="Time over which a server that came up grows to its full weight. 0: at once."
    )
    max_fails: Whole = Field(
        default=3,
        ge=0,
        description="Failures of traffic within `fail_window` that take a server down. 0: they never do.",
    )
    fail_window: Duration = Field(
        default=10.0, gt=0, description="Window of `max_fails`, and how long the server then stays down."
    )
    resolve_interval: Duration = Field(
        default=30.0,
        ge=1,
        description=(
            "Longest time between two resolutions of a server's name; a shorter TTL comes first, but not "
            "below one second."
        ),
    )
    servers: tuple[ServerConfig, ...] = Field(min_length=1, description="The servers; at least one.")
    tls: Annotated[PoolTls | None, *OnOrTable] = Field(
        default=None, description="Speak TLS to the servers, for checks as well. Default: plain HTTP."
    )
    timeouts: Timeouts = Field(default=Timeouts(), description="How long a server may take.")
    health: HealthConfig | None = Field(default=None, description="Active checks. Default: none.")
    retry: RetryConfig = Field(default=RetryConfig(), description="When the next server is tried.")
