"""A stop that meets requests at odd moments: in the queue, in a connect, between two tries, half-sent."""

from __future__ import annotations

import signal

from support.client import Client
from support.http import request_bytes
from support.proxies import ProxyProcess, entry, eventually
from support.scripts import Held, mute
from support.stage import Stage

PATIENT = {"shutdown_timeout": "20s"}


async def stop(process: ProxyProcess) -> None:
    """SIGTERM, and wait until it is heard."""
    process.signal(signal.SIGTERM)
    await process.wait_for_line("stopping")


async def ask(stage: Stage, clients: int = 3) -> list[Client]:
    """Clients that have sent a request."""
    asking = [await stage.connect() for _ in range(clients)]
    for client in asking:
        await client.send(request_bytes())
    return asking


async def all_answered(clients: list[Client]) -> bool:
    """Whether each of them gets a 200."""
    return {(await client.response()).status for client in clients} == {200}


async def test_requests_in_the_queue_are_served_after_sigterm(stage: Stage) -> None:
    held = Held()
    process = await stage.process(entry(await stage.server(held), max_connections=1), proxy=PATIENT)
    clients = await ask(stage)
    await eventually(lambda: held.waiting == 1)
    await stop(process)
    held.release()
    assert await all_answered(clients)
    assert await process.wait() == 0


async def test_requests_in_a_connect_move_on_after_sigterm(stage: Stage) -> None:
    good = await stage.server()
    pool = {"timeouts": {"connect": "1s"}}
    process = await stage.process(stage.blackhole(), entry(good, backup=True), proxy=PATIENT, pool=pool)
    clients = await ask(stage)
    assert await clients[0].is_silent(0.3)
    await stop(process)
    assert await all_answered(clients)
    assert await process.wait() == 0


async def test_requests_between_two_tries_move_on_after_sigterm(stage: Stage) -> None:
    bad, good = await stage.server(mute), await stage.server()
    pool = {"timeouts": {"read": "3s"}, "retry": {"on": ["timeout"]}}
    process = await stage.process(bad, entry(good, backup=True), proxy=PATIENT, pool=pool)
    clients = await ask(stage)
    await eventually(lambda: len(bad.requests) == 3)
    await stop(process)
    assert await all_answered(clients)
    assert await process.wait() == 0


async def test_requests_half_sent_at_sigterm_are_answered(stage: Stage) -> None:
    """A connection's first request, and one on a connection that was used before."""
    server = await stage.server()
    process = await stage.process(server, proxy=PATIENT)
    used = await stage.connect()
    assert (await used.request()).status == 200
    clients = [await stage.connect(), used]
    for client in clients:
        await client.send(b"GET /half HTTP/1.1\r\nHo")
    assert await clients[0].is_silent(1)
    await stop(process)
    for client in clients:
        await client.send(b"st: a\r\n\r\n")
        response = await client.response()
        assert response.status == 200
        assert response.fields.has_token("Connection", "close")
        assert await client.wait_closed() == "fin"
    assert await process.wait() == 0
