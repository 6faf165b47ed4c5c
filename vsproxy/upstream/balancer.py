# cython: annotation_typing=False
"""How a pool chooses a server: smooth round robin, least connections, the better of two, hash.

Health pushes, a pick does not scan: `rebuild` is told which servers there are, `acquire` and `release`
move one server inside the structure, and a pick costs the same for two servers as for a thousand.
Servers that are full leave the structure until a release; servers already tried are stepped over.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from hashlib import blake2b

from vsproxy.upstream.group import Group, Rotation
from vsproxy.upstream.least_conn import LeastConn
from vsproxy.upstream.ring import SLOT_BITS, SLOT_MASK, ring_points
from vsproxy.upstream.server import Server

# Steps along an order before the pick gives up on it and takes any open server: what bounds a pick
# when most servers are full.
WALK = 16
_WALK = WALK
# Draws for a server that can take an exchange, before any that can is taken.
DRAWS = 8
_DRAWS = DRAWS

RING_POINTS, RING_POINTS_PER_SERVER = 8192, 128
# Spreads keys that are not hashes, such as small numbers, over 64 bits.
_GOLDEN = 0x9E3779B97F4A7C15
_MASK_64 = 0xFFFFFFFFFFFFFFFF


def hash_key(data: bytes) -> int:
    """64 bits that depend on `data` alone: the same in every process and after every restart."""
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "little")


class RoundRobin(Rotation):
    """Each in turn, as evenly as the weights allow."""

    __slots__ = ()

    def choose(self, key: int, tried: list[Server] | None) -> Server | None:
        """The next in turn."""
        if not self.open:
            return None
        for _ in range(_WALK):
            server = self.step()
            if not server.is_full() and (tried is None or server not in tried):
                return server
        return self.next_open(tried)


class RandomOfTwo(Rotation):
    """Two different members drawn by weight; the one with fewer active exchanges per weight."""

    __slots__ = ("random",)

    def __init__(self) -> None:
        Rotation.__init__(self)
        self.random = random.Random()  # noqa: S311 spreads load, guards nothing

    def choose(self, key: int, tried: list[Server] | None) -> Server | None:
        """The better of two draws; the only one left if there are no two."""
        if not self.open:
            return None
        first = self.draw(None, tried)
        if first is None:
            return None
        second = self.draw(first, tried)
        return second if second is not None and second.load() < first.load() else first

    def draw(self, other: Server | None, tried: list[Server] | None) -> Server | None:
        """An open member that is neither `other` nor in `tried`."""
        for _ in range(_DRAWS):
            server = self.order[int(self.random.random() * len(self.order))]
            if server is not other and not server.is_full() and (tried is None or server not in tried):
                return server
        for server in self.open:
            if server is not other and (tried is None or server not in tried):
                self.open.move_to_end(server)
                return server
        return None


class Modulo(Rotation):
    """The key modulo the order of turns: even, and most keys move when a server comes or goes."""

    __slots__ = ()

    def choose(self, key: int, tried: list[Server] | None) -> Server | None:
        """The key's member, or the next in the order that can take it."""
        if not self.open:
            return None
        length = len(self.order)
        index = key % length
        for _ in range(_WALK):
            server = self.order[index]
            if not server.is_full() and (tried is None or server not in tried):
                return server
            index += 1
            if index == length:
                index = 0
        return self.next_open(tried)


