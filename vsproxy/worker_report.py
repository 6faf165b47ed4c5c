"""A worker's side of the shared tables: what it writes of its own counts, what it reads of the others'."""

from __future__ import annotations

from collections.abc import Iterable

from vsproxy.rows import Record, pool_record, server_record
from vsproxy.shared_state import SharedState, others_of, publish_json
from vsproxy.traffic import Traffic
from vsproxy.turns import turns_of
from vsproxy.upstream.pool import Pool
from vsproxy.upstream.server import Server
from vsproxy.worker_board import listener_counts


class Reporter:
    """For the worker of row `number`."""

    def __init__(self, state: SharedState, number: int, traffic: Traffic) -> None:
        self._state = state
        self._number = number
        self._traffic = traffic
        self._servers: list[Server] = []
        self._active: dict[Server, int] = {}
        # By server: what has to change before its record is worth writing again.
        self._written: dict[Server, tuple[int, ...]] = {}
        # Of pools, from before the first of their servers was written.
        self._records: dict[Pool, Record] = {}
        self._turn = 0
        self._board: object = None

    def report(self, pools: Iterable[Pool], at_once: bool = False) -> None:
        """Write what has changed since the last time; of many servers a part, unless all is wanted `at_once`."""
        # Of the others, control has not said yet where their counts belong.
        known = [pool for pool in pools if pool.slot >= 0]
        servers = [server for pool in known for server in pool.servers]
        self._write_active(servers)
        turns = 1 if at_once else turns_of(len(servers))
        turn = self._turn % turns
        self._turn = turn + 1
        if turn == 0:
            self._records = {pool: pool_record(pool) for pool in known}
        for server in servers[turn::turns]:
            self._write_server(server)
        if turn == turns - 1:
            self._write_pools(known)
        self._write_board()

    def _write_active(self, servers: list[Server]) -> None:
        table, number, active = self._state.active, self._number, self._active
        # First: a slot may come to mean another one.
        if servers != self._servers:
            for server in set(self._servers).difference(servers):
                table.write(number, server.slot, (0,))
                self._state.claims.write(number, server.slot, (0,))
                active.pop(server, None)
                self._written.pop(server, None)
            self._servers = servers
        for server in servers:
            if server.active != active.get(server, 0):
                active[server] = server.active
                table.write(number, server.slot, (server.active,))

    def _write_server(self, server: Server) -> None:
        mark = (
            server.requests,
            server.bytes_sent + server.bytes_received,
            len(server.idle),
            sum(server.failures.values()),
            sum(server.statuses),
            server.tls_handshakes + server.tls_failures,
        )
        if self._written.get(server) != mark:
            self._written[server] = mark
            self._state.servers.write(self._number, server.slot, server_record(server))

    def _write_pools(self, pools: list[Pool]) -> None:
        # A scrape reads them before their servers, so that these never have less.
        for pool in pools:
            record = self._records.get(pool)
            if record is not None and record[0] == pool.serial:
                self._state.pools.write(self._number, pool.slot, record)

    def _write_board(self) -> None:
        board = {
            "listeners": {
                listener.address: listener_counts(listener) for listener in self._traffic.listeners
            },
            "log": self._traffic.log_lines,
        }
        if board != self._board:
            self._board = board
            publish_json(self._state.boards[self._number], board)

    def read_others(self, pools: Iterable[Pool]) -> None:
        """Let balancers know what the other workers have in progress, and let those who wait look again."""
        if self._state.workers == 1:
            return
        others = others_of(self._state.active, self._number)
        claims = others_of(self._state.claims, self._number)
        for pool in pools:
            for server in pool.servers:
                if server.slot < 0:
                    continue
                active = sum([row[server.slot] for row in others])
                claim = -1
                if server.max_connections:
                    claim = self._claim(server, sum([row[server.slot] for row in claims]))
                if active != server.elsewhere or claim != server.claim:
                    pool.balancer.note_others(server, active, claim)
            if pool.queue.size:
                pool.wake()

    def first_claim(self, server: Server) -> int:
        """Our part of `max_connections` until there was a look at the others; -1 for all, or for no limit."""
        if self._state.workers == 1 or not server.max_connections:
            return -1
        return max(1, server.max_connections // self._state.workers)

    def _claim(self, server: Server, claimed: int) -> int:
        """How many exchanges we may have on a server with `max_connections`, of which the others claim `claimed`.

        What is free is divided; who has nothing to do asks for less, so that in the end the busy have nearly
        all. Each may always have one: together at most workers - 1 too many.
        """
        free = server.max_connections - server.active - claimed
        share = 0
        if free > 0:
            share = -(-free // self._state.workers) if server.active else free // self._state.workers
        claim = server.active + share
        # Written before it is used: nobody else counts on it then.
        self._state.claims.write(self._number, server.slot, (claim,))
        return max(1, claim)
