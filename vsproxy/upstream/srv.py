"""SRV records (RFC 2782) to endpoints: priorities to primaries and backups, weights to shares."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vsproxy.upstream.endpoint import Endpoint

#: The largest weight that a server can have.
MAX_WEIGHT = 1000


@dataclass(frozen=True, slots=True)
class Target:
    """One SRV record, with the addresses of its target."""

    priority: int
    weight: int
    port: int
    addresses: tuple[str, ...]


def endpoints_of(targets: Iterable[Target]) -> tuple[Endpoint, ...]:
    """All addresses of `targets`, each (address, port) once, by priority; only the lowest value is no backup.

    The addresses of a target share its weight among them.
    """
    ordered = sorted((target for target in targets if target.addresses), key=lambda target: target.priority)
    primary = [target for target in ordered if target.priority == ordered[0].priority]
    found: dict[tuple[str, int], Endpoint] = {}
    for group, backup in ((primary, False), (ordered[len(primary) :], True)):
        for target, weight in zip(group, _weights(group), strict=True):
            for address in target.addresses:
                place = (address, target.port)
                found.setdefault(place, Endpoint(*place, weight, backup))
    return tuple(found.values())


def _weights(targets: Sequence[Target]) -> list[int]:
    """The weight of each address of each target: whole numbers from 1 to `MAX_WEIGHT`, proportions kept.

    A weight of 0 among others is for a target that is to be chosen hardly ever; all 0: no preference.
    """
    shares = [target.weight / len(target.addresses) for target in targets]
    largest = max(shares, default=0.0)
    if largest == 0.0:
        return [1] * len(targets)
    if largest <= MAX_WEIGHT and all(share >= 1 and share.is_integer() for share in shares):
        return [int(share) for share in shares]
    return [max(1, round(share * MAX_WEIGHT / largest)) for share in shares]
