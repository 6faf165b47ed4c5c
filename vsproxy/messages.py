"""The messages of one process: Python's logging, set up to write them to stderr or a file.

One message is one line, whatever is in it, followed by the indented lines of its traceback if it has one:

    2026-01-31T12:00:00.250Z WARNING [worker 0 4711] pool app: 10.0.0.1:8080 is down: connection refused

which is the time (RFC 3339 with milliseconds, UTC), the level, the process ("supervisor", "worker N",
"control") and its id, and the text. Control characters in text and traceback, newlines above all, are written
as `\\n` and `\\xHH`, so that no text, whoever sent it, can look like a message of its own.

All processes write to one output. A message and its traceback go out together: in one write to a file, under
the lock of `log_output` to anything else.

Messages are written by the thread that has them, since the supervisor has no other. An output that takes none
(a full pipe, a full disk) holds it up for `PATIENCE` at first and then no more: the message is lost, and the
next one that is written is preceded by how many were. The standard library's handlers would wait for the pipe
for ever, and raise in the middle of whatever had something to say when a path cannot be opened again.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from vsproxy.log_output import STANDARD, STDERR, LogOutput

#: Seconds that a message may wait for room and for the lock, if the one before it was written.
PATIENCE = 0.25
_INDENT = "    "
_CONTROLS = (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)
_ESCAPES = {code: f"\\x{code:02X}" if code < 0x100 else f"\\u{code:04X}" for code in _CONTROLS}
_ESCAPES |= {ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\\t"}


@dataclass(frozen=True, slots=True)
class _Change:
    """A level and a path to switch to; `output` is None where the path stays."""

    level: str
    path: str
    output: LogOutput | None


class MessageLog:
    """Takes Python's logging over for this process, from `start` to `close`.

    `level` is "debug", "info", "warning" or "error"; `path` is a file or `-` for stderr; `process` is what
    lines call this process. A file that was renamed or removed is opened again without being told to. Nothing
    here is for signal handlers of Python's, which may interrupt a write; those of a loop do not.
    """

    def __init__(self, level: str, path: str, process: str) -> None:
        self._level = level
        self._path = path
        self._formatter = MessageFormatter(process)
        self._handler: _Handler | None = None
        self._lock: int | None = None
        self._change: _Change | None = None
        self._level_before = logging.NOTSET

    @property
    def lock(self) -> int:
        """The descriptor of the lock, for access logs too: they may be written to the same output."""
        if self._lock is None:
            raise RuntimeError("the messages are not started")
        return self._lock

    def start(self) -> None:
        """Open the output, and write what is logged from now on. Raises OSError naming the path."""
        lock = os.memfd_create("vsproxy-log")
        try:
            output = LogOutput(self._path, STDERR, lock)
        except OSError:
            os.close(lock)
            raise
        self._lock = lock
        self._handler = _Handler(self._formatter, self._path, output, lock)
        root = logging.getLogger()
        self._level_before = root.level
        root.addHandler(self._handler)
        self.set_level(self._level)

    def renamed(self, process: str) -> None:
        """After a fork, in the child: from now on this is the log of `process`. Raises OSError."""
        self._formatter.process = process
        self._started().part_from_parent()

    def set_level(self, level: str) -> None:
        """Write only what is at least this severe."""
        self._level = level
        logging.getLogger().setLevel(level.upper())

    def reopen(self) -> None:
        """Open the path again, for after a rename. If that fails, say so and keep the old file."""
        self._started().reopen()

    def prepare(self, level: str, path: str) -> None:
        """Open what is needed to go on with these. Raises OSError naming the path.

        To be followed by `commit` or `cancel`.
        """
        output = LogOutput(path, STDERR, self.lock) if path != self._path else None
        self._change = _Change(level, path, output)

    def commit(self) -> None:
        """Switch: what is logged from now on goes to what was prepared. No effect if nothing was."""
        change, self._change = self._change, None
        if change is None:
            return
        if change.output is not None:
            self._path = change.path
            self._started().switch(change.path, change.output)
        self.set_level(change.level)

    def cancel(self) -> None:
        """Drop what was prepared. No effect if nothing was."""
        change, self._change = self._change, None
        if change is not None and change.output is not None:
            change.output.close()

    def close(self) -> None:
        """Close the output and leave Python's logging as it was before `start`."""
        if self._handler is None or self._lock is None:
            return
        root = logging.getLogger()
        root.removeHandler(self._handler)
        root.setLevel(self._level_before)
        self._handler.close()
        os.close(self._lock)
        self._handler = self._lock = None

    def _started(self) -> _Handler:
        if self._handler is None:
            raise RuntimeError("the messages are not started")
        return self._handler


