"""Counts added up over all workers, in the shape in which metrics and the admin port read live objects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from vsproxy.binding import ListenerKey, listener_keys
from vsproxy.certificate_files import ChangeCounts
from vsproxy.certificate_watch import CertificateWatch
from vsproxy.config.model import Config, PoolConfig
from vsproxy.metrics.sources import ProcessSource, ReloadSource
from vsproxy.rows import (
    CHECK_FIELDS,
    POOL_FIELDS,
    SERVER_FIELDS,
    Record,
    added,
    changes_of,
    check_time_of,
    connect_time_of,
    duration_of,
    failures_of,
    first_byte_of,
    pool_statuses_of,
    server_statuses_of,
    tls_counts_of,
)
from vsproxy.shared_state import SharedState, read_json
from vsproxy.upstream.pool import Pool
from vsproxy.upstream.server import Server
from vsproxy.worker_board import ListenerTotals


class ServerTotals:
    """One server: its state as control has it, its counts as the workers have them."""

    def __init__(self, server: Server, record: Record, checks: Record, active: int) -> None:
        self.name = server.name
        self.address = server.address
        self.state_name = server.state_name
        self.state_reason = server.state_reason
        self.state_since = server.state_since
        self.last_check = server.last_check
        self.weight = server.weight
        self.backup = server.backup
        self.max_connections = server.max_connections
        self.check_successes = int(checks[1])
        self.check_failures = int(checks[2])
        self.check_time = check_time_of(checks)
        self.changes = changes_of(checks)
        self.active = active
        self.idle = range(int(record[1]))
        self.requests = int(record[2])
        self.retries = int(record[3])
        self.bytes_sent = int(record[4])
        self.bytes_received = int(record[5])
        self.statuses = server_statuses_of(record)
        self.tls_handshakes, self.tls_resumed, self.tls_failures = tls_counts_of(record)
        self.failures = failures_of(record)
        self.first_byte = first_byte_of(record)
        self.connect_time = connect_time_of(record)


class PoolTotals:
    """One pool."""

    def __init__(self, pool: Pool, record: Record, servers: Sequence[ServerTotals]) -> None:
        self.name = pool.name
        self.config: PoolConfig = pool.config
        self.secure = pool.secure
        self.servers = servers
        self.queued = int(record[1])
        self.queue_timeouts = int(record[2])
        self.no_server = int(record[3])
        self.statuses = pool_statuses_of(record)
        self.duration = duration_of(record)


class PoolsTotals(Mapping[str, PoolTotals]):
    """All pools."""

    def __init__(self, state: SharedState, pools: Mapping[str, Pool]) -> None:
        self._state = state
        self._pools = pools
        self._actives = [state.active.whole_row(row) for row in range(state.workers)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._pools)

    def __len__(self) -> int:
        return len(self._pools)

    def __getitem__(self, name: str) -> PoolTotals:
        pool = self._pools[name]
        # Before its servers: a worker writes the pool after them, so they have all that the pool's counts tell of.
        record = added(self._state.pools.records(pool.slot, pool.serial), POOL_FIELDS)
        servers = [self._server(server) for server in tuple(pool.servers) if server.slot >= 0]
        return PoolTotals(pool, record, servers)

    def _server(self, server: Server) -> ServerTotals:
        state = self._state
        record = added(state.servers.records(server.slot, server.serial), SERVER_FIELDS)
        checks = added(state.checks.records(server.slot, server.serial), CHECK_FIELDS)
        return ServerTotals(server, record, checks, sum(row[server.slot] for row in self._actives))


class LogTotals:
    """The access logs of all workers, in lines."""

    def __init__(self, boards: Sequence[Mapping[str, Any]]) -> None:
        self.written = sum(board.get("log", [0, 0])[0] for board in boards)
        self.lost = sum(board.get("log", [0, 0])[1] for board in boards)


class Present(Protocol):
    """What control knows by itself."""

    config: Config
    pools: dict[str, Pool]
    watch: CertificateWatch


class Totals:
    """What is read at each scrape; nothing is kept. Reads shared memory only, so any thread will do."""

    def __init__(self, state: SharedState, present: Present) -> None:
        self.draining = False
        self._state = state
        self._present = present

    @property
    def ready(self) -> bool:
        """Whether there is a worker that serves."""
        return any(self._state.is_ready(row) for row in range(self._state.workers))

    @property
    def config(self) -> Config:
        """The configuration in force."""
        return self._present.config

    @property
    def pools(self) -> Mapping[str, PoolTotals]:
        """By name; each is added up when it is asked for."""
        return PoolsTotals(self._state, dict(self._present.pools))

    @property
    def listeners(self) -> list[ListenerTotals]:
        """In the order of the configuration."""
        boards = self._boards()
        addresses = dict.fromkeys(address for board in boards for address in board.get("listeners", {}))
        pairs = self._present.watch.pairs
        listeners = dict(zip(listener_keys(self.config), self.config.listeners, strict=True))

        def expiries(key: ListenerKey) -> dict[str, float]:
            listener = listeners.get(key)
            files = listener.tls.pairs if listener is not None and listener.tls is not None else ()
            return {pair.cert: pairs[pair].expiry for pair in files if pair in pairs}

        return [ListenerTotals(address, boards, expiries) for address in addresses]

    @property
    def certificates(self) -> Mapping[str, ChangeCounts]:
        """What became of new ones, by the file of the certificate."""
        return self._present.watch.counts

    @property
    def access_log(self) -> LogTotals:
        """Lines since the start, also of logs that are closed."""
        return LogTotals(self._boards())

    @property
    def processes(self) -> list[ProcessSource]:
        """As the supervisor says."""
        rows = {"control": self._state.control_row}
        rows |= {f"worker{row}": row for row in range(self._state.workers)}
        return [
            ProcessSource(name, pid, restarts, self._heartbeat_age(rows.get(name)))
            for name, pid, restarts in read_json(self._state.news).get("processes", [])
        ]

    def _heartbeat_age(self, row: int | None) -> float | None:
        age = self._state.heartbeat_age(row) if row is not None else float("inf")
        return None if age == float("inf") else age

    @property
    def reloads(self) -> ReloadSource:
        """As the supervisor says."""
        return ReloadSource(*read_json(self._state.news)["reloads"])

    def _boards(self) -> list[dict[str, Any]]:
        return [read_json(board) for board in self._state.boards]
