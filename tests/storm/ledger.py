"""What happened in a storm: answers, failures, kills, reloads. All its parts write it; judged at the end."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Wire:
    """One TCP connection of a client: the listener's port, its own, and when it was opened (monotonic s)."""

    listener: int
    port: int
    opened: float


@dataclass(frozen=True, slots=True)
class Failure:
    """One exchange (or idle connection, or WebSocket) that did not go as HTTP promises.

    `cause` is one of the words that `Broken` is raised with; `server` is who sent the response's head, if one
    came; `visible` is false if the client would have taken what it got for complete. Times are monotonic s.
    """

    kind: str
    method: str
    exchange: str
    cause: str
    detail: str
    began: float
    at: float
    wire: Wire
    server: str = ""
    visible: bool = True

    def __str__(self) -> str:
        wire = f"{self.wire.port}->{self.wire.listener}"
        after = f"{1000 * (self.at - self.began):.0f} ms"
        seen = "" if self.visible else ", LOOKS COMPLETE"
        return (
            f"{self.at:.3f} {self.kind} {self.method} {self.exchange} {self.cause} ({self.detail}){seen} "
            f"after {after} on {wire}, server {self.server or 'unknown'}"
        )


@dataclass(frozen=True, slots=True)
class ProcessKill:
    """A worker or control that was stopped, looked at and killed.

    `wires` are its (listener, client) ports, `waiting` the number of connections in the listen queues then.
    """

    name: str
    pid: int
    stopped: float
    wires: frozenset[tuple[int, int]]
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class ServerKill:
    """A server that was killed: asked to die at `began`, reaped at `dead`, its sockets gone in between."""

    name: str
    began: float
    dead: float


@dataclass(frozen=True, slots=True)
class Reload:
    """One reload: how it was asked for (`signal` or `command`), whether it had to be refused, how it went."""

    what: str
    way: str
    good: bool
    seconds: float
    mistake: str = ""


@dataclass(slots=True)
class Ledger:
    """See the module. `answered` counts by kind, `servers` by who answered, `websockets_open` by kind.

    `websockets_alive` are those of the ones kept open that were open at the end, `replaced` the seconds until
    a killed process had a successor, by name, and `disappointments` what was waited for in vain.
    """

    answered: Counter[str] = field(default_factory=Counter)
    servers: Counter[str] = field(default_factory=Counter)
    slowest: dict[str, float] = field(default_factory=dict)
    bytes_up: int = 0
    bytes_down: int = 0
    connections: int = 0
    websockets_opened: int = 0
    websockets_open: Counter[str] = field(default_factory=Counter)
    websockets_alive: int = 0
    failures: list[Failure] = field(default_factory=list)
    process_kills: list[ProcessKill] = field(default_factory=list)
    server_kills: list[ServerKill] = field(default_factory=list)
    replaced: dict[str, list[float]] = field(default_factory=dict)
    reloads: list[Reload] = field(default_factory=list)
    disappointments: list[str] = field(default_factory=list)

    def expect(self, kinds: Iterable[str]) -> None:
        """There should be answers of these kinds; those without any are counted too, with 0."""
        self.answered.update(dict.fromkeys(kinds, 0))

    def answer(self, kind: str, began: float, server: str, up: int = 0, down: int = 0) -> None:
        """An exchange (or a message of a WebSocket) was answered as it should be; bytes of its bodies."""
        self.answered[kind] += 1
        self.servers[server] += 1
        self.slowest[kind] = max(self.slowest.get(kind, 0.0), time.monotonic() - began)
        self.bytes_up += up
        self.bytes_down += down