class MessageFormatter(logging.Formatter):
    """Records to text, as the module says."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self.process = process

    def format(self, record: logging.LogRecord) -> str:
        """The lines of `record`, without the last newline."""
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        lines = [
            f"{at}.{int(record.msecs):03d}Z {record.levelname} [{self.process} {os.getpid()}] "
            + record.getMessage().translate(_ESCAPES)
        ]
        if record.exc_info:
            lines += self.formatException(record.exc_info).split("\n")
        if record.stack_info:
            lines += self.formatStack(record.stack_info).split("\n")
        return f"\n{_INDENT}".join([lines[0], *(line.translate(_ESCAPES) for line in lines[1:])])


class _Handler(logging.Handler):
    """Writes records to `output`, which was opened at `path` with the lock `common`."""

    def __init__(self, formatter: MessageFormatter, path: str, output: LogOutput, common: int) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self._path = path
        self._output = output
        self._common = common
        self._closed = False
        self._lock_stuck = False
        self._lost = 0
        self._lost_to = ""
        #: Whether it was said that the path cannot be opened again.
        self._stranded = False

    def emit(self, record: logging.LogRecord) -> None:
        """Called by logging, which sees to it that no other thread is in here."""
        try:
            text = self.format(record)
        except Exception:
            # Arguments that do not fit the text. logging has a way to say so.
            self.handleError(record)
            return
        if self._path != STANDARD and not self._output.is_at(self._path):
            self._open_again()
        self._write(text)

    def reopen(self) -> None:
        """See `MessageLog`."""
        if self._path == STANDARD:
            return
        with self._alone():
            self._stranded = False
            self._open_again()

    def switch(self, path: str, output: LogOutput) -> None:
        """Write to `output` from now on."""
        with self._alone():
            self._output.close()
            self._path, self._output = path, output
            self._stranded = False

    def part_from_parent(self) -> None:
        """See `LogOutput`."""
        with self._alone():
            self._output.part_from_parent()

    def close(self) -> None:
        """Also called by logging at exit, for every handler there ever was."""
        with self._alone():
            if not self._closed:
                self._closed = True
                self._output.close()
        super().close()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        self.acquire()
        try:
            yield
        finally:
            self.release()

    def _open_again(self) -> None:
        try:
            output = LogOutput(self._path, STDERR, self._common)
        except OSError as error:
            if not self._stranded:
                self._stranded = True
                kept = f"messages: {self._path} cannot be reopened, the old file is kept: {error}"
                self._write(self._line(logging.ERROR, kept))
            return
        self._stranded = False
        self._output.close()
        self._output = output

    def _line(self, level: int, text: str) -> str:
        return self.format(logging.LogRecord("vsproxy", level, __file__, 0, text, None, None))

    def _write(self, text: str) -> None:
        """Write one message, or count it as lost; before it, how many were lost."""
        if self._lost:
            notice = f"{self._lost} messages were lost: {self._lost_to}"
            if not self._send(self._line(logging.WARNING, notice), 0.0):
                self._lost += 1
                return
            self._lost = 0
        if not self._send(text, PATIENCE):
            self._lost += 1

    def _send(self, text: str, patience: float) -> bool:
        """Whether all of it was written, within `patience` seconds."""
        data = (text + "\n").encode("utf-8", "backslashreplace")
        output = self._output
        end = time.monotonic() + patience
        try:
            # Without the lock if that takes too long: another process's line may be cut, but we are heard. Whoever
            # has not let go of it once is not waited for again until it has.
            self._lock_stuck = not output.take_lock(0.0 if self._lock_stuck else patience)
            at = 0
            while at < len(data):
                if not output.has_room(max(0.0, end - time.monotonic())):
                    self._lost_to = "no room"
                    return False
                at += output.write(data, at)
        except OSError as error:
            self._lost_to = str(error)
            return False
        finally:
            output.give_up_line()
        return True
