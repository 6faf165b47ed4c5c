"""An open file, pipe, socket or terminal that several processes write lines to.

A file is opened with O_APPEND and takes all that it is given in one write. To anything else no more than
PIPE_BUF bytes go out at once, ending at the end of a line if there is one, which POSIX keeps in one piece; it
is also what a pipe that polls as writable takes without blocking, which matters for stdout, whose flags are
not ours to change.

With a lock, lines are whole whatever their length and however little is taken at once: who has written half a
line keeps the lock until it has written the other half. A process that is killed in between, or gives up,
leaves half a line behind; the mark in `LogLock` tells the next one, which begins a new line. Without a lock,
only lines longer than PIPE_BUF, and those cut by a full disk, can be mixed with those of another process.
"""

from __future__ import annotations

import errno
import os
import select
import stat

from vsproxy.log_lock import LogLock

STANDARD = "-"
STDOUT, STDERR = 1, 2
_NEWLINE = 0x0A


class LogOutput:
    """See the module; not for use by two threads at once.

    `torn` says whether the last byte written was in the middle of a line: what follows must be its rest.
    """

    def __init__(self, path: str, standard: int = STDOUT, lock: int | None = None) -> None:
        """Open `path` for appending, creating it; `-` is the descriptor `standard`.

        `lock`: the common descriptor of `LogLock`. Raises OSError that names the path.
        """
        self._descriptor = _open(path, standard)
        try:
            status = os.fstat(self._descriptor)
            self._lock = LogLock(lock, status.st_ino) if lock is not None else None
        except OSError:
            os.close(self._descriptor)
            raise
        self._identity = status.st_dev, status.st_ino
        self._regular = stat.S_ISREG(status.st_mode)
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLOUT)
        self.torn = False

    def is_at(self, path: str) -> bool:
        """Whether this is what `path` names now; not if it names nothing, or nothing that can be seen."""
        try:
            status = os.stat(path)
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == self._identity

    def has_room(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds until a write would not block; an error counts as room."""
        return self._regular or bool(self._poll.poll(timeout * 1000))

    def take_lock(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds for the lock; True if there is none. Raises OSError."""
        return self._lock is None or self._lock.take(timeout)

    def ready(self, timeout: float) -> bool:
        """Wait for room and then for the lock, up to `timeout` seconds for each. Raises OSError."""
        if self._lock is None:
            return self.has_room(timeout)
        if self._lock.held:
            if self.torn or self.has_room(0.0):
                return self.has_room(timeout)
            # Nobody can write now; whoever comes first when there is room again shall.
            self._lock.release()
        return self.has_room(timeout) and self._lock.take(timeout) and self.has_room(0.0)

    def write(self, data: bytes, start: int = 0) -> int:
        """Write from `start`, in one call; how many bytes were taken. `data` ends with a newline.

        Raises OSError.
        """
        if self._lock is None or not self._lock.held:
            return self._write_piece(data, start)
        if self._lock.broken and not self.torn:
            os.write(self._descriptor, b"\n")
        # Before the write, as we may be killed in it. Killed after it, we leave an empty line.
        self._lock.broken = True
        try:
            return self._write_piece(data, start)
        finally:
            self._lock.broken = self.torn

    def _write_piece(self, data: bytes, start: int) -> int:
        end = len(data)
        if not self._regular and end - start > select.PIPE_BUF:
            last = data.rfind(b"\n", start, start + select.PIPE_BUF)
            end = last + 1 if last >= 0 else start + select.PIPE_BUF
        count = os.write(self._descriptor, memoryview(data)[start:end])
        if count:
            self.torn = data[start + count - 1] != _NEWLINE
        return count

    def give_way(self) -> None:
        """Release the lock, unless half a line is written."""
        if self._lock is not None and not self.torn:
            self._lock.release()

    def give_up_line(self) -> None:
        """Release the lock, also in the middle of a line: what comes next begins a new one."""
        self.torn = False
        self.give_way()

    def part_from_parent(self) -> None:
        """After a fork, in the child: be a writer of its own. Raises OSError."""
        if self._lock is not None:
            self._lock.part_from_parent()

    def close(self) -> None:
        """Close the descriptor, and release the lock."""
        if self._lock is not None:
            self._lock.close()
        os.close(self._descriptor)


def _open(path: str, standard: int) -> int:
    if path == STANDARD:
        try:
            # Ours, but blocking if it is: that flag is shared with whoever else holds it.
            return os.dup(standard)
        except OSError as error:
            name = "stdout" if standard == STDOUT else "stderr"
            raise OSError(error.errno, error.strerror, name) from error
    flags = os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        return os.open(path, os.O_WRONLY | flags, 0o644)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
    # A FIFO that nobody reads yet; Linux opens it for both, and a reader may come later (fifo(7)).
    return os.open(path, os.O_RDWR | flags, 0o644)
