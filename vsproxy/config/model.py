"""The configuration: frozen, checked as a whole, the same from a file and from a dictionary.

Durations are float seconds and sizes int bytes once read. The part about pools is in `vsproxy.config.pools`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from vsproxy.config.consistency import contradictions, raise_contradictions
from vsproxy.config.pools import (
    HealthConfig,
    PoolConfig,
    PoolTls,
    RetryConfig,
    Section,
    ServerConfig,
    Timeouts,
)
from vsproxy.config.problems import problems_from
from vsproxy.config.tls import TlsConfig
from vsproxy.config.toml import Document, read_document
from vsproxy.config.types import (
    Duration,
    Flag,
    ListenAddress,
    LogTarget,
    NameServer,
    RouteHost,
    RoutePath,
    Size,
    Text,
    TrustedNetwork,
    UpgradeToken,
    UpstreamHost,
    Whole,
    Workers,
)
from vsproxy.config.units import Bind
from vsproxy.errors import ConfigError

__all__ = [
    "AdminSection",
    "Bind",
    "Config",
    "HealthConfig",
    "ListenerConfig",
    "LogSection",
    "PoolConfig",
    "PoolTls",
    "ProxySection",
    "ResolverSection",
    "RetryConfig",
    "RouteConfig",
    "ServerConfig",
    "Timeouts",
    "TlsConfig",
]


class ProxySection(Section):
    """The process as a whole."""

    workers: Workers = Field(
        default="auto",
        description=(
            "Processes that carry traffic, beside a supervisor and one control process. `auto`: as many as there "
            "are processors, of which affinity and control groups may allow fewer. Needs a restart to change."
        ),
    )
    shutdown_timeout: Duration = Field(
        default=30.0, description="How long exchanges in flight may take at stop before they are cut off."
    )
    splice: Flag = Field(
        default=True,
        description=(
            "Let the kernel move bodies of known length, from 1 MiB on, between plain connections: up to 64 at once "
            "per worker, with up to 24 MiB of its memory in all. All others pass through the process: more than that, "
            "chunked bodies, those with TLS on either side, tunnels, and everything where there is no splice (not "
            "Linux, a sandbox that forbids it, less than 544 descriptors)."
        ),
    )


class LogSection(Section):
    """What is logged, and where: messages about what happens, and the access log."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severe level of messages."
    )
    path: LogTarget = Field(
        default="-",
        description='File of the messages, reopened on SIGUSR1 and once it was renamed; `"-"` is stderr.',
    )
    access: Literal["json", "combined", "off"] = Field(
        default="json", description="Format of the access log: one line per exchange."
    )
    access_path: LogTarget = Field(
        default="-", description='File of the access log, reopened on SIGUSR1; `"-"` is stdout.'
    )


class AdminSection(Section):
    """The admin port: /metrics, /healthz, /readyz and /api/. Without this section there is none."""

    bind: ListenAddress = Field(
        default=Bind("tcp", "127.0.0.1", 9900), description="Where it listens. Keep it off public networks."
    )


class ResolverSection(Section):
    """How names of servers are resolved: by the hosts file first, then by DNS.

    Both /etc/hosts and /etc/resolv.conf (nameservers, search list, `ndots`, `timeout`, `attempts`, `rotate`,
    `edns0`) are followed as they change. The last good answer stays in use while there is none.
    """

    nameservers: tuple[NameServer, ...] = Field(
        default=(),
        description="Nameservers to ask, in this order; port 53 unless given. Empty: the system's.",
    )
    timeout: Duration | None = Field(
        default=None,
        gt=0,
        description=(
            "How long a nameserver may take to answer. Default: the system's, or \"2s\" if it says nothing."
        ),
    )
    tries: Whole | None = Field(
        default=None,
        ge=1,
        le=10,
        description="How often each nameserver is asked. Default: the system's, or 2 if it says nothing.",
    )
    addresses: Literal["all", "ipv4", "ipv6"] = Field(
        default="all", description="Which addresses of a name are looked for and used."
    )


