"""Many clients at full speed, and what they were told."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from support.client import Client, connect
from support.peer import Ended


@dataclass(slots=True)
class Tally:
    """How requests ended: how many with each status, and everything that was not an answer."""

    statuses: Counter[int] = field(default_factory=Counter)
    bodies: Counter[bytes] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)

    @property
    def faultless(self) -> bool:
        """Whether there were answers, and every one was a whole 200."""
        return not self.errors and set(self.statuses) == {200}


@dataclass(slots=True)
class Load:
    """`clients` keepalive clients, each of `requests` requests or until `stop()` is true.

    The body of a POST is unique, so that a server can tell one that it saw before.
    """

    address: str
    clients: int = 16
    requests: int = 50
    method: str = "GET"
    stop: Callable[[], bool] = bool
    tally: Tally = field(default_factory=Tally)

    async def run(self) -> Tally:
        """Send everything; the tally."""
        await asyncio.gather(*(self._client(number) for number in range(self.clients)))
        return self.tally

    async def _client(self, number: int) -> None:
        client: Client | None = None
        for count in range(self.requests):
            if self.stop():
                break
            if client is None:
                client = await connect(self.address)
            if not await self._request(client, f"{number}-{count}"):
                client.close()
                client = None
        if client is not None:
            client.close()

    async def _request(self, client: Client, label: str) -> bool:
        """One request; whether the connection may be used again."""
        body = label.encode() if self.method == "POST" else None
        try:
            response = await client.request(self.method, f"/{label}", body=body)
        except (Ended, ConnectionError) as error:
            self.tally.errors.append(f"{label}: {type(error).__name__} {error}")
            return False
        if not response.complete:
            self.tally.errors.append(f"{label}: incomplete")
            return False
        self.tally.statuses[response.status] += 1
        self.tally.bodies[response.body] += 1
        return not response.fields.has_token("Connection", "close")
