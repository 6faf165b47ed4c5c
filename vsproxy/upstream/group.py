# cython: annotation_typing=False
"""A pool's primaries or backups: who can be chosen, and in which order they take turns."""

from __future__ import annotations

from collections import OrderedDict

from vsproxy.upstream.interleave import interleave
from vsproxy.upstream.server import Server


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
