"""Which failures a killed process explains. A failure that nothing here explains is the proxy's.

A killed worker explains what failed on the connections that it had, by the kernel's tables, when it was
stopped; connections that still waited in a listen queue are not among them, and have to be served.
A killed server explains much less, since most of what it had can be repeated elsewhere.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from storm.http_client import IDLE
from storm.ledger import Failure, Ledger, ProcessKill, ServerKill

#: How long (s) after a death others may take to notice: clients of a worker, or the proxy of a server.
NOTICED = 5.0

WORKER = "in flight in a killed worker"
IDLE_IN_WORKER = "idle in a killed worker"
SERVER = "in flight on a killed server"


@dataclass(slots=True)
class Verdict:
    """Failures by what explains them, and those that nothing explains."""

    explained: dict[str, list[Failure]] = field(
        default_factory=lambda: {WORKER: [], IDLE_IN_WORKER: [], SERVER: []}
    )
    unexplained: list[Failure] = field(default_factory=list)
    sent_twice: list[str] = field(default_factory=list)


def judge(ledger: Ledger, received: Iterable[tuple[str, str]]) -> Verdict:
    """The verdict on a whole storm. `received`: the (server, exchange) pairs of all requests with a body."""
    seen: defaultdict[str, list[str]] = defaultdict(list)
    for server, exchange in received:
        seen[exchange].append(server)
    verdict = Verdict()
    for failure in ledger.failures:
        reason = explain(failure, ledger.process_kills, ledger.server_kills, seen.get(failure.exchange, []))
        if reason is None:
            verdict.unexplained.append(failure)
        else:
            verdict.explained[reason].append(failure)
    verdict.sent_twice = [f"{name} to {servers}" for name, servers in seen.items() if len(servers) > 1]
    return verdict


def explain(
    failure: Failure, workers: Iterable[ProcessKill], servers: Iterable[ServerKill], seen: list[str]
) -> str | None:
    """What explains `failure`; `seen` are the servers that got the request, if it had a body."""
    if not failure.visible:
        # A body that is wrong and looks complete is never anybody else's fault.
        return None
    if any(_was_in(failure, kill) for kill in workers):
        return IDLE_IN_WORKER if failure.cause == IDLE else WORKER
    if any(_was_on(failure, kill, seen) for kill in servers):
        return SERVER
    return None


def _was_in(failure: Failure, kill: ProcessKill) -> bool:
    wire = failure.wire
    at_that_time = wire.opened <= kill.stopped <= failure.at <= kill.stopped + NOTICED
    return at_that_time and (wire.listener, wire.port) in kill.wires


def _was_on(failure: Failure, kill: ServerKill, seen: list[str]) -> bool:
    if failure.at < kill.began:
        return False
    if failure.server:
        # The response had begun: nobody can take it back, and it says where it came from.
        return failure.server == kill.name and failure.cause in ("truncated", "websocket closed")
    if failure.method != "POST":
        return False  # nothing was sent that could not be sent again
    # It was in flight at that moment, and no other server has seen it. That the killed one need not have seen
    # it either is due to what its kernel had received but it had not read.
    in_flight = failure.began <= kill.dead and failure.at <= kill.dead + NOTICED
    return in_flight and all(server == kill.name for server in seen)
