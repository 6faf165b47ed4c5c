"""What control tells all workers: which servers the pools have and in which state, as a text on a board."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from vsproxy.errors import VsproxyError
from vsproxy.shared import Board
from vsproxy.upstream.entry import ServerEntry
from vsproxy.upstream.pool import Pool
from vsproxy.upstream.server import DRAIN, MAINT, Server


@dataclass(frozen=True)
class PoolEntry:
    """A pool with its servers. `serial` and `slot` as of `ServerEntry`."""

    serial: int
    slot: int
    servers: tuple[ServerEntry, ...]


@dataclass(frozen=True)
class Directory:
    """`version` is that of the configuration, 0 before the first; `serial` the highest that was ever given."""

    version: int = 0
    serial: int = 0
    pools: Mapping[str, PoolEntry] = field(default_factory=dict)


def read_directory(board: Board) -> Directory:
    """The directory that is on `board`; an empty one of version 0 if nothing is."""
    _, text = board.read()
    if not text:
        return Directory()
    version, serial, pools = json.loads(text)
    return Directory(
        version,
        serial,
        {
            name: PoolEntry(pool_serial, slot, tuple(ServerEntry(*entry) for entry in servers))
            for name, (pool_serial, slot, servers) in pools.items()
        },
    )


def write_directory(board: Board, version: int, serial: int, pools: Mapping[str, Pool]) -> None:
    """Publish the present state of `pools`. Raises ValueError if it does not fit."""
    table = {
        name: (pool.serial, pool.slot, [_entry(pool, server) for server in pool.servers if server.slot >= 0])
        for name, pool in pools.items()
    }
    board.publish(json.dumps((version, serial, table), separators=(",", ":")).encode())


def _entry(pool: Pool, server: Server) -> ServerEntry:
    return ServerEntry(
        server.serial,
        server.slot,
        server.name,
        server.host,
        server.port,
        server.weight,
        server.backup,
        server.max_connections,
        server.state,
        server.state_reason,
        server.state_since,
        pool.slow_start.since(server),
    )


class Registry:
    """Gives serials and slots to pools and servers. What a predecessor had given stays with its address.

    Freed slots are used again only after all others, so that nobody reads an old count as a new one.
    """

    def __init__(self, predecessor: Directory, server_slots: int, pool_slots: int) -> None:
        self._pools = dict(predecessor.pools)
        self._servers = {
            (name, entry.name, entry.host, entry.port): entry
            for name, pool in predecessor.pools.items()
            for entry in pool.servers
        }
        taken = {entry.slot for pool in predecessor.pools.values() for entry in pool.servers}
        #: The highest that was ever given: what is published has to carry it.
        self.serial = predecessor.serial
        self._server_slots = _free(server_slots, taken)
        self._pool_slots = _free(pool_slots, {pool.slot for pool in predecessor.pools.values()})

    def admit_pool(self, pool: Pool) -> None:
        """Give `pool` its slot. Raises VsproxyError if there is none left."""
        known = self._pools.pop(pool.name, None)
        if known is not None:
            pool.slot, pool.serial = known.slot, known.serial
            return
        if not self._pool_slots:
            raise VsproxyError(f"pool {pool.name}: there is no room for its counts until a restart")
        pool.slot = self._pool_slots.popleft()
        pool.serial = self._next_serial()

    def admit_server(self, pool: Pool, server: Server) -> bool:
        """Give `server` of `pool` its slot, and the state that it had; False if there is no slot left."""
        known = self._servers.pop((pool.name, server.name, server.host, server.port), None)
        if known is not None:
            server.slot, server.serial = known.slot, known.serial
            _restore_state(pool, server, known)
            return True
        if not self._server_slots:
            return False
        server.slot = self._server_slots.popleft()
        server.serial = self._next_serial()
        return True

    def forget_predecessor(self) -> None:
        """Whatever has not been taken up again by now is gone; its slots are free."""
        self._server_slots.extend(entry.slot for entry in self._servers.values())
        self._pool_slots.extend(pool.slot for pool in self._pools.values())
        self._servers.clear()
        self._pools.clear()

    def release_server(self, server: Server) -> None:
        """`server` is gone for good."""
        if server.slot >= 0:
            self._server_slots.append(server.slot)

    def release_pool(self, pool: Pool) -> None:
        """`pool` is gone for good."""
        self._pool_slots.append(pool.slot)

    def _next_serial(self) -> int:
        self.serial += 1
        return self.serial


def _restore_state(pool: Pool, server: Server, known: ServerEntry) -> None:
    """What was found out about `server` holds on. Drain and maintenance are the configuration's to say."""
    if server.state != known.state:
        if DRAIN in (server.state, known.state) or MAINT in (server.state, known.state):
            return
        server.state = known.state
    server.state_reason, server.state_since = known.state_reason, known.state_since
    if known.ramping_since:
        pool.begin_slow_start(server, time.time() - known.ramping_since)


def _free(slots: int, taken: set[int]) -> deque[int]:
    """The free slots, those that were free for the longest first: the ones behind all that are taken."""
    last = max(taken, default=-1)
    order = [*range(last + 1, slots), *range(last + 1)]
    return deque(slot for slot in order if slot not in taken)
