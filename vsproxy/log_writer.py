"""Lines to a file, pipe or terminal from a thread of their own, so that the loop never waits for a disk.

The loop thread appends to a queue; the writer thread takes what has gathered every `FLUSH_INTERVAL`, or as
soon as `BATCH_BYTES` are queued, and writes it in one call. A line that cannot be written (full disk, nobody
at the other end of the pipe, a queue at `MAX_QUEUED_BYTES`) is lost and counted; nothing is raised.

Several processes may share one output: a file is opened with O_APPEND, and to anything else (pipe, socket,
terminal) no more than PIPE_BUF bytes go out at once, ending at the end of a line, which POSIX keeps in one
piece. Only lines longer than PIPE_BUF can then be mixed with those of another process.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import stat
import threading
import time
from collections import deque

FLUSH_INTERVAL = 0.1
BATCH_BYTES = 64 * 1024
MAX_QUEUED_BYTES = 8 * 1024 * 1024
CLOSE_TIMEOUT = 1.0
STDOUT = "-"
_STDOUT_DESCRIPTOR = 1
_STUCK_TIMEOUT = 0.5

_logger = logging.getLogger(__name__)


class LogOutput:
    """An open descriptor for log lines. `most` is how many bytes may go out in one write."""

    def __init__(self, path: str) -> None:
        """Open `path` for appending, creating it; `-` is stdout. Raises OSError."""
        # Ours, and not blocking, unless it is stdout: that flag would be shared with whoever else holds it.
        self._descriptor = os.dup(_STDOUT_DESCRIPTOR) if path == STDOUT else _open(path)
        self._regular = stat.S_ISREG(os.fstat(self._descriptor).st_mode)
        self.most = BATCH_BYTES if self._regular else select.PIPE_BUF
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLOUT)

    def is_writable(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds until a write would not block; an error counts as writable."""
        return self._regular or bool(self._poll.poll(timeout * 1000))

    def write(self, data: bytes) -> int:
        """How many of the bytes were taken. Raises OSError."""
        return os.write(self._descriptor, data)

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._descriptor)


def _open(path: str) -> int:
    flags = os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        return os.open(path, os.O_WRONLY | flags, 0o644)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
    # A FIFO that nobody reads yet; Linux opens it for both, and a reader may come later (fifo(7)).
    return os.open(path, os.O_RDWR | flags, 0o644)


