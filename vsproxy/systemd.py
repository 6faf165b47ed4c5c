"""The service's side of sd_notify(3): tells systemd how far the service is, and that it is alive."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections import deque
from collections.abc import MutableMapping

log = logging.getLogger("vsproxy")

_MICROSECONDS = 1_000_000
# One ping may be late, by as much as the time between two, before systemd gives up on the service.
_PINGS_PER_WATCHDOG = 3
# Changes of state that found systemd's queue full. There is one per start, reload and stop.
_HELD = 16


class Notifier:
    """Messages to the service manager that started this process; without one, every call has no effect.

    Takes `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID` out of `environ`: given `os.environ` before the
    first fork, no child process finds them and speaks in the service's name. No descriptor is held between
    messages, so there is none to close in a child either.

    `watchdog_interval` is the time in seconds after which to call `watchdog` again, less than half of what
    systemd waits for; None if systemd does not watch this process (sd_watchdog_enabled(3)).

    No call blocks or raises. Whoever sends `reloading` must send `ready` after it, also when the reload was
    refused, or the unit stays in "reloading".
    """

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        self._address = _address(environ.pop("NOTIFY_SOCKET", ""))
        interval = _watchdog_interval(environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", ""))
        self.watchdog_interval = interval if self._address else None
        self._held: deque[str] = deque(maxlen=_HELD)

    def ready(self, status: str = "serving") -> None:
        """The start or the reload is over; `status` is shown by `systemctl status`."""
        self._send("READY=1", f"MAINPID={os.getpid()}", _status(status))

    def reloading(self, status: str = "reloading") -> None:
        """A reload begins. Says when, without which Type=notify-reload ignores it (systemd.service(5))."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={now}", _status(status))

    def stopping(self, within: float = 0.0, status: str = "stopping") -> None:
        """The stop begins; TimeoutStopSec is extended if `within`, in seconds from now, is longer."""
        extension = f"EXTEND_TIMEOUT_USEC={int(within * _MICROSECONDS)}" if within > 0 else ""
        self._send("STOPPING=1", extension, _status(status))

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._send(f"STATUS={_one_line(text)}")

    def watchdog(self) -> None:
        """The process is alive. Also sends what systemd had no room for earlier."""
        # Not kept if there is no room: the next one says the same.
        if self._address and self._send_held():
            self._reaches("WATCHDOG=1")

    def _send(self, *fields: str) -> None:
        if self._address:
            self._held.append("\n".join(field for field in fields if field))
            self._send_held()

    def _send_held(self) -> bool:
        """Whether all that was held is gone, in its order."""
        while self._held and self._reaches(self._held[0]):
            self._held.popleft()
        return not self._held

    def _reaches(self, message: str) -> bool:
        """False if the receiver has no room; a receiver that is absent has taken it."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.sendto(message.encode(errors="replace"), self._address)
        except BlockingIOError:
            return False
        except OSError as error:
            # A manager that went away is no reason to stop serving.
            log.debug("cannot notify the service manager: %s", error)
        return True


def _address(name: str) -> str:
    """What to send to; empty if there is nothing, or nothing that Unix sockets can reach."""
    if name.startswith("@"):
        return "\0" + name[1:]
    if name and not name.startswith("/"):
        log.warning('systemd is not notified: NOTIFY_SOCKET is "%s", not a path nor an abstract name', name)
        return ""
    return name


def _watchdog_interval(microseconds: str, pid: str) -> float | None:
    if not microseconds.isdecimal() or int(microseconds) == 0:
        return None
    # Set for a parent that passed its environment on.
    if pid and pid != str(os.getpid()):
        return None
    return int(microseconds) / _MICROSECONDS / _PINGS_PER_WATCHDOG


def _status(text: str) -> str:
    return f"STATUS={_one_line(text)}" if text else ""


def _one_line(text: str) -> str:
    """Lines after the first would be read as further fields."""
    return " ".join(text.splitlines())
