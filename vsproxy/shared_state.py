"""All that the processes of one vsproxy share, made by the supervisor before it forks."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from vsproxy.config.model import Config
from vsproxy.rows import (
    ACTIVE_LAYOUT,
    CHECK_LAYOUT,
    POOL_GAUGES,
    POOL_LAYOUT,
    PROCESS_LAYOUT,
    SERVER_GAUGES,
    SERVER_LAYOUT,
)
from vsproxy.shared import WORD, Arena, Board, Poke, Table

#: Room is made for this many times the servers and pools there are at start, and for no fewer than these.
GROWTH = 4
LEAST_SERVERS = 1024
LEAST_POOLS = 128
#: Bytes of a board per server, and at least.
BOARD_PER_SERVER = 512
LEAST_BOARD = 256 * 1024
#: Bytes that a listener may take on a worker's board.
BOARD_PER_LISTENER = 1024
#: Bytes that the counts of a certificate take, beside the name of its file.
BOARD_PER_CERTIFICATE = 128


class SharedState:
    """Tables of counts with a row per worker, boards with texts, and what wakes each process.

    `active` has what each worker has in progress on a server, `claims` what it may have of `max_connections`.
    `directory` is control's: servers and their states. `boards` are the workers' own, for what is not worth a
    table. `news` is the supervisor's, `certificates` has what control counts of these. `processes` has a row per
    worker and a last one for control.
    """

    def __init__(self, workers: int, config: Config) -> None:
        servers = max(LEAST_SERVERS, GROWTH * sum(len(pool.servers) for pool in config.pools.values()))
        pools = max(LEAST_POOLS, GROWTH * len(config.pools))
        board = max(LEAST_BOARD, BOARD_PER_SERVER * servers)
        layouts = (
            (workers, servers, SERVER_LAYOUT),
            (workers, servers, ACTIVE_LAYOUT),
            (workers, servers, ACTIVE_LAYOUT),
            (workers, pools, POOL_LAYOUT),
            (1, servers, CHECK_LAYOUT),
            (workers + 1, 1, PROCESS_LAYOUT),
        )
        sizes = [Table.size(*layout) for layout in layouts]
        certificates = max(LEAST_BOARD, GROWTH * _certificate_bytes(config))
        texts = [2 * board, 2 * certificates] + [2 * LEAST_BOARD] * (workers + 1)
        arena = Arena(sum(sizes) + sum(texts) + (len(sizes) + len(texts)) * WORD)
        tables = [
            Table(arena.take(size), *layout) for size, layout in zip(sizes, layouts, strict=True)
        ]
        boards = [Board(arena.take(size)) for size in texts]
        self.workers = workers
        self.servers, self.active, self.claims, self.pools, self.checks, self.processes = tables
        self.directory, self.certificates, self.news, *self.boards = boards
        self.worker_pokes = [Poke() for _ in range(workers)]
        self.control_poke = Poke()

    @property
    def control_row(self) -> int:
        """The row of control in `processes`."""
        return self.workers

    def poke_workers(self) -> None:
        """There is something new in the directory."""
        for poke in self.worker_pokes:
            poke.set()

    def beat(self, row: int, ready: bool) -> None:
        """Say that the process of `row` lives, and whether it is ready."""
        self.processes.write(row, 0, (os.getpid(), ready, time.monotonic()))

    def heartbeat_age(self, row: int) -> float:
        """Seconds since the last beat of the process of `row`; infinite if there was none."""
        last = self.processes.read(row, 0)[2]
        return time.monotonic() - last if last else float("inf")

    def is_ready(self, row: int) -> bool:
        """Whether the process of `row` has said that it is ready."""
        return bool(self.processes.read(row, 0)[1])

    def bury(self, row: int) -> None:
        """The process of `row` is dead: what it had in progress is no more; what it counted stays."""
        self.processes.write(row, 0, (0, 0, 0.0))
        if row == self.control_row:
            return
        for slot in range(self.servers.slots):
            self.active.clear(row, slot, (0,))
            self.claims.clear(row, slot, (0,))
            if self.servers.word(row, slot, 0):
                self.servers.clear(row, slot, SERVER_GAUGES)
        for slot in range(self.pools.slots):
            self.pools.clear(row, slot, POOL_GAUGES)
        board = read_json(self.boards[row])
        for counts in board.get("listeners", {}).values():
            counts |= {"active": 0, "paused": False}
        if board:
            publish_json(self.boards[row], board)

    def fits(self, config: Config) -> str:
        """Why the servers and pools of `config` do not fit in here; empty if they do."""
        servers = sum(len(pool.servers) for pool in config.pools.values())
        # Names have several addresses, and slots are not used again at once: half of the room is for that.
        if servers > self.servers.slots // 2:
            return f"{servers} servers; there is room for {self.servers.slots // 2} until a restart"
        if len(config.listeners) > LEAST_BOARD // BOARD_PER_LISTENER:
            return f"{len(config.listeners)} listeners; there is room for {LEAST_BOARD // BOARD_PER_LISTENER}"
        if _certificate_bytes(config) > self.certificates.capacity:
            return "more certificates than there is room for until a restart"
        if len(config.pools) > self.pools.slots // 2:
            return f"{len(config.pools)} pools; there is room for {self.pools.slots // 2} until a restart"
        return ""


def _certificate_bytes(config: Config) -> int:
    """What the board of certificates has to hold, and a little more."""
    pairs = [files for listener in config.listeners if listener.tls is not None for files in listener.tls.pairs]
    return sum(BOARD_PER_CERTIFICATE + len(json.dumps(files.cert)) for files in set(pairs))


def publish_json(board: Board, value: object) -> None:
    """Put `value` on `board`. Raises ValueError if it is too long."""
    board.publish(json.dumps(value, separators=(",", ":")).encode())


def read_json(board: Board) -> dict[str, Any]:
    """What is on `board`; empty if nothing is."""
    _, text = board.read()
    value: dict[str, Any] = json.loads(text) if text else {}
    return value


def others_of(table: Table, own_row: int) -> list[list[int]]:
    """The rows of the other workers, of a table whose records are one whole number."""
    return [table.whole_row(row) for row in range(table.rows) if row != own_row]
