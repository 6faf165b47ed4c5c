"""Which front context each TLS listener has: they are made before any fork, so that all processes have the same.

The supervisor decides by number; each process has its own copy of every front, with the same keys for tickets.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

from vsproxy.binding import ListenerKey, listener_keys
from vsproxy.config.model import Config
from vsproxy.tls import session_identity
from vsproxy.tls_front import Front
from vsproxy.tls_pair import Pairs

#: Beyond those that are needed at start: for listeners that reloads add, and settings that they change. Each is
#: 13 KiB, which all processes share until it is used.
SPARE = 64
#: Seconds before one is given to another listener. OpenSSL resumes a session for two hours after it began.
REST = 24 * 3600.0


class Lease(NamedTuple):
    """Which front a listener has, None if there was none left; `identity` of the sessions that it may resume."""

    identity: bytes
    number: int | None


Leases = Mapping[ListenerKey, Lease]


class FrontStock:
    """All fronts, and who has which."""

    def __init__(self, config: Config, spare: int = SPARE) -> None:
        needed = sum(listener.tls is not None for listener in config.listeners)
        self.fronts = tuple(Front() for _ in range(needed + spare))
        self._free = deque(range(len(self.fronts)))
        # Until when it may be used again only by whom.
        self._resting: dict[int, tuple[float, ListenerKey, bytes]] = {}

    def lease(self, config: Config, pairs: Pairs, old: Leases) -> dict[ListenerKey, Lease]:
        """A front for each TLS listener of `config`: the one that it has, or had, if its sessions may go on."""
        self._wake()
        leases = {}
        for key, listener in zip(listener_keys(config), config.listeners, strict=True):
            if listener.tls is None:
                continue
            identity, had = session_identity(listener.tls, pairs), old.get(key)
            if had is not None and had.number is not None and had.identity == identity:
                leases[key] = had
            else:
                leases[key] = Lease(identity, self._take(key, identity))
        return leases

    def _wake(self) -> None:
        now = time.monotonic()
        for number, (until, _, _) in tuple(self._resting.items()):
            if until <= now:
                del self._resting[number]
                self._free.append(number)

    def _take(self, key: ListenerKey, identity: bytes) -> int | None:
        own = (number for number, (_, *whose) in self._resting.items() if whose == [key, identity])
        found = next(own, None)
        if found is not None:
            return found
        return self._free.popleft() if self._free else None

    def discard(self, leases: Leases, kept: Leases) -> None:
        """`leases` are not to be: what is not among those `kept` was never used, or rests on."""
        fresh = [lease.number for _, lease in _only(leases, kept) if lease.number is not None]
        self._free.extendleft(number for number in fresh if number not in self._resting)

    def switch(self, old: Leases, new: Leases) -> None:
        """`new` are in use now, in the place of `old`."""
        until = time.monotonic() + REST
        for _, lease in _only(new, old):
            if lease.number is not None:
                self._resting.pop(lease.number, None)
        for key, lease in _only(old, new):
            if lease.number is not None:
                self._resting[lease.number] = (until, key, lease.identity)

    def of(self, leases: Mapping[ListenerKey, int | None]) -> dict[ListenerKey, Front]:
        """The fronts with these numbers, without those that have none."""
        return {key: self.fronts[number] for key, number in leases.items() if number is not None}


def _only(leases: Leases, others: Leases) -> list[tuple[ListenerKey, Lease]]:
    """Those with a front that none of the others has."""
    taken = {lease.number for lease in others.values()}
    return [(key, lease) for key, lease in leases.items() if lease.number not in taken]


def numbers(leases: Leases) -> dict[ListenerKey, int | None]:
    """What other processes have to know of `leases`."""
    return {key: lease.number for key, lease in leases.items()}
