"""The byte-exact cases in HTTP/2, over cleartext with prior knowledge: whole, byte by byte, and cut in two everywhere.

A request is refused by a status, by an error of its stream or of the connection; in each of them no server may have
got a whole request.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any

import hpack
import pytest

from support import h2_frames as h2
from support.client import Client
from support.http import Request
from support.peer import Ended
from support.server import Conversation
from support.stage import Stage

CASES: list[dict[str, Any]] = [
    case
    for case in json.loads((Path(__file__).parents[1] / "data" / "http_cases.json").read_text())
    if case["proto"] == "h2"
]
AT_ONCE = 24
EVERYWHERE = 400  # longer ones are cut at some places only
POOL = {"keepalive": 0, "max_fails": 0, "retry": {"tries": 1}, "timeouts": {"read": "5s"}}
REFUSED, FORWARDED = "refused", "forwarded"


def plays(data: bytes) -> list[list[bytes]]:
    """Whole, byte by byte at the front, and in two."""
    step = 1 if len(data) < EVERYWHERE else len(data) // 100
    crumbs = [bytes((byte,)) for byte in data[:EVERYWHERE]]
    return [[data], [*crumbs, data[EVERYWHERE:]], *([data[:at], data[at:]] for at in range(1, len(data), step))]


async def answered(client: Client) -> str:
    """What became of stream 1."""
    while True:
        for frame in h2.take_frames(client.buffer):
            if frame.type == h2.HEADERS and frame.stream == 1:
                fields = dict(hpack.Decoder().decode(frame.payload))
                return FORWARDED if fields[":status"] == "200" else REFUSED
            if frame.type in (h2.RST_STREAM, h2.GOAWAY) and frame.error_code:
                return REFUSED
        try:
            await client.fill()
        except Ended:
            return REFUSED


async def play(stage: Stage, pieces: list[bytes]) -> str:
    """Send the pieces, one packet each, on a connection of its own."""
    async with await stage.connect() as client:
        with contextlib.suppress(OSError):  # refused and closed already
            for piece in pieces:
                await client.send(piece)
                await asyncio.sleep(0.001 if len(pieces) > 1 else 0)
        return await answered(client)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
async def test_request(case: dict[str, Any], stage: Stage) -> None:
    server = await stage.server()
    proxy = await stage.proxy(server, listener={"h2c": True}, pool=POOL)
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(pieces: list[bytes]) -> str:
        async with gate:
            return await play(stage, pieces)

    outcomes = set(await asyncio.gather(*(one(pieces) for pieces in plays(case["bytes"].encode("latin-1")))))
    if case["expect"] == "reject" and outcomes == {REFUSED}:
        assert [request for request in server.requests if request.complete] == []
    else:
        assert outcomes == {FORWARDED}
        assert {"forward", "normalise"} & {case["expect"], *case.get("also_ok", [])}
        assert {tuple(request.fields.get_all("host")) for request in server.requests} == {("a",)}
    assert not any("smuggled" in target for target in server.targets())
    assert proxy.pools["main"].servers[0].state_name == "up"


async def test_what_the_cases_have_in_common_is_forwarded(stage: Stage) -> None:
    """The request without what is wrong with it; otherwise all may be refused for something else."""
    got: list[Request] = []

    async def script(peer: Conversation, request: Request) -> None:
        got.append(request)
        await peer.respond(b"ok")

    await stage.proxy(await stage.server(script), listener={"h2c": True}, pool=POOL)
    fields = [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "a"), ("content-length", "5")]
    start = h2.PREFACE + h2.settings() + h2.headers(1, h2.hpack_block(fields))
    data = start + h2.data(1, b"hello", end=True)
    for pieces in plays(data):
        assert await play(stage, pieces) == FORWARDED
    assert {(request.method, request.target, request.body) for request in got} == {("POST", "/", b"hello")}
