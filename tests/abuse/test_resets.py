"""Streams that are begun to be reset, by the client or by what it makes us do, and more streams than there may be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from abuse.attacker import attacker, ended, get, numbers, post
from abuse.ordeal import Ordeal
from support import h2_frames as h2

pytestmark = pytest.mark.asyncio(loop_scope="module")

BATCH = 40
#: Requests of one connection that may reach a server, whatever its client does: 200 resets, and what may be open.
MOST_REQUESTS = 320


#: These end the connection at the first stream.
AT_ONCE = {
    "window update of nothing": (h2.window_update(1, 0), h2.PROTOCOL_ERROR, "protocol error"),
    "data after the end": (h2.data(1, b"x"), h2.STREAM_CLOSED, "frame for a closed stream"),
    "priority of a wrong length": (
        h2.raw(h2.PRIORITY, 0, 1, bytes(4)),
        h2.FRAME_SIZE_ERROR,
        "priority of a wrong length",
    ),
    "priority of itself": (h2.priority(1, 1), h2.PROTOCOL_ERROR, "stream depends on itself"),
    "promise of a client": (h2.push_promise(1, 2, b"\x82"), h2.PROTOCOL_ERROR, "protocol error"),
}


def length(value: int) -> tuple[str, str]:
    return ("content-length", str(value))


MADE: dict[str, Callable[[int], bytes]] = {
    "window too large": lambda n: get(n, "/never") + h2.window_update(n, h2.MAX_WINDOW),
    "more than the length": lambda n: post(n, "/never", length(1)) + h2.data(n, b"xx"),
    "less than the length": lambda n: post(n, "/never", length(3)) + h2.data(n, b"xx", end=True),
    "no request": lambda n: h2.headers(n, h2.hpack_block([("X", "y")]), end=True),
}


async def test_a_rapid_reset_reaches_no_server(target: Ordeal) -> None:
    """CVE-2023-44487. What is reset in the same breath has not begun."""
    flood = b"".join(get(n, "/never") + h2.rst_stream(n) for n in numbers(3000))

    async def attack() -> None:
        before = len(target.server.requests)
        async with attacker(target.address) as one:
            await ended(one, flood)
        assert len(target.server.requests) - before < MOST_REQUESTS

    await target.endure(attack, {"rapid reset": 1, "stream_resets": 200})


async def test_resets_of_requests_that_have_begun(target: Ordeal) -> None:
    """The same at leisure: a hundred requests, and when the server has them, their resets."""

    async def attack() -> None:
        before = len(target.server.requests)
        async with attacker(target.address) as one:
            for batch in range(5):
                streams = range(200 * batch + 1, 200 * batch + 200, 2)
                await one.send_in_batches([get(n, "/never") for n in streams])
                await one.ping()
                if one.told:
                    break
                await one.send(b"".join(h2.rst_stream(n) for n in streams))
            await one.read_to_end()
            assert one.goodbye() == h2.ENHANCE_YOUR_CALM, one.came()
        assert len(target.server.requests) - before < MOST_REQUESTS

    await target.endure(attack, {"rapid reset": 1, "stream_resets": 200})


@pytest.mark.parametrize("name", MADE)
async def test_resets_that_the_client_makes_us_do(name: str, target: Ordeal) -> None:
    """CVE-2025-8671. So few at a time that there are never too many open, and the next when the resets have come."""
    make = MADE[name]

    async def attack() -> None:
        before = len(target.server.requests)
        async with attacker(target.address) as one:
            for batch in range(10):
                streams = range(2 * BATCH * batch + 1, 2 * BATCH * (batch + 1), 2)
                await one.send(b"".join(make(n) for n in streams))
                await one.ping()
                if one.told:
                    break
            await one.read_to_end()
            assert one.goodbye() == h2.ENHANCE_YOUR_CALM, one.came()
        assert len(target.server.requests) - before < MOST_REQUESTS

    await target.endure(attack, {"stream errors": 1, "stream_errors": 100})


async def test_what_is_no_fault_of_a_stream_alone(target: Ordeal) -> None:
    async def attack() -> None:
        for frame, code, _ in AT_ONCE.values():
            async with attacker(target.address) as one:
                await ended(one, get(1, "/never") + frame, code)

    await target.endure(attack, Counter(event for _, _, event in AT_ONCE.values()))


async def test_more_streams_than_there_may_be(target: Ordeal) -> None:
    """For a client that has acknowledged how many, it is the end of the connection."""

    async def attack() -> None:
        before = len(target.server.requests)
        async with attacker(target.address) as one:
            await one.until(h2.SETTINGS, 0)
            await ended(one, b"".join(get(n, "/never") for n in numbers(6000)), h2.PROTOCOL_ERROR)
        assert len(target.server.requests) - before <= 100

    await target.endure(attack, {"protocol error": 1})


async def test_more_streams_before_their_number_is_known(target: Ordeal) -> None:
    """They are refused, which tells the client that it may try again."""

    async def attack() -> None:
        async with attacker(target.address, opening=h2.PREFACE + h2.settings()) as one:
            await one.send(b"".join(get(n, "/never") for n in numbers(150)))
            await one.ping()
            assert one.resets() == [h2.REFUSED_STREAM] * 50, one.came()

    await target.endure(attack, {})
