"""What the demo shows: one row per server and the last log lines, as a live table or as plain lines."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from vsproxy.upstream.server import Server

_EVENT_LINES = 5
_ACCESS_LINES = 7
_PLAIN_INTERVAL = 1.0
_STATE_STYLES = {"up": "green", "down": "bold red", "checking": "yellow", "drain": "cyan", "maint": "magenta"}


@dataclass(frozen=True, slots=True)
class Row:
    """One server at one moment; `rate` is in requests per second since the last look."""

    name: str
    address: str
    backup: bool
    state: str
    reason: str
    active: int
    requests: int
    rate: float


class Meter:
    """Makes rows of live servers, with the rate since the last call. `names` is address to name."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names
        self._time = 0.0
        self._requests: dict[str, int] = {}

    def rows(self, servers: Sequence[Server], now: float) -> list[Row]:
        """One row per server, in their order; `now` in seconds of a monotonic clock."""
        elapsed = now - self._time if self._time else 0.0
        rows = [self._row(server, elapsed) for server in servers]
        self._time = now
        self._requests = {server.address: server.requests for server in servers}
        return rows

    def _row(self, server: Server, elapsed: float) -> Row:
        address = server.address
        more = server.requests - self._requests.get(address, 0)
        return Row(
            name=self._names.get(address, address),
            address=address,
            backup=server.backup,
            state=server.state_name,
            reason=server.state_reason,
            active=server.active,
            requests=server.requests,
            rate=more / elapsed if elapsed else 0.0,
        )


class View(Protocol):
    """A way to show the demo."""

    def start(self) -> None:
        """Begin to show."""

    def log(self, line: str) -> None:
        """Show one line of what happens."""

    def access(self, line: str) -> None:
        """Show one line of the access log."""

    def update(self, rows: Sequence[Row], summary: str) -> None:
        """Show the servers as they are now."""

    def close(self) -> None:
        """Leave the terminal as it was."""


class LiveView:
    """A table that is drawn again and again in place, for a terminal."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, auto_refresh=False)
        # Apart, or the many requests would push out at once what happened to a server.
        self._events: deque[str] = deque(maxlen=_EVENT_LINES)
        self._accesses: deque[str] = deque(maxlen=_ACCESS_LINES)

    def start(self) -> None:
        """Begin to draw."""
        self._live.start()

    def log(self, line: str) -> None:
        """Keep the line for the next drawing."""
        self._events.append(f"{time.strftime('%H:%M:%S')} {line}")

    def access(self, line: str) -> None:
        """Keep the line for the next drawing, shortened."""
        self._accesses.append(short_access_line(line))

    def update(self, rows: Sequence[Row], summary: str) -> None:
        """Draw."""
        events = Text("\n".join(self._events), overflow="ellipsis", no_wrap=True)
        accesses = Text("\n".join(self._accesses), overflow="ellipsis", no_wrap=True, style="dim")
        self._live.update(Group(_table(rows), Text(summary), events, accesses), refresh=True)

    def close(self) -> None:
        """Leave the last drawing on the screen."""
        self._live.stop()


class PlainView:
    """One line per second, and one for each thing that happens; requests are not shown one by one."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._next = 0.0

    def start(self) -> None:
        """Nothing to prepare."""

    def log(self, line: str) -> None:
        """Print it."""
        self._print(f"{time.strftime('%H:%M:%S')} {line}")

    def access(self, line: str) -> None:
        """Too many to print."""

    def update(self, rows: Sequence[Row], summary: str) -> None:
        """Print the servers on one line, once per second."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _PLAIN_INTERVAL
        parts = [f"{row.name} {row.state} {row.rate:.0f}/s active {row.active}" for row in rows]
        self._print(f"{time.strftime('%H:%M:%S')} {' | '.join(parts)} | {summary}")

    def close(self) -> None:
        """Nothing to put back."""

    def _print(self, line: str) -> None:
        self._console.out(line, highlight=False)


def short_access_line(line: str) -> str:
    """The part of a JSON access line that fits a terminal."""
    entry = json.loads(line)
    total = entry["total_ms"] or 0.0
    what = f"{entry['method']} {entry['path']} {entry['status']}"
    return (
        f"{entry['time'][11:23]} {what} from {entry['server'] or '-'} in {total:.1f} ms,"
        f" tries {entry['tries']}, {entry['outcome']}"
    )


def _table(rows: Sequence[Row]) -> Table:
    table = Table(expand=True)
    for heading in ("server", "address", "state", "why"):
        table.add_column(heading, no_wrap=True)
    for heading in ("active", "requests", "per second"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            f"{row.name} (backup)" if row.backup else row.name,
            row.address,
            Text(row.state, style=_STATE_STYLES.get(row.state, "")),
            Text(row.reason),
            str(row.active),
            str(row.requests),
            f"{row.rate:.0f}",
        )
    return table
