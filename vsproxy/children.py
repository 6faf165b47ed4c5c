"""A child as the supervisor sees it: forked, heard, buried, started again after a while."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable

from vsproxy.channel import Channel

#: Who lived this many seconds is started again at once.
LONG_LIFE = 2.0
#: Seconds until the next start after a short life; doubled each time, up to the second figure.
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 10.0

log = logging.getLogger("vsproxy")


class ChildProcess:
    """One place for a process: a worker or control. `row` is its place in the shared tables."""

    def __init__(self, name: str, row: int) -> None:
        self.name = name
        self.row = row
        self.pid = 0
        self.channel: Channel | None = None
        self.ready = False
        self.restarts = 0
        #: When it is due to be started again (`time.monotonic()`); 0: it is not.
        self.due = 0.0
        self._started = 0.0
        self._short_lives = 0

    @property
    def alive(self) -> bool:
        """Whether there is a process."""
        return self.pid != 0

    def fork(self, main: Callable[[Channel], int]) -> None:
        """Start the process: `main` gets the child's end of the channel and returns the exit status.

        Raises OSError if there is no room for another process; it is due again later then.
        """
        self._started = time.monotonic()
        try:
            ours, theirs = Channel.pair()
            try:
                self._fork(main, ours, theirs)
            finally:
                theirs.close()
        except OSError:
            self._set_due()
            raise
        self.due = 0.0
        self.channel = ours
        self.ready = False

    def _fork(self, main: Callable[[Channel], int], ours: Channel, theirs: Channel) -> None:
        # What arrives between the fork and the child's own handlers must not run the parent's.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            self.pid = os.fork()
            if self.pid == 0:
                _become_child(lambda: main(theirs), ours, blocked)
        except OSError:
            ours.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

    def send(self, message: object, descriptors: list[int] | None = None) -> None:
        """Tell it; a child that does not listen any more is killed, and replaced like any that died."""
        if self.channel is None or self.channel.send(message, descriptors or []) or not self.alive:
            return
        if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            log.error("%s (pid %d) does not listen: killing it", self.name, self.pid)
            self.kill()

    def kill(self) -> None:
        """End it at once."""
        if self.alive:
            # Not reaped yet, so the pid is still its own.
            os.kill(self.pid, signal.SIGKILL)

    def buried(self) -> None:
        """It has ended and was reaped: when it is due again is up to how long it lived."""
        self.pid = 0
        self.ready = False
        if self.channel is not None:
            self.channel.close()
            self.channel = None
        self._set_due()

    def _set_due(self) -> None:
        now = time.monotonic()
        if now - self._started >= LONG_LIFE:
            self._short_lives = 0
        pause = FIRST_PAUSE * 2.0 ** (self._short_lives - 1) if self._short_lives else 0.0
        self._short_lives += 1
        self.due = now + min(pause, LONGEST_PAUSE)


def _become_child(main: Callable[[], int], supervisors_end: Channel, mask: set[int | signal.Signals]) -> None:
    """Never returns: the parent's clean-up must not run here."""
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        # SIGUSR1 until there is a log to open again; the others are the supervisor's business for good: a
        # terminal or a service manager sends them to the whole group.
        for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        supervisors_end.close()
        status = main()
    except BaseException:
        log.exception("the process ends, something in it broke")
    finally:
        os._exit(status)
