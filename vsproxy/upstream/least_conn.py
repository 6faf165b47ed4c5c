# cython: annotation_typing=False
"""The server with the least in progress, found at the same cost among two as among a thousand."""

from __future__ import annotations

from vsproxy.upstream.group import Rotation
from vsproxy.upstream.server import Server

# How far along the order to look for a server that ties for the lowest score. It covers every pool of usual size;
# beyond it the one that has waited longest at that score is next.
TIE_WALK = 8
_TIE_WALK = TIE_WALK


class Bucket:
    """Servers of one score, in a row that runs through their `before` and `after`; who came first is first.

    `place` is where it is in the heap, -1 if it is not. `below` and `above` are buckets that servers went to
    from here: most go the same way again.
    """

    __slots__ = ("above", "below", "first", "last", "place", "score")

    def __init__(self, score: float) -> None:
        self.score = score
        self.place = -1
        self.first: Server | None = None
        self.last: Server | None = None
        self.below: Bucket | None = None
        self.above: Bucket | None = None

    def append(self, server: Server) -> None:
        """Put a server that is in no bucket at the end."""
        last = self.last
        server.bucket = self
        server.before = last
        if last is None:
            self.first = server
        else:
            last.after = server
        self.last = server

    def remove(self, server: Server) -> None:
        """Take out one that is in it."""
        before = server.before
        after = server.after
        if before is None:
            self.first = after
        else:
            before.after = after
        if after is None:
            self.last = before
        else:
            after.before = before
        server.bucket = None
        server.before = None
        server.after = None


class LeastConn(Rotation):
    """The member with the fewest active exchanges per weight; of equals, the next in turn.

    Members that are not full are in the bucket of their load. `heap` holds the buckets by score; one may be
    empty until it comes to the top, and then stays in `buckets`, where the next server of its score finds it.
    """

    __slots__ = ("buckets", "heap")

    def __init__(self) -> None:
        Rotation.__init__(self)
        self.buckets: dict[float, Bucket] = {}
        self.heap: list[Bucket] = []

    def rebuild(self, servers: list[Server]) -> None:
        """Replace the members, each placed by what it has in progress now."""
        Rotation.rebuild(self, servers)
        self.buckets = {}
        self.heap = []
        for server in servers:
            server.bucket = None
            server.before = None
            server.after = None
            self.place(server, None)

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
                self.place(server, None)
        return found

    def least(self) -> Server | None:
        """The next in turn among those with the lowest score."""
        bucket = self.lowest()
        if bucket is None:
            return None
        for _ in range(_TIE_WALK):
            server = self.step()
            if server.bucket is bucket:
                return server
        first = bucket.first
        bucket.remove(first)  # type: ignore[arg-type]
        bucket.append(first)  # type: ignore[arg-type]
        return first

    def lowest(self) -> Bucket | None:
        """The bucket with the lowest score that has a server in it."""
        while self.heap:
            bucket = self.heap[0]
            if bucket.first is not None:
                return bucket
            self.pop()
        return None

    def update(self, server: Server) -> None:
        """Move a member whose `active` has changed to the bucket it belongs to."""
        before: Bucket | None = server.bucket  # type: ignore[assignment]
        if before is not None:
            before.remove(server)
        self.place(server, before)

    def withdraw(self, server: Server) -> None:
        """Take a member out of its bucket; one that is in none stays so."""
        bucket: Bucket | None = server.bucket  # type: ignore[assignment]
        if bucket is not None:
            bucket.remove(server)

    def place(self, server: Server, before: Bucket | None) -> None:
        """Put a member that is in no bucket into the one of its score, unless it is full. It was in `before`."""
        if server.bucket is not None or server.is_full():
            return
        score = server.load()
        bucket = None
        if before is not None:
            bucket = before.above if score > before.score else before.below
        if bucket is None or bucket.score != score:
            bucket = self.bucket_of(score)
            if before is not None:
                if score > before.score:
                    before.above = bucket
                else:
                    before.below = bucket
        bucket.append(server)
        if bucket.place < 0:
            self.push(bucket)

    def bucket_of(self, score: float) -> Bucket:
        """The bucket of `score`, made if need be."""
        bucket = self.buckets.get(score)
        if bucket is None:
            if len(self.buckets) > 4 * len(self.members) + 64:
                self.sweep()
            bucket = Bucket(score)
            self.buckets[score] = bucket
        return bucket

    def sweep(self) -> None:
        """Forget the empty buckets, and the ways between all."""
        kept = [bucket for bucket in self.buckets.values() if bucket.first is not None]
        for bucket in self.buckets.values():
            bucket.above = bucket.below = None
            bucket.place = -1
        self.buckets = {bucket.score: bucket for bucket in kept}
        self.heap = []
        for bucket in kept:
            self.push(bucket)

    # The heap is written out: heapq would compare by a method, and a bucket has to know where it is.

    def push(self, bucket: Bucket) -> None:
        """Put a bucket into the heap that is not in it."""
        heap = self.heap
        place = len(heap)
        heap.append(bucket)
        while place > 0:
            parent = heap[(place - 1) >> 1]
            if parent.score <= bucket.score:
                break
            heap[place] = parent
            parent.place = place
            place = (place - 1) >> 1
        heap[place] = bucket
        bucket.place = place

    def pop(self) -> None:
        """Take the first bucket out of the heap."""
        heap = self.heap
        first = heap[0]
        first.place = -1
        last = heap.pop()
        size = len(heap)
        if size == 0:
            return
        place = 0
        while True:
            next_place = 2 * place + 1
            if next_place >= size:
                break
            child = heap[next_place]
            if next_place + 1 < size:
                other = heap[next_place + 1]
                if other.score < child.score:
                    child = other
                    next_place += 1
            if last.score <= child.score:
                break
            heap[place] = child
            child.place = place
            place = next_place
        heap[place] = last
        last.place = place
