"""What a server, a pool and the checks of a server look like as rows of shared memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vsproxy.histogram import BOUNDS, Histogram
from vsproxy.upstream.pool import Pool
from vsproxy.upstream.server import FAILURE_KINDS, Server

Record = Sequence[float]

_BUCKETS = len(BOUNDS) + 1
_CLASSES = slice(1, 6)

# serial, idle, requests, retries, bytes sent, bytes received; responses by class; handshakes of TLS that were made,
# that were resumed, that failed; failures by kind; first byte and connect: buckets; their totals
SERVER_LAYOUT = f"{6 + 5 + 3 + len(FAILURE_KINDS) + 2 * _BUCKETS}q2d"
SERVER_FIELDS = 6 + 5 + 3 + len(FAILURE_KINDS) + 2 * _BUCKETS + 2
SERVER_GAUGES = (1,)
_TLS = slice(11, 14)
_FAILURES = slice(14, 14 + len(FAILURE_KINDS))
_FIRST_BYTE = slice(_FAILURES.stop, _FAILURES.stop + _BUCKETS)
_CONNECT = slice(_FIRST_BYTE.stop, _FIRST_BYTE.stop + _BUCKETS)
# serial, queued, queue timeouts, no server; responses by class; duration: buckets; its total
POOL_LAYOUT = f"{4 + 5 + _BUCKETS}q1d"
POOL_FIELDS = 4 + 5 + _BUCKETS + 1
POOL_GAUGES = (1,)
# serial, successes, failures; changes by state; duration: buckets; its total
CHECK_LAYOUT = f"{3 + 5 + _BUCKETS}q1d"
CHECK_FIELDS = 3 + 5 + _BUCKETS + 1
# exchanges in progress, alone, so that a worker reads those of another in one go
ACTIVE_LAYOUT = "q"
# pid, ready, heartbeat (time.monotonic())
PROCESS_LAYOUT = "2qd"


def server_record(server: Server) -> Record:
    """The counts of `server`."""
    failures = server.failures
    return (
        server.serial,
        len(server.idle),
        server.requests,
        server.retries,
        server.bytes_sent,
        server.bytes_received,
        *server.statuses[_CLASSES],
        server.tls_handshakes,
        server.tls_resumed,
        server.tls_failures,
        *[failures.get(kind, 0) for kind in FAILURE_KINDS],
        *server.first_byte.counts,
        *server.connect_time.counts,
        server.first_byte.total,
        server.connect_time.total,
    )


def restore_server(server: Server, record: Record) -> None:
    """Set the counts of `server`, but not its idle connections, to those of `record`."""
    server.requests = int(record[2])
    server.retries = int(record[3])
    server.bytes_sent = int(record[4])
    server.bytes_received = int(record[5])
    server.statuses = server_statuses_of(record)
    server.tls_handshakes, server.tls_resumed, server.tls_failures = tls_counts_of(record)
    server.failures = failures_of(record)
    server.first_byte = first_byte_of(record)
    server.connect_time = connect_time_of(record)


def failures_of(record: Record) -> dict[str, int]:
    """The failures in a server's record, by kind."""
    return dict(zip(FAILURE_KINDS, _whole(record[_FAILURES]), strict=True))


def tls_counts_of(record: Record) -> list[int]:
    """The handshakes in a server's record: those made, those of them that were resumed, those that failed."""
    return _whole(record[_TLS])


def pool_record(pool: Pool) -> Record:
    """The counts of `pool`."""
    return (
        pool.serial,
        pool.queued,
        pool.queue_timeouts,
        pool.no_server,
        *pool.statuses[_CLASSES],
        *pool.duration.counts,
        pool.duration.total,
    )


def restore_pool(pool: Pool, record: Record) -> None:
    """Set the counts of `pool`, but not its queue, to those of `record`."""
    pool.queue_timeouts = int(record[2])
    pool.no_server = int(record[3])
    pool.statuses = pool_statuses_of(record)
    pool.duration = duration_of(record)


def check_record(server: Server) -> Record:
    """What is counted of `server` where it is checked."""
    return (
        server.serial,
        server.check_successes,
        server.check_failures,
        *server.changes,
        *server.check_time.counts,
        server.check_time.total,
    )


def restore_checks(server: Server, record: Record) -> None:
    """Set what is counted of the checks of `server` to what `record` says."""
    server.check_successes = int(record[1])
    server.check_failures = int(record[2])
    server.changes = changes_of(record)
    server.check_time = check_time_of(record)


def added(records: Iterable[Record], length: int) -> list[float]:
    """The sums of `records`, field by field; zeros if there are none."""
    return [sum(column) for column in zip(*records, strict=True)] or [0] * length


def server_statuses_of(record: Record) -> list[int]:
    """Responses by class in a server's record, class 1 at index 1."""
    return [0, *_whole(record[6:11])]


def first_byte_of(record: Record) -> Histogram:
    """The times to the first byte in a server's record."""
    return _histogram(record[_FIRST_BYTE], record[-2])


def connect_time_of(record: Record) -> Histogram:
    """The connect times in a server's record."""
    return _histogram(record[_CONNECT], record[-1])


def pool_statuses_of(record: Record) -> list[int]:
    """Responses by class in a pool's record, class 1 at index 1."""
    return [0, *_whole(record[4:9])]


def duration_of(record: Record) -> Histogram:
    """The durations of exchanges in a pool's record."""
    return _histogram(record[9:-1], record[-1])


def changes_of(record: Record) -> list[int]:
    """How often each state was entered, in a record of checks."""
    return _whole(record[3:8])


def check_time_of(record: Record) -> Histogram:
    """The durations in a record of checks."""
    return _histogram(record[8:-1], record[-1])


def _histogram(counts: Record, total: float) -> Histogram:
    histogram = Histogram()
    histogram.counts = _whole(counts)
    histogram.total = total
    return histogram


def _whole(values: Record) -> list[int]:
    return [int(value) for value in values]
