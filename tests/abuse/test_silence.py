"""Clients that begin something and leave it at that."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from abuse.attacker import OPENING, attacker, get, post
from abuse.ordeal import Ordeal
from support import h2_frames as h2

pytestmark = pytest.mark.asyncio(loop_scope="module")

LISTENER = {"header_timeout": "500ms", "idle_timeout": "500ms"}
#: Seconds after which it is not `header_timeout` any more, on a machine that does much else.
LATE = 10.0
CONNECTIONS = 200
UNFINISHED = h2.headers(3, b"\x82", end_headers=False)
BEGINNINGS = {
    "nothing": (b"", {}),
    "half a preface": (h2.PREFACE[:10], {}),
    "no settings": (h2.PREFACE, {"no request": 1}),
    "no acknowledgement": (h2.PREFACE + h2.settings(), {"no request": 1}),
    "no request": (OPENING, {"no request": 1}),
    "pings alone": (OPENING + h2.ping() * 3, {"no request": 1}),
    "half a frame": (OPENING + h2.ping()[:12], {"no request": 1}),
}
BLOCKS = {
    "no end of a block": UNFINISHED,
    "no end of its first frame": h2.headers(3, bytes(100), end=True)[:20],
    "no end of a continuation": UNFINISHED + h2.continuation(3, bytes(100))[:20],
}


async def test_what_becomes_no_request_is_cut_after_the_header_timeout(target: Ordeal) -> None:
    async def one_of_them(beginning: bytes) -> None:
        async with attacker(target.address, opening=beginning) as one:
            await one.read_to_end()
            assert 0.4 < one.ended - one.began < LATE

    async def attack() -> None:
        async with asyncio.TaskGroup() as all_of_them:
            for beginning, _ in BEGINNINGS.values():
                all_of_them.create_task(one_of_them(beginning))

    await target.endure(attack, {"no request": 5})


async def test_a_header_block_has_to_end_whatever_else_is_open(target: Ordeal) -> None:
    async def one_of_them(beginning: bytes) -> None:
        async with attacker(target.address) as one:
            await one.send(get(1, "/never") + beginning)
            await one.read_to_end()
            assert one.goodbye() == h2.ENHANCE_YOUR_CALM, one.came()
            assert 0.4 < one.ended - one.began < LATE

    async def attack() -> None:
        async with asyncio.TaskGroup() as all_of_them:
            for beginning in BLOCKS.values():
                all_of_them.create_task(one_of_them(beginning))

    await target.endure(attack, {"header timeout": len(BLOCKS)})


async def test_a_header_block_in_drops(target: Ordeal) -> None:
    """A byte every now and then does not win time."""

    async def attack() -> None:
        async with attacker(target.address) as one:
            await one.send(get(1, "/never") + h2.headers(3, bytes(1000), end=True)[:10])
            reading = asyncio.create_task(one.read_to_end())
            while not one.told and await one.send(b"\0"):
                await asyncio.sleep(0.05)
            await reading
            assert one.told - one.began < LATE

    await target.endure(attack, {"header timeout": 1})


async def test_many_connections_with_a_stream_each(target: Ordeal) -> None:
    """Nobody is cut for waiting: what each costs is what counts."""

    async def attack() -> None:
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(CONNECTIONS):
                one = await stack.enter_async_context(attacker(target.address))
                await one.send(post(1, "/never"))
            await one.ping()
            assert one.goodbye() is None

    await target.endure(attack, {})
