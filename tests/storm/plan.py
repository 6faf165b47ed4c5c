"""The configurations of a storm: good ones, each unlike the one before, and bad ones with their mistakes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from storm.fleet import Fleet
from support.certificates import Certificates
from support.proxies import Settings, to_toml

WORKERS = 2
#: Patient with servers on a busy machine, quick to see that one is back.
HEALTH = {
    "path": "/api/health",
    "inter": "1s",
    "fastinter": "300ms",
    "downinter": "300ms",
    "timeout": "5s",
    "fall": 2,
    "rise": 1,
}


@dataclass(frozen=True, slots=True)
class State:
    """What the configuration says at one moment. `generation` is seen by clients as the Host of /whoami."""

    generation: int = 0
    servers: int = 3
    second: bool = True
    certificate: int = 0
    limits: int = 0
    balance: str = "round_robin"


#: What is changed, one after the other; round after round.
CHANGES: tuple[dict[str, Any], ...] = (
    {"servers": 30},
    {"second": False},
    {"certificate": 1},
    {"limits": 1},
    {"servers": 3},
    {"second": True},
    {"balance": "least_conn"},
    {"servers": 12, "certificate": 0},
    {"second": False, "limits": 0},
    {"servers": 3, "second": True, "balance": "round_robin"},
)
#: How many good reloads come before each bad one.
GOOD_BEFORE_BAD = 4


@dataclass(frozen=True, slots=True)
class Bad:
    """A configuration that has to be refused: what the refusal has to name, and the command's exit status."""

    what: str
    text: str
    named: tuple[str, ...]
    status: int


@dataclass(frozen=True, slots=True)
class Layout:
    """What is the same in all configurations of a storm. `taken` is a port that somebody else listens on."""

    fleet: Fleet
    certificates: tuple[Certificates, Certificates]
    main: int
    second: int
    tls: int
    taken: int

    def settings(self, state: State) -> Settings:
        """The configuration for `state`."""
        return {
            "proxy": {"workers": WORKERS, "shutdown_timeout": "10s"},
            "log": {"access": "off"},
            "listeners": self._listeners(state),
            "routes": self._routes(state),
            "pools": self._pools(state),
        }

    def _listeners(self, state: State) -> list[Settings]:
        certificates = self.certificates[state.certificate]
        limits: Settings = {"max_requests": (10_000, 50)[state.limits], "max_fields": 100 - 10 * state.limits}
        listeners: list[Settings] = [
            {"bind": f"127.0.0.1:{self.main}", **limits},
            {
                "bind": f"127.0.0.1:{self.tls}",
                "tls": {"cert": str(certificates.cert), "key": str(certificates.key)},
            },
        ]
        return [*listeners, {"bind": f"127.0.0.1:{self.second}"}] if state.second else listeners

    def _routes(self, state: State) -> list[Settings]:
        whoami = {"path": "/whoami", "pool": "main", "upstream_host": host_of(state.generation)}
        extra = {"path": f"/extra-{state.generation}", "pool": "files", "max_body": "1MiB"}
        return [
            {"path": "/", "pool": "main", "max_body": ("1GB", "100MB")[state.limits]},
            {"path": "/api/ws", "pool": "websockets"},
            {"path": "/files", "pool": "files"},
            whoami,
            *([extra] if state.generation % 2 else []),
        ]

    def _pools(self, state: State) -> dict[str, Settings]:
        places = self.fleet.places[: state.servers]
        nginx = [self.fleet.nginx.address] if self.fleet.nginx else []
        common = {"health": HEALTH, "queue_size": (1024, 512)[state.limits]}
        pages = [f"127.0.0.1:{place.port}" for place in places]
        return {
            "main": {**common, "balance": state.balance, "servers": addresses(pages)},
            "websockets": {
                **common,
                "servers": addresses([f"127.0.0.1:{place.websocket_port}" for place in places]),
            },
            "files": {**common, "balance": "least_conn", "servers": addresses([*pages[:3], *nginx])},
        }

    def bad(self, state: State) -> Iterator[Bad]:
        """Bad changes of the configuration for `state`, each another mistake; without end."""
        makers: list[Callable[[Settings], Bad]] = [_torn, _two_mistakes, _no_certificate, _no_servers]
        while True:
            for make in [*makers, self._taken]:
                yield make(self.settings(replace(state, generation=99_999)))

    def _taken(self, settings: Settings) -> Bad:
        settings["listeners"].append({"bind": f"127.0.0.1:{self.taken}"})
        return Bad("a port that is taken", to_toml(settings), (f"127.0.0.1:{self.taken}",), 1)


def host_of(generation: int) -> str:
    """What /whoami answers under the configuration of `generation`."""
    return f"generation-{generation}.example.com"


def addresses(servers: list[str]) -> list[Settings]:
    """The servers of a pool."""
    return [{"address": server} for server in servers]


def good(state: State) -> Iterator[tuple[str, State]]:
    """The states after `state`, each with what is changed; without end."""
    while True:
        for change in CHANGES:
            state = replace(state, generation=state.generation + 1, **change)
            yield ", ".join(f"{key} = {value}" for key, value in change.items()), state


def _torn(settings: Settings) -> Bad:
    text = to_toml(settings)
    return Bad("half a file", text[: len(text) // 2], ("lb.toml",), 2)


def _two_mistakes(settings: Settings) -> Bad:
    settings["routes"][1]["pool"] = "nowhere"
    settings["pools"]["main"]["keepalife"] = 3
    return Bad("two mistakes", to_toml(settings), ("nowhere", "keepalife"), 2)


def _no_certificate(settings: Settings) -> Bad:
    settings["listeners"][1]["tls"]["cert"] = "missing.pem"
    return Bad("no certificate", to_toml(settings), ("missing.pem",), 2)


def _no_servers(settings: Settings) -> Bad:
    settings["pools"]["files"]["servers"] = []
    settings["listeners"][0]["max_requests"] = "many"
    return Bad("values", to_toml(settings), ("servers", "max_requests"), 2)
