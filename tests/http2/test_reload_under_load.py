"""Reloads that change the listener while clients of HTTP/2 are at work: each changes over, and no request is lost."""

from __future__ import annotations

import asyncio

from support.h2_client import H2Client
from support.h2_front import Front
from support.http import Request
from support.proxies import Settings, settings
from support.server import Conversation, Server

CLIENTS, RELOADS = 6, 12
TWO = {"workers": 2, "shutdown_timeout": "20s"}


class Work:
    """Clients that ask without a pause until `stop`, and what they were told.

    A client leaves a connection at the first GOAWAY. What it had asked by then is answered, but for what is beyond the
    last GOAWAY, which it may ask again (RFC 9113 section 6.8).
    """

    def __init__(self, front: Front) -> None:
        self.front = front
        self.stop = False
        self.answered = 0
        self.connections = 0
        self.faults: list[str] = []

    async def client(self) -> None:
        """One client, connection after connection."""
        while not self.stop:
            async with self.front.client() as client:
                self.connections += 1
                while not self.stop and not client.goaways:
                    await asyncio.gather(*(self.request(client) for _ in range(5)))

    async def request(self, client: H2Client) -> None:
        """One request with a body."""
        stream = await client.start("POST", end=False)
        fault = ""
        try:
            await stream.send(b"payload", end=True)
            response = await stream.finished()
            if (response.status, response.body, response.complete) != (200, b"7", True):
                fault = str(response)
        except AssertionError as error:
            fault = str(error)
        if not fault:
            self.answered += 1
        elif not client.goaways or stream.number <= client.goaways[-1][0]:
            self.faults.append(f"{stream.number}: {fault}")


def changed(front: Front, server: Server, bound: str, turn: int) -> Settings:
    """A configuration whose listener is another than that of the turn before."""
    listener = front.listener(bind=bound, via=bool(turn % 2))
    return settings(server, listener=listener, proxy=TWO)


async def test_no_request_is_lost(front: Front) -> None:
    async def script(peer: Conversation, request: Request) -> None:
        await peer.respond(b"%d" % len(request.body))

    server = await front.stage.server(script)
    bound = front.stage.free_address()
    process = await front.stage.run(changed(front, server, bound, 0))
    work = Work(front)
    async with asyncio.TaskGroup() as clients:
        for _ in range(CLIENTS):
            clients.create_task(work.client())
        for turn in range(1, RELOADS + 1):
            before = work.answered
            while work.answered < before + 50:
                await asyncio.sleep(0.01)
            await process.put_into_force(changed(front, server, bound, turn))
        work.stop = True
    assert work.faults == []
    # Everybody has changed over at least some times: a reload in the same second as another spares a connection.
    assert work.connections >= 2 * CLIENTS