class LogWriter:
    """A queue of lines and the daemon thread that writes them to `path` (`-`: stdout).

    `put`, `reopen`, `start` and `close` belong to one thread, the loop's; the rest runs in the writer thread.
    Each counter is written by one side only, so no lock is taken per line.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)
        self._wake = threading.Event()
        self._queue: deque[str] = deque()

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
        self._rest = b""
        # `_rest`, or when that is empty `_tail`, begins in the middle of a line whose start is written.
        self._torn = False
        self._tail = b""
        self._failing = False

    @property
    def lost(self) -> int:
        """Lines that were put and will never be written."""
        return self._refused + self._failed

    def start(self) -> None:
        """Open the output and start the thread. Raises OSError if it cannot be opened."""
        self._output = LogOutput(self._path)
        self._thread.start()

    def put(self, line: str) -> None:
        """Queue one line, ASCII, ending with its only newline. Never blocks; a full queue loses it."""
        queued = self._put_bytes - self._taken_bytes
        if queued > MAX_QUEUED_BYTES or self._closing:
            self._refused += 1
            return
        self._put_bytes += len(line)
        self._queue.append(line)
        # Waking costs a lock and a switch of threads: once per interval or batch, not once per line.
        if (self._idle or queued >= BATCH_BYTES) and not self._wake.is_set():
            self._wake.set()

    def reopen(self) -> None:
        """Have the thread write what is queued, then open the path again: for after a rename."""
        if self._path != STDOUT:
            self._reopen_wanted = True
            self._wake.set()

    def close(self, timeout: float = CLOSE_TIMEOUT) -> None:
        """Write what is queued and end the thread; what is not written after `timeout` seconds is lost."""
        self._close_by = time.monotonic() + timeout
        self._closing = True
        self._wake.set()
        if self._thread.ident is None:
            self._refused += len(self._queue)
            self._queue.clear()
            return
        # A write to a dead disk may never return; the thread is a daemon and is left behind then.
        self._thread.join(timeout + _STUCK_TIMEOUT)

    def _run(self) -> None:
        while not self._closing:
            self._gather()
            self._flush()
            if self._reopen_wanted:
                self._open_again()
        self._flush()
        self._lose(self._rest + self._tail + self._take(self._put_bytes))
        self._current_output().close()

    def _gather(self) -> None:
        """Sleep until there is something to do, and then a little longer, for more lines to come."""
        self._idle = True
        # Looked at after `_idle` is set, as `put` looks at `_idle` after its append: one of the two sees.
        if not (self._queue or self._closing or self._reopen_wanted):
            self._wake.wait()
        self._idle = False
        self._wake.clear()
        if not (self._closing or self._reopen_wanted) and self._put_bytes - self._taken_bytes < BATCH_BYTES:
            self._wake.wait(FLUSH_INTERVAL)
            self._wake.clear()

    def _flush(self) -> None:
        """Write until nothing is left, or until the output is blocked and something else is wanted."""
        output = self._current_output()
        if not self._rest:
            self._rest, self._tail = self._tail, b""
        while self._rest or self._queue:
            if not self._rest:
                self._rest = self._tail + self._take(output.most - len(self._tail))
                self._tail = b""
            if output.is_writable(FLUSH_INTERVAL):
                self._write(output)
            elif self._reopen_wanted or (self._closing and time.monotonic() >= self._close_by):
                return

    def _take(self, most: int) -> bytes:
        """Lines from the queue, as many as fit into `most` bytes but at least one if there is any."""
        lines: list[str] = []
        size = 0
        # Only this thread removes, so a queue that is not empty stays so.
        while self._queue and (not lines or size + len(self._queue[0]) <= most):
            line = self._queue.popleft()
            size += len(line)
            lines.append(line)
        self._taken_bytes += size
        return "".join(lines).encode("ascii")

    def _write(self, output: LogOutput) -> None:
        """One write of `_rest`; what a failure loses is counted."""
        try:
            count = output.write(self._rest)
        except BlockingIOError:
            return
        except OSError as error:
            self._give_up_rest(error)
            return
        if count:
            self.written += self._rest.count(b"\n", 0, count)
            self._torn = self._rest[count - 1] != 0x0A
            self._rest = self._rest[count:]
        if self._failing:
            self._failing = False
            _logger.warning("access log: %s can be written again, %d lines were lost", self._path, self.lost)

    def _give_up_rest(self, error: OSError) -> None:
        """Lose `_rest`, except the remainder of a line that is half in the file: that goes first, later."""
        end = self._rest.index(b"\n") + 1 if self._torn else 0
        self._tail = self._rest[:end]
        self._lose(self._rest[end:])
        self._rest = b""
        if not self._failing:
            self._failing = True
            _logger.error("access log: %s cannot be written, lines are lost: %s", self._path, error)

    def _open_again(self) -> None:
        self._reopen_wanted = False
        try:
            output = LogOutput(self._path)
        except OSError as error:
            _logger.error("access log: %s cannot be reopened, the old file is kept: %s", self._path, error)
            return
        self._current_output().close()
        self._output = output
        if self._torn:
            # Its first half is in the other file.
            torn, newline, self._rest = (self._rest or self._tail).partition(b"\n")
            self._lose(torn + newline)
            self._tail = b""
            self._torn = False

    def _lose(self, data: bytes) -> None:
        self._failed += data.count(b"\n")

    def _current_output(self) -> LogOutput:
        if self._output is None:
            raise RuntimeError("the log is not started")
        return self._output
