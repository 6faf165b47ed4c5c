"""What a scenario is: a load, how the proxies run under it, and what is compared."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from bench.load import Load

_MANY = 2000


class Kind(StrEnum):
    """How it is measured."""

    CLOSED = "closed"  # each connection as fast as it is answered
    OPEN = "open"  # at one rate for all, whatever the answers take
    IDLE = "idle"  # connections that do nothing
    HTTP2 = "http2"


class Figure(StrEnum):
    """What is compared; less is better."""

    CPU_US = "CPU µs per {unit}"
    CPU_MS_PER_GIB = "CPU ms per GiB"
    KIB = "KiB per {unit}"
    P99_US = "p99 µs"


@dataclass(frozen=True)
class Line:
    """A scenario that is one point of a line: what grows, and how far."""

    name: str
    x: int


@dataclass(frozen=True)
class Scenario:
    """`length` is how much of the usual seconds a round lasts; `announce` as for the servers."""

    name: str
    title: str
    load: Load
    kind: Kind = Kind.CLOSED
    figure: Figure = Figure.CPU_US
    unit: str = "request"
    tls: bool = False
    http2: bool = False
    access_log: bool = False
    servers: int = 2
    routes: int = 1
    workers: int = 1
    keepalive: int = 64
    announce: bool = True
    length: float = 1.0
    line: Line | None = None
    quick: bool = True

    @property
    def fresh(self) -> bool:
        """Whether each round is of a proxy that has just started, while no other runs.

        Memory that was used once would not grow again; and what the servers may have open is not enough for the
        connections of all proxies, if each has many.
        """
        return self.kind is Kind.IDLE or self.load.connections > _MANY

    @property
    def heading(self) -> str:
        """What the compared figure is."""
        return self.figure.format(unit=self.unit)
