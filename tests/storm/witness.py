"""Which configuration answers: requests whose answer tells it, against what may be true at that moment."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field

from storm.broken import Broken
from storm.http_client import Connection, Listener, Request
from storm.scene import Scene

KIND = "witness"


@dataclass(slots=True)
class Truth:
    """What clients may be told, since when: during a reload the old and the new, otherwise one of them."""

    history: list[tuple[float, frozenset[str | bytes]]] = field(default_factory=list)

    def becomes(self, *facts: str | bytes) -> None:
        """From now on a client is told one of `facts`: a Host of /whoami, or a certificate."""
        self.history.append((time.monotonic(), frozenset(facts)))

    def between(self, began: float, ended: float) -> frozenset[str | bytes]:
        """All that may have been told at any time from `began` to `ended`, monotonic s."""
        told: set[str | bytes] = set()
        for since, facts in reversed(self.history):
            if since <= ended:
                told |= facts
            if since <= began:
                break
        return frozenset(told)


@dataclass(slots=True)
class Witness:
    """Asks all the time, on fresh and on kept connections."""

    scene: Scene
    truth: Truth
    listeners: list[Listener]
    pause: float = 0.2

    async def run(self) -> None:
        """Until the storm stops."""
        while not self.scene.stop.is_set():
            connection = Connection(random.choice(self.listeners))
            try:
                await self._ask(connection, random.randint(1, 5))
            finally:
                connection.close()

    async def ask_all(self, count: int) -> None:
        """Ask on `count` fresh connections at once, so that in all likelihood every worker is asked."""
        connections = [Connection(self.listeners[n % len(self.listeners)]) for n in range(count)]
        try:
            await asyncio.gather(*(self._ask(connection, 1) for connection in connections))
        finally:
            for connection in connections:
                connection.close()

    async def _ask(self, connection: Connection, times: int) -> None:
        self.scene.ledger.connections += 1
        began = time.monotonic()
        try:
            await connection.open()
            self._check(connection.certificate() if connection.listener.context else None, connection.opened)
            for _ in range(times):
                began = time.monotonic()
                response = await connection.perform(Request("/whoami"))
                self._check(response.body.decode(), began)
                self.scene.ledger.answer(KIND, began, response.server, 0, response.length)
                if not response.keeps:
                    return
                await connection.rest(random.uniform(0.5, 1.5) * self.pause if times > 1 else 0.0)
        except Broken as broken:
            self.scene.fail(KIND, began, connection.wire, broken)
            await self.scene.pause(0.1)

    def _check(self, fact: str | bytes | None, began: float) -> None:
        allowed = self.truth.between(began, time.monotonic())
        if fact is not None and fact not in allowed:
            hosts = sorted(fact for fact in allowed if isinstance(fact, str))
            said = fact if isinstance(fact, str) else "another certificate"
            raise Broken("wrong configuration", f"{said}, not one of {hosts}", visible=False)
