"""The outcome of a byte-exact case does not depend on where its bytes are cut into packets.

Each case is played whole, byte by byte, and cut in two at every offset; all over one proxy. What was
passed on before the bytes turned out to be wrong may differ: then every play has to be refused or broken off.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from support.client import Client
from support.http import Request, request_bytes
from support.peer import Ended
from support.server import Conversation
from support.stage import Stage

CASES: list[dict[str, Any]] = [
    case
    for case in json.loads((Path(__file__).parents[1] / "data" / "http_cases.json").read_text())
    if case["proto"] == "h1" and len(case["bytes"]) < 400
]
REQUESTS = [case for case in CASES if case["side"] == "request"]
RESPONSES = [case for case in CASES if case["side"] == "response"]
AT_ONCE = 24
# Nothing kept alive: bytes that come late are the business of another test, not of the next play.
POOL = {"keepalive": 0, "max_fails": 0, "retry": {"tries": 1}, "timeouts": {"read": "5s"}}


def cuts(data: bytes) -> list[list[bytes]]:
    """Byte by byte, and in two at every offset."""
    halves = [[data[:at], data[at:]] for at in range(1, len(data))]
    return [[bytes((byte,)) for byte in data], *halves]


async def send_pieces(peer: Client | Conversation, pieces: list[bytes]) -> None:
    """One packet each: the pause lets the proxy read before the next one is sent."""
    for piece in pieces:
        await peer.send(piece)
        await asyncio.sleep(0.001)


async def outcome(client: Client, method: str) -> tuple[str, bytes]:
    """The status and body of the next answer; `failed` for an error, a cut body or no answer."""
    try:
        response = await client.response(method)
    except (Ended, ConnectionError):
        return ("failed", b"")
    assert b"POISON" not in response.body
    if response.status >= 400 or not response.complete:
        return ("failed", b"")
    return (str(response.status), response.body)


async def all_alike(plays: list[Any]) -> None:
    """Run the plays, a few at a time, and fail if two of them differ."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(play: Any) -> object:
        async with gate:
            return await play

    results = await asyncio.gather(*(one(play) for play in plays))
    assert len(set(results)) == 1, {result: results.index(result) for result in results}


@pytest.mark.parametrize("case", REQUESTS, ids=lambda case: case["id"])
async def test_request(case: dict[str, Any], stage: Stage) -> None:
    """What the client hears first, and what the server saw first, wherever the cut is."""
    data = case["bytes"].encode("latin-1")
    server = await stage.server()
    proxy = await stage.proxy(server, pool=POOL)

    async def play(pieces: list[bytes]) -> object:
        async with await stage.connect() as client:
            try:
                await send_pieces(client, pieces)
                if case.get("half_close"):
                    client.half_close()
            except OSError:
                pass  # refused and closed already
            return await outcome(client, data.split(b" ")[0].strip().decode("latin-1"))

    await all_alike([play(pieces) for pieces in [[data], *cuts(data)]])
    assert not any("smuggled" in target for target in server.targets())
    whole = {(r.method, r.target, r.body) for r in server.requests if r.complete}
    assert len(whole) <= 1
    assert proxy.pools["main"].servers[0].state_name == "up"


@pytest.mark.parametrize("case", RESPONSES, ids=lambda case: case["id"])
async def test_response(case: dict[str, Any], stage: Stage) -> None:
    """What the client hears, wherever the server's bytes are cut."""
    data = case["bytes"].encode("latin-1")
    variants = [[data], *cuts(data)]

    async def script(peer: Conversation, request: Request) -> None:
        await send_pieces(peer, variants[int(request.target[1:])])
        if case.get("upstream_close"):
            peer.close()
        else:
            await peer.wait_closed()

    await stage.proxy(await stage.server(script), pool=POOL)
    method = case.get("method", "GET")
    fields = {"Connection": "Upgrade", "Upgrade": case["upgrade"]} if case.get("upgrade") else {}

    async def play(number: int) -> object:
        async with await stage.connect() as client:
            await client.send(request_bytes(method, f"/{number}", fields=fields))
            return await outcome(client, method)

    await all_alike([play(number) for number in range(len(variants))])
