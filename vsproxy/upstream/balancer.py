# cython: annotation_typing=False
"""How a pool chooses a server: smooth round robin, least connections, the better of two, hash.

Health pushes, a pick does not scan: `rebuild` is told which servers there are, `acquire` and `release`
move one server inside the structure, and a pick costs the same for two servers as for a thousand.
Servers that are full leave the structure until a release; servers already tried are stepped over.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections import OrderedDict
from hashlib import blake2b
from heapq import heapify, heappop, heappush

from vsproxy.upstream.interleave import interleave
from vsproxy.upstream.ring import SLOT_BITS, SLOT_MASK, ring_points
from vsproxy.upstream.server import Server

# Steps along an order before the pick gives up on it and takes any open server: what bounds a pick
# when most servers are full.
WALK = 16
_WALK = WALK
# least_conn looks this far along the order for a server that ties for the lowest score. It covers every
# pool of usual size; beyond it the one that has waited longest at that score is next.
TIE_WALK = 8
_TIE_WALK = TIE_WALK

RING_POINTS, RING_POINTS_PER_SERVER = 8192, 128
# Spreads keys that are not hashes, such as small numbers, over 64 bits.
_GOLDEN = 0x9E3779B97F4A7C15
_MASK_64 = 0xFFFFFFFFFFFFFFFF


def hash_key(data: bytes) -> int:
    """64 bits that depend on `data` alone: the same in every process and after every restart."""
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "little")


class Group:
    """The primaries or the backups of a pool. `members` are all, `open` those that are not full."""

    __slots__ = ("members", "open")

    def __init__(self) -> None:
        self.members: list[Server] = []
        self.open: OrderedDict[Server, None] = OrderedDict()

    def rebuild(self, servers: list[Server]) -> None:
        """Replace the members by `servers`, whose positions are free."""
        self.members = servers
        self.open = OrderedDict()
        for index, server in enumerate(servers):
            server.position = index
            if not server.is_full():
                self.open[server] = None

    def holds(self, server: Server) -> bool:
        """Whether `server` is a member now: exchanges release servers that have left since."""
        return 0 <= server.position < len(self.members) and self.members[server.position] is server

    def choose(self, key: int, tried: list[Server] | None) -> Server | None:
        """The member that takes the next exchange: not full, not in `tried`; None if there is none."""
        raise NotImplementedError

    def update(self, server: Server) -> None:
        """A member's `active` has changed."""
        if server.max_connections > 0:
            if server.is_full():
                self.open.pop(server, None)
            else:
                self.open[server] = None

    def next_open(self, tried: list[Server] | None) -> Server | None:
        """Any open member that is not in `tried`, in turn."""
        for server in self.open:
            if tried is None or server not in tried:
                self.open.move_to_end(server)
                return server
        return None


class Rotation(Group):
    """A group with an order of turns, in which each member stands as often as its weight says."""

    __slots__ = ("cursor", "order")

    def __init__(self) -> None:
        Group.__init__(self)
        self.order: list[Server] = []
        self.cursor = 0

    def rebuild(self, servers: list[Server]) -> None:
        """Replace the members; whoever was next stays next, so that changes favour nobody."""
        old = self.order[self.cursor :] + self.order[: self.cursor]
        start = self.cursor / len(self.order) if self.order else 0.0
        Group.rebuild(self, servers)
        self.order = [servers[index] for index in interleave([s.effective_weight for s in servers])]
        self.cursor = int(start * len(self.order))
        for server in old:
            if self.holds(server):
                while self.order[self.cursor] is not server:
                    self.cursor = (self.cursor + 1) % len(self.order)
                break

    def step(self) -> Server:
        """The member whose turn it is; the turn passes on."""
        server = self.order[self.cursor]
        self.cursor += 1
        if self.cursor == len(self.order):
            self.cursor = 0
        return server


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


class LeastConn(Rotation):
    """The member with the fewest active exchanges per weight; of equals, the next in turn.

    `server.score` is its load and names the bucket that it is in, -1 for none (full).
    `scores` is a heap of the buckets' names; a bucket may be empty until it comes to the top.
    """

    __slots__ = ("buckets", "scores")

    def __init__(self) -> None:
        Rotation.__init__(self)
        self.buckets: dict[float, OrderedDict[Server, None]] = {}
        self.scores: list[float] = []

    def rebuild(self, servers: list[Server]) -> None:
        """Replace the members, each placed by what it has in progress now."""
        Rotation.rebuild(self, servers)
        self.buckets = {}
        self.scores = []
        for server in servers:
            server.score = -1.0
            self.place(server)

    def choose(self, key: int, tried: list[Server] | None) -> Server | None:
        """The least loaded; those in `tried` stand aside for the length of the call."""
        if not tried:
            return self.least()
        for server in tried:
            if self.holds(server):
                self.withdraw(server)
        found = self.least()
        for server in tried:
            if self.holds(server):
                self.place(server)
        return found

    def least(self) -> Server | None:
        """The next in turn among those with the lowest score."""
        while self.scores and not self.buckets[self.scores[0]]:
            del self.buckets[heappop(self.scores)]
        if not self.scores:
            return None
        lowest = self.scores[0]
        for _ in range(_TIE_WALK):
            server = self.step()
            if server.score == lowest:
                return server
        bucket = self.buckets[lowest]
        for server in bucket:
            bucket.move_to_end(server)
            return server
        return None

    def update(self, server: Server) -> None:
        """Move a member whose `active` has changed to the bucket it belongs to."""
        self.withdraw(server)
        self.place(server)

    def withdraw(self, server: Server) -> None:
        """Take a member out of its bucket; one that is in none stays so."""
        if server.score >= 0.0:
            del self.buckets[server.score][server]
            server.score = -1.0

    def place(self, server: Server) -> None:
        """Put a member that is in no bucket into the one of its score, unless it is full."""
        if server.score >= 0.0 or server.is_full():
            return
        score: float = server.load()
        server.score = score
        bucket = self.buckets.get(score)
        if bucket is None:
            if len(self.scores) > 4 * len(self.members) + 64:
                self.sweep()
            bucket = self.buckets[score] = OrderedDict()
            heappush(self.scores, score)
        bucket[server] = None

    def sweep(self) -> None:
        """Forget the empty buckets. Scores above the lowest never come to the top to be dropped there."""
        self.buckets = {score: bucket for score, bucket in self.buckets.items() if bucket}
        self.scores = list(self.buckets)
        heapify(self.scores)


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
        for _ in range(_TIE_WALK):
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
