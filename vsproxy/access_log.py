# cython: annotation_typing=False
"""The access log: one line per exchange, in the format that `access_line` describes.

The line is made on the loop thread. Formatting in the writer thread costs the same processor time, since both
hold the interpreter's lock for it, and was measured to raise the slowest 0.1 % of the loop's steps from 0.15
to 1.6 ms, because the loop then waits for that lock. Lines gather in one buffer, which the writer thread gets
a copy of when it is full and on each sweep: what is paid per line is only the putting together of its bytes.
"""

from __future__ import annotations

from typing import Literal

from vsproxy.access_line import AccessLines, AccessRecord, CombinedLines, JsonLines
from vsproxy.log_writer import BATCH_BYTES, CLOSE_TIMEOUT, LogWriter
from vsproxy.timers import Timed

AccessFormat = Literal["json", "combined", "off"]

_BATCH_BYTES = BATCH_BYTES


class AccessLog(Timed):
    """Gathers the lines of records and hands them to a writer thread.

    `format` is "json", "combined" or "off" (then nothing is opened or written); `path` is a file, a FIFO or
    `-` for stdout. Lines are handed over when there are many, at `reopen` and `close`, and by `flush`, for which
    it has to be a member of a sweep. All methods are for the thread of the loop, `reopen` from
    `loop.add_signal_handler`, but `close` may be called in another one once nothing is logged any more and no
    sweep knows of it, as it waits for the disk.

    To change format or path, start the new log beside the old one, which is where it can fail; log to it, and
    close the old one. No line is lost then or written twice.
    """

    __slots__ = ("_buffer", "_closed", "_count", "_lines", "_size", "_writer")

    def __init__(self, format: AccessFormat, path: str, lock: int | None = None) -> None:
        """`lock` is a descriptor that all processes with a log at `path` have in common, as `LogLock` says.

        Without one, lines longer than PIPE_BUF (4 KiB) may be mixed with those of another process, unless
        `path` is a file. Raises ValueError for an unknown format.
        """
        super().__init__()
        if format not in ("json", "combined", "off"):
            raise ValueError(f"access log format {format!r}")
        self._lines: AccessLines = JsonLines() if format == "json" else CombinedLines()
        self._writer = None if format == "off" else LogWriter(path, lock)
        self._buffer = bytearray(_BATCH_BYTES)
        self._size = 0
        self._count = 0
        self._closed = False
        # On every walk of the sweep.
        self.deadline = 0.0

    @property
    def written(self) -> int:
        """Lines that the system has taken."""
        return self._writer.written if self._writer else 0

    @property
    def lost(self) -> int:
        """Lines that could not be written: full disk, broken pipe, a reader too slow for 8 MiB of queue."""
        return self._writer.lost if self._writer else 0

    def start(self) -> None:
        """Open the output and start the writer thread. Raises OSError that names the path if that fails."""
        if self._writer:
            self._writer.start()

    def log(self, record: AccessRecord) -> None:
        """Write one line, soon. Never blocks, never raises; what cannot be written is counted in `lost`."""
        if self._writer is None:
            return
        room = record.room()
        if self._size + room > len(self._buffer):
            self.flush()
            if room > len(self._buffer):
                self._buffer = bytearray(room)
        self._size = self._lines.put_line(self._buffer, self._size, record)
        self._count += 1
        if self._closed:
            self.flush()

    def flush(self) -> None:
        """Hand what has gathered to the writer thread."""
        if self._size == 0:
            return
        lines = bytes(memoryview(self._buffer)[: self._size])
        count = self._count
        self._size = self._count = 0
        if len(self._buffer) > _BATCH_BYTES:
            # For one long line.
            self._buffer = bytearray(_BATCH_BYTES)
        self._writer.put(lines, count)  # type: ignore[union-attr]

    def on_deadline(self, now: float) -> None:
        """The sweep came by: no line waits for longer."""
        self.flush()

    def reopen(self) -> None:
        """Open the path again, after the file was renamed. No line is lost or torn. No effect on stdout."""
        if self._writer:
            self.flush()
            self._writer.reopen()

    def close(self, timeout: float = CLOSE_TIMEOUT) -> None:
        """Write what is queued, for at most about `timeout` seconds, and close. Later lines are lost."""
        if self._writer:
            self.flush()
            self._closed = True
            self._writer.close(timeout)
