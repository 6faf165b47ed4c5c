"""Clients of HTTP: what each kind asks for, and the loop in which it asks, rests and asks again."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from storm.broken import Broken
from storm.content import Expected, content
from storm.http_client import Connection, Listener, Request
from storm.http_response import SLICE, Response
from storm.scene import Scene

#: The files that all servers of the pool `files` have, as (seed, size): odd seeds come chunked.
FILES = ((2, 2_000_000), (3, 1_500_000), (4, 4_000_000), (5, 1_000_001))

MakeRequest = Callable[[str], Request]


@cache
def expected(seed: int, size: int) -> Expected:
    """The expectation of `content(seed, size)`."""
    return Expected.of(content(seed, size))


def small(exchange: str) -> Request:
    """A GET of a small body, on a keepalive connection."""
    seed, size = random.randrange(50), random.choice((0, 300, 5000, 40_000))
    return Request(f"/small/{seed}-{size}?x={exchange}", expected(seed, size), exchange=exchange)


def single(exchange: str) -> Request:
    """The same on a connection of its own, which the client asks to be closed."""
    request = small(exchange)
    return Request(request.target, request.expected, exchange=exchange, close=True)


def echo(exchange: str) -> Request:
    """A POST whose body comes back."""
    body = content(random.randrange(1000), random.choice((1, 700, 9000, 100_000)))
    chunked = random.random() < 0.3
    return Request(f"/echo?x={exchange}", Expected.of(body), "POST", exchange, body, chunked)


def upload(exchange: str) -> Request:
    """Megabytes in about a second and a half; the answer is their length and checksum."""
    body = content(random.randrange(1000), random.randrange(1_000_000, 4_000_000))
    sums = Expected.of(body)
    answer = Expected.of(f"{sums.length} {sums.sha256}".encode())
    chunked, pace = random.random() < 0.5, 1.5 * SLICE / len(body)
    return Request(f"/upload?x={exchange}", answer, "POST", exchange, body, chunked, pace)


def download(exchange: str) -> Request:
    """Megabytes that the server sends in a second or two."""
    seed, size = random.choice(FILES)
    return Request(f"/files/{seed}-{size}?x={exchange}", expected(seed, size), exchange=exchange)


@dataclass(slots=True)
class Client:
    """One client that asks `make`'s requests at `listener`, resting `pause` seconds or so between two.

    It closes its connection itself after up to `lasts` requests, as browsers and pools of clients do.
    """

    kind: str
    scene: Scene
    listener: Listener
    make: MakeRequest
    pause: float
    lasts: int = 60

    async def run(self) -> None:
        """Until the storm stops."""
        while await self.scene.serving(self.listener):
            await self._one_connection()

    async def _one_connection(self) -> None:
        connection = Connection(self.listener)
        self.scene.ledger.connections += 1
        try:
            await connection.open()
        except Broken as broken:
            self.scene.fail(self.kind, connection.opened, connection.wire, broken)
            await self.scene.pause(0.1)
            return
        try:
            for _ in range(random.randint(1, self.lasts)):
                if self.scene.stop.is_set() or not await self._one_exchange(connection):
                    return
        finally:
            connection.close()

    async def _one_exchange(self, connection: Connection) -> bool:
        """One exchange and the rest after it; whether the connection may be used again."""
        request = self.make(self.scene.name(self.kind))
        began = time.monotonic()
        try:
            response = await connection.perform(request)
        except Broken as broken:
            self.scene.fail(self.kind, began, connection.wire, broken, request.method, request.exchange)
            return False
        self._count(request, response, began)
        if not response.keeps:
            await self.scene.pause(random.uniform(0.5, 1.5) * self.pause)
            return False
        try:
            await connection.rest(random.uniform(0.5, 1.5) * self.pause)
        except Broken as broken:
            self.scene.fail(self.kind, time.monotonic(), connection.wire, broken)
            return False
        return True

    def _count(self, request: Request, response: Response, began: float) -> None:
        self.scene.ledger.answer(self.kind, began, response.server, len(request.body), response.length)