class Ring(Group):
    """A consistent hash: a server that comes or goes moves only its own share of the keys.

    Each server owns points on a ring, in number by its weight, at places that follow from its address
    alone; a key belongs to the next point. How many points one unit of weight is worth (`scale`) is
    settled by the first members and only ever halved, when the ring outgrows its bound: if it followed
    the members, then a server's leaving would move the others' keys.
    """

    __slots__ = ("bound", "owned", "points", "scale", "slots")

    def __init__(self) -> None:
        Group.__init__(self)
        self.bound = RING_POINTS
        self.owned: dict[Server, tuple[int, int]] = {}
        self.points: list[int] = []
        self.scale = 0.0
        self.slots: list[Server | None] = []

    def rebuild(self, servers: list[Server]) -> None:
        """Replace the members; only the points of those that differ are touched."""
        Group.rebuild(self, servers)
        self.fit(servers)
        counts = {server: max(1, round(server.effective_weight * self.scale)) for server in servers}
        gone = {}
        for server, (slot, count) in list(self.owned.items()):
            if counts.get(server) != count:
                gone[slot] = server
                self.slots[slot] = None
                del self.owned[server]
        if gone:
            self.points = [point for point in self.points if point & SLOT_MASK not in gone]
        free = [slot for slot, owner in enumerate(self.slots) if owner is None]
        for server, count in counts.items():
            if server not in self.owned:
                if not free:
                    free.append(len(self.slots))
                    self.slots.append(None)
                slot = free.pop()
                self.slots[slot] = server
                self.owned[server] = (slot, count)
                self.points += ring_points(server, slot, count)
        self.points.sort()

    def fit(self, servers: list[Server]) -> None:
        """Choose the scale at first, and halve it while the ring is more than twice its bound."""
        total = sum([server.weight for server in servers])
        self.bound = max(self.bound, RING_POINTS_PER_SERVER * len(servers))
        if self.scale == 0.0 and total:
            self.scale = self.bound / total
        while total * self.scale > 2 * self.bound:
            self.scale /= 2

    def choose(self, key: int, tried: list[Server] | None) -> Server | None:
        """The owner of the next point whose owner can take it."""
        if not self.open:
            return None
        place = (key * _GOLDEN & _MASK_64) >> 24 << SLOT_BITS
        index = bisect_left(self.points, place)
        for _ in range(4 * _WALK):
            if index == len(self.points):
                index = 0
            server = self.slots[self.points[index] & SLOT_MASK]
            if server is not None and not server.is_full() and (tried is None or server not in tried):
                return server
            index += 1
        return self.next_open(tried)


class Balancer:
    """Chooses among the servers that a pool gives it. Backups are asked when no primary can take more."""

    __slots__ = ("backups", "primaries")

    def __init__(self, primaries: Group, backups: Group) -> None:
        self.primaries = primaries
        self.backups = backups

    def rebuild(self, servers: list[Server]) -> None:
        """Choose among `servers` from now on, by their present `effective_weight` (above 0)."""
        for server in (*self.primaries.members, *self.backups.members):
            server.position = -1  # of both first: a backup may have become a primary
        self.primaries.rebuild([server for server in servers if not server.backup])
        self.backups.rebuild([server for server in servers if server.backup])

    def pick(self, key: int, tried: list[Server] | None) -> Server | None:
        """The server for the next exchange: not full, not in `tried`; None if there is none.

        `key` is the hash (`hash_key`) that policy `hash` goes by; the others ignore it. Turns are
        passed on, `active` is not changed: `acquire` does that.
        """
        server = self.primaries.choose(key, tried)
        if server is None and self.backups.members:
            server = self.backups.choose(key, tried)
        return server

    def acquire(self, server: Server) -> None:
        """Count one more exchange in progress on `server`, a member or not."""
        server.active += 1
        group = self.backups if server.backup else self.primaries
        if group.holds(server):
            group.update(server)

    def note_others(self, server: Server, active: int, claim: int) -> None:
        """The other workers have `active` exchanges on `server`, a member or not; ours may become `claim`."""
        server.elsewhere = active
        server.claim = claim
        group = self.backups if server.backup else self.primaries
        if group.holds(server):
            group.update(server)

    def release(self, server: Server) -> None:
        """Count one exchange less, as `acquire` counted one more."""
        server.active -= 1
        group = self.backups if server.backup else self.primaries
        if group.holds(server):
            group.update(server)


def make_balancer(balance: str, consistent: bool) -> Balancer:
    """A balancer without servers, for the policies of `PoolConfig.balance`; ValueError for another."""
    policies: dict[str, type[Group]] = {
        "round_robin": RoundRobin,
        "least_conn": LeastConn,
        "random": RandomOfTwo,
        "hash": Ring if consistent else Modulo,
    }
    policy = policies.get(balance)
    if policy is None:
        raise ValueError(f"no balancing policy is named {balance!r}")
    return Balancer(policy(), policy())
