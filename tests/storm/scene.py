"""What all parts of a storm share: the ledger they write to, how exchanges are numbered, when to stop."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from storm.broken import Broken
from storm.http_client import Listener
from storm.ledger import Failure, Ledger, Wire


@dataclass(slots=True)
class Scene:
    """See the module. `calm` comes first and ends the killing, then `stop`, which sends the clients home."""

    ledger: Ledger = field(default_factory=Ledger)
    calm: asyncio.Event = field(default_factory=asyncio.Event)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def name(self, kind: str) -> str:
        """A name for an exchange, unlike all others."""
        return f"{kind.replace(' ', '-')}-{next(self.numbers)}"

    def fail(
        self, kind: str, began: float, wire: Wire, broken: Broken, method: str = "GET", exchange: str = ""
    ) -> None:
        """Record what `broken` says, as of now. `began`: monotonic s."""
        what = (broken.cause, broken.detail, began, time.monotonic(), wire, broken.server, broken.visible)
        self.ledger.failures.append(Failure(kind, method, exchange, *what))

    async def serving(self, listener: Listener) -> bool:
        """Wait until `listener` is there, which refuses while it is not; whether the storm is still on."""
        await listener.serving.wait()
        return not self.stop.is_set()

    async def pause(self, seconds: float) -> None:
        """Wait `seconds`, or until the clients go home."""
        await _wait(self.stop, seconds)

    async def storm_on(self, seconds: float) -> None:
        """Wait `seconds`, or until the calm."""
        await _wait(self.calm, seconds)

    def end(self, listeners: Iterable[Listener]) -> None:
        """Let every client finish what it has and go, those that wait for a listener too."""
        self.stop.set()
        for listener in listeners:
            listener.serving.set()


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
