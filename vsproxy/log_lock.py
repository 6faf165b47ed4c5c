"""A lock that processes take in turn to write to one log output, and that nobody holds after death.

It has to be known to processes that were forked before they open anything, be free again when its holder is
killed, and also part two writers of one process, such as the old and the new log during a reload. That leaves
open file description locks (fcntl(2), F_OFD_SETLK), each on a description of its own:

- a POSIX record lock belongs to the process: two writers in it would both have it, and closing any descriptor
  of the file would take it away from both;
- flock(2) and OFD locks belong to the open file description, which a fork shares: on the inherited descriptor
  parent and children would all have the lock at once. So every writer opens the inherited file anew, through
  /proc/self/fd. The kernel frees the lock with the last reference to that description, that is, at death;
- a lock in shared memory stays locked when its holder dies.

OFD locks have ranges, so that one file serves all outputs: each has a cell, chosen by its inode number.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import time

#: Two outputs in one cell wait for each other, and a line cut in one costs the other an empty line; no more.
_CELLS = 4096
_FIRST_PAUSE, _LONGEST_PAUSE = 0.0005, 0.008
# struct flock: l_type, l_whence, l_start, l_len, l_pid (which has to be 0)
_FLOCK = struct.Struct("hhqqi4x")


class LogLock:
    """The lock of one output; not for use by two threads at once.

    `descriptor` is of a file that all writers have in common, such as a memfd made before the fork: this
    writes nothing but its own marks to it. `inode` is the inode number of the output. Raises OSError.
    """

    def __init__(self, descriptor: int, inode: int) -> None:
        self._cell = inode % _CELLS
        self._common = descriptor
        os.ftruncate(descriptor, _CELLS)
        # Not of our own description: a mapping is a reference to it, and would keep a lock alive.
        self._marks = mmap.mmap(descriptor, _CELLS)
        self._own = self._open()
        self.held = False
        # Where there are no such locks this fails at the start, and not with the first line.
        self._set(fcntl.F_UNLCK, self._cell)

    def _open(self) -> int:
        return os.open(f"/proc/self/fd/{self._common}", os.O_RDWR | os.O_CLOEXEC)

    @property
    def broken(self) -> bool:
        """Whether the output ends in the middle of a line; to be looked at and set while the lock is held.

        Set before every write, it outlives the writer.
        """
        return self._marks[self._cell] != 0

    @broken.setter
    def broken(self, value: bool) -> None:
        self._marks[self._cell] = value

    def take(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds for the lock; whether it is ours now. Raises OSError."""
        end = time.monotonic() + timeout
        pause = _FIRST_PAUSE
        turn = False
        # The one who waits for the lock has the turn, which everybody needs first: whoever lets go and wants
        # it again at once would otherwise always be faster than those who sleep.
        while not self.held:
            turn = turn or self._lock(_CELLS + self._cell)
            self.held = turn and self._lock(self._cell)
            left = end - time.monotonic()
            if self.held or left <= 0:
                break
            # Blocking instead (F_OFD_SETLKW) could not be ended by a close or a reopening.
            time.sleep(min(pause, left))
            pause = min(2 * pause, _LONGEST_PAUSE)
        if turn:
            self._set(fcntl.F_UNLCK, _CELLS + self._cell)
        return self.held

    def release(self) -> None:
        """Let others have it. No effect if it is not held."""
        if self.held:
            self.held = False
            self._set(fcntl.F_UNLCK, self._cell)

    def part_from_parent(self) -> None:
        """After a fork, in the child: be a writer of its own. Raises OSError."""
        inherited, self._own = self._own, self._open()
        os.close(inherited)
        self.held = False

    def close(self) -> None:
        """Let go, and close what was opened here; the common descriptor stays open."""
        self.held = False
        os.close(self._own)
        self._marks.close()

    def _lock(self, offset: int) -> bool:
        try:
            self._set(fcntl.F_WRLCK, offset)
        except BlockingIOError:
            return False
        return True

    def _set(self, kind: int, offset: int) -> None:
        fcntl.fcntl(self._own, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, offset, 1, 0))
