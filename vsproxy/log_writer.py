"""Lines to a file, pipe or terminal from a thread of their own, so that the loop never waits for a disk.

The loop thread, which has gathered many lines, appends them to a queue as one piece; the writer thread takes
what is queued, about `BATCH_BYTES` at once, and writes it. A line that cannot be written (full disk, nobody at
the other end of the pipe, a queue at `MAX_QUEUED_BYTES`) is lost and counted; nothing is raised. A line of which
a full disk has taken half is finished as soon as there is room.

Several processes, and the old and the new writer during a reload, may share one output: see `log_output`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque

from vsproxy.log_output import STANDARD, LogOutput

#: Seconds that one attempt to write waits for room in the output, or for its lock.
PATIENCE = 0.1
#: About as much is written at once, and about as much should be put at once.
BATCH_BYTES = 64 * 1024
MAX_QUEUED_BYTES = 8 * 1024 * 1024
CLOSE_TIMEOUT = 1.0
#: Seconds beyond the timeout of `close` in which an output that takes bytes, but slowly, may finish a line.
_OVERTIME = 0.25
#: Seconds beyond it after which the thread is given up.
_STUCK_TIMEOUT = 1.0

_logger = logging.getLogger(__name__)


class LogWriter:
    """A queue of lines and the daemon thread that writes them to `path` (`-`: stdout).

    `put`, `reopen`, `start` and `close` belong to one thread, the loop's; the rest runs in the writer thread.
    Each counter is written by one side only, so no lock is taken per line.
    """

    def __init__(self, path: str, lock: int | None = None) -> None:
        """`lock`: a descriptor common to all processes that write to `path`, see `LogLock`."""
        self._path = path
        self._lock = lock
        self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)
        self._wake = threading.Event()
        self._queue: deque[tuple[bytes, int]] = deque()

        # Written by the loop thread
        self._refused = 0
        self._put_bytes = 0
        self._closing = False
        self._close_by = 0.0
        self._reopen_wanted = False

        # Written by the writer thread
        self.written = 0
        self._failed = 0
        self._taken_bytes = 0
        self._idle = False
        self._output: LogOutput | None = None
        # What is being written: `_rest`, of `_count` lines, from `_at` on. When that fails in the middle of a
        # line, the rest of it is kept in `_tail`, which comes before all else.
        self._rest = b""
        self._count = 0
        self._at = 0
        self._tail = b""
        self._failing = False

    @property
    def lost(self) -> int:
        """Lines that were put and will never be written."""
        return self._refused + self._failed

    def start(self) -> None:
        """Open the output and start the thread. Raises OSError that names the path if it cannot be opened."""
        self._output = LogOutput(self._path, lock=self._lock)
        self._thread.start()

    def put(self, lines: bytes, count: int = 1) -> None:
        """Queue `count` whole lines, each with its newline. Never blocks; a full queue loses them."""
        if self._put_bytes - self._taken_bytes > MAX_QUEUED_BYTES or self._closing:
            self._refused += count
            return
        self._put_bytes += len(lines)
        self._queue.append((lines, count))
        # Waking costs a lock and a switch of threads, and who is writing looks again before it sleeps.
        if self._idle and not self._wake.is_set():
            self._wake.set()

    def reopen(self) -> None:
        """Have the thread write what is queued, then open the path again: for after a rename."""
        if self._path != STANDARD:
            self._reopen_wanted = True
            self._wake.set()

    def close(self, timeout: float = CLOSE_TIMEOUT) -> None:
        """Write what is queued and end the thread; what is not written after `timeout` seconds is lost."""
        self._close_by = time.monotonic() + timeout
        self._closing = True
        self._wake.set()
        if self._thread.ident is None:
            self._refused += sum(count for _, count in self._queue)
            self._queue.clear()
            return
        # A write to a dead disk may never return; the thread is a daemon and is left behind then.
        self._thread.join(timeout + _STUCK_TIMEOUT)

    def _run(self) -> None:
        while not self._closing:
            self._sleep()
            self._flush()
            if self._reopen_wanted:
                self._open_again()
        self._flush()
        self._lose(self._unwritten())
        self._failed += self._take(self._put_bytes)[1]
        self._current_output().close()

    def _sleep(self) -> None:
        """Sleep until there is something to do."""
        self._idle = True
        # Looked at after `_idle` is set, as `put` looks at `_idle` after its append: one of the two sees.
        if not (self._queue or self._rest or self._closing or self._reopen_wanted):
            # Others may be waiting for the end of our line.
            self._wake.wait(PATIENCE if self._tail else None)
        self._idle = False
        self._wake.clear()

    def _flush(self) -> None:
        """Write until nothing is left, or until the output is blocked and something else is wanted."""
        output = self._current_output()
        self._refill(b"", 0)
        while self._rest or self._queue:
            if not self._rest:
                self._refill(*self._take(BATCH_BYTES - len(self._tail)))
            overtime = time.monotonic() - self._close_by if self._closing else -1.0
            if overtime >= _OVERTIME:
                break
            if self._write(output):
                continue
            if self._reopen_wanted or overtime >= 0:
                break
        output.give_way()

    def _refill(self, lines: bytes, count: int) -> None:
        if not self._rest:
            self._count = count + (1 if self._tail else 0)
            self._rest, self._tail = self._tail + lines, b""

    def _take(self, most: int) -> tuple[bytes, int]:
        """Lines of the queue and their number: what fits into `most` bytes, but one piece at least if there is any."""
        pieces: list[bytes] = []
        size = total = 0
        # Only this thread removes, so a queue that is not empty stays so.
        while self._queue and (not pieces or size + len(self._queue[0][0]) <= most):
            piece, count = self._queue.popleft()
            size += len(piece)
            total += count
            pieces.append(piece)
        self._taken_bytes += size
        return b"".join(pieces), total

    def _write(self, output: LogOutput) -> bool:
        """One write, once there is room; False if there is none. What a failure loses is counted."""
        try:
            if not output.ready(PATIENCE):
                return False
            count = output.write(self._rest, self._at)
        except BlockingIOError:
            return False
        except OSError as error:
            self._give_up_rest(output, error)
            return True
        end = self._at + count
        if count == len(self._rest):
            # All of it at once, as nearly always with a file: they need not be counted again.
            self.written += self._count
        else:
            self.written += self._rest.count(b"\n", self._at, end)
        self._rest, self._at = (self._rest, end) if end < len(self._rest) else (b"", 0)
        if not self._rest:
            # Between batches others have a chance, also when our queue never gets empty.
            output.give_way()
        if self._failing:
            self._failing = False
            _logger.warning("access log: %s can be written again, %d lines were lost", self._path, self.lost)
        return True

    def _give_up_rest(self, output: LogOutput, error: OSError) -> None:
        """Lose what is being written, except the remainder of a line that is half in the file."""
        unwritten = self._unwritten()
        end = unwritten.index(b"\n") + 1 if output.torn else 0
        self._tail = unwritten[:end]
        self._lose(unwritten[end:])
        output.give_way()
        if not self._failing:
            self._failing = True
            _logger.error("access log: %s cannot be written, lines are lost: %s", self._path, error)

    def _open_again(self) -> None:
        self._reopen_wanted = False
        try:
            output = LogOutput(self._path, lock=self._lock)
        except OSError as error:
            _logger.error("access log: %s cannot be reopened, the old file is kept: %s", self._path, error)
            return
        old, self._output = self._current_output(), output
        old.close()
        if old.torn:
            # Its first half is in the other file.
            torn, newline, self._rest = self._unwritten().partition(b"\n")
            self._lose(torn + newline)

    def _unwritten(self) -> bytes:
        """What was taken from the queue and not written; it is taken away."""
        unwritten = self._rest[self._at :] + self._tail
        self._rest, self._at, self._tail = b"", 0, b""
        return unwritten

    def _lose(self, data: bytes) -> None:
        self._failed += data.count(b"\n")

    def _current_output(self) -> LogOutput:
        if self._output is None:
            raise RuntimeError("the log is not started")
        return self._output