class ListenerConfig(Section):
    """An address on which clients are accepted."""

    bind: ListenAddress = Field(description="Address to listen on; port 0 takes a free one.")
    tls: TlsConfig | None = Field(default=None, description="Terminate TLS here. Default: plain HTTP.")
    h2c: Flag = Field(
        default=False,
        description=(
            "Take HTTP/2 without TLS from clients that begin with it (prior knowledge), beside HTTP/1.1. Has no effect "
            "with `tls`, where `alpn` decides."
        ),
    )
    redirect: Literal["https"] | None = Field(
        default=None, description="Answer every request with 308 to the same host and target over https."
    )
    trusted_proxies: tuple[TrustedNetwork, ...] = Field(
        default=(),
        description=(
            "Clients whose X-Forwarded-*, X-Real-IP, X-Request-ID and Forwarded are kept and added to; "
            "from all others they are replaced."
        ),
    )
    proxy_protocol: tuple[TrustedNetwork, ...] = Field(
        default=(),
        description=(
            "Fronts that have to begin each connection with a PROXY header, version 1 or 2, within `header_timeout`: "
            "what it says of the client takes the place of the front's own address everywhere, `trusted_proxies` "
            "included. All others are served as ordinary clients. On a Unix socket everybody is such a front. Empty: "
            "nobody is."
        ),
    )
    handshake_timeout: Duration = Field(
        default=10.0, gt=0, description="How long a TLS handshake may take, from the accept on."
    )
    header_timeout: Duration = Field(
        default=60.0, gt=0, description="How long a client may take to send a head, then 408."
    )
    idle_timeout: Duration = Field(
        default=75.0, gt=0, description="How long a connection may wait for its next request."
    )
    body_timeout: Duration = Field(default=60.0, gt=0, description="How long an upload may stall, then 408.")
    send_timeout: Duration = Field(default=60.0, gt=0, description="How long a client may read nothing.")
    max_requests: Whole = Field(default=10000, ge=1, description="Requests served on one connection.")
    max_head: Size = Field(
        default=64 * 1024, ge=1024, le=16 * 1024**2, description="Bytes of a request's head, then 431."
    )
    max_fields: Whole = Field(default=100, ge=1, le=10000, description="Fields of a head, then 431.")
    max_target: Size = Field(default=16 * 1024, ge=64, le=1024**2, description="Bytes of a target, then 414.")
    underscore_headers: Literal["drop", "keep"] = Field(
        default="drop",
        description="What happens to fields with `_` in their name, which some servers mistake for `-`.",
    )
    forwarded: Flag = Field(default=False, description="Send the `Forwarded` field of RFC 7239 as well.")
    via: Flag = Field(default=False, description="Add a `Via` field to requests and responses.")
    max_connections: Whole = Field(
        default=0,
        ge=0,
        description=(
            "Clients at once, divided among the workers (at least one each); more wait in the backlog. "
            "0: no limit."
        ),
    )
    backlog: Whole = Field(
        default=4096,
        ge=1,
        le=65535,
        description="Connections the kernel keeps waiting; net.core.somaxconn caps it.",
    )


class RouteConfig(Section):
    """Which requests go to which pool. The longest path wins, a route with a host before one without."""

    host: RouteHost | None = Field(default=None, description="Host of the request. Default: any host.")
    path: RoutePath = Field(
        default="/",
        description="Prefix of the path, by whole segments: /api covers /api and /api/x, not /apis.",
    )
    pool: Text = Field(description="Name of the pool, as in `[pools.NAME]`.")
    max_body: Size | None = Field(
        default=None, ge=1, description="Bytes of a request's body, then 413. Default: no limit."
    )
    websocket: Flag = Field(default=True, description="Let a connection become a WebSocket tunnel.")
    upgrades: tuple[UpgradeToken, ...] | None = Field(
        default=None,
        description="Protocols a connection may be upgraded to, instead of `websocket`; others are stripped.",
    )
    tunnel_timeout: Duration = Field(default=3600.0, gt=0, description="How long a tunnel may be silent.")
    upstream_host: UpstreamHost = Field(
        default="preserve",
        description="Host field that the server sees: the client's, the server's own address, or this name.",
    )
    half_close: Literal["wait", "abort"] = Field(
        default="wait",
        description="What a client's FIN means while the server thinks: `wait` answers, `abort` gives up.",
    )

    @property
    def effective_upgrades(self) -> tuple[str, ...]:
        """The protocols (lower case) that a connection of this route may be upgraded to."""
        if self.upgrades is not None:
            return self.upgrades
        return ("websocket",) if self.websocket else ()


class Config(Section):
    """A whole configuration. `load` reads a file, `model_validate` a dictionary of the same shape."""

    proxy: ProxySection = Field(default=ProxySection(), description="The process as a whole.")
    log: LogSection = Field(default=LogSection(), description="What is logged, and where.")
    admin: AdminSection | None = Field(default=None, description="The admin port. Default: none.")
    listeners: tuple[ListenerConfig, ...] = Field(min_length=1, description="Where clients are accepted.")
    routes: tuple[RouteConfig, ...] = Field(
        default=(), description="Which requests go where. A request that no route matches gets 404."
    )
    pools: dict[str, PoolConfig] = Field(default={}, description="The pools, by name.")
    resolver: ResolverSection = Field(
        default=ResolverSection(), description="How names of servers are resolved."
    )

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        raise_contradictions(self.model_dump())
        return self

    @classmethod
    def model_validate(cls, obj: Any, **options: Any) -> Self:
        """Read a dictionary of the same shape as the file; raises ConfigError with every mistake.

        Numbers are seconds and bytes, text such as `"10s"` and `"10GiB"` is read as in the file; `${NAME}` is
        not expanded.
        """
        return cls.from_document(Document("config", obj), **options)

    @classmethod
    def load(cls, path: str | os.PathLike[str], environ: Mapping[str, str] | None = None) -> Self:
        """Read a TOML file; `${NAME}` is taken from `environ` (default: the process's environment).

        Raises ConfigError with every mistake and its line, also when the file cannot be read.
        """
        document = read_document(os.fspath(path), os.environ if environ is None else environ)
        return cls.from_document(document)

    @classmethod
    def from_document(cls, document: Document, **options: Any) -> Self:
        """Read a document; raises ConfigError with every mistake, also those of reading it, in file order."""
        try:
            config = super().model_validate(document.data, **options)
        except ValidationError as error:
            found = problems_from(cls, error, document)
            # The whole was never looked at if a part of it was wrong.
            if not any(entry["type"] == "contradiction" for entry in error.errors()):
                found += [document.problem(*entry) for entry in contradictions(document.data)]
            found += document.problems
            raise ConfigError(sorted(found, key=lambda problem: problem.line)) from error
        if document.problems:
            raise ConfigError(document.problems)
        return config
