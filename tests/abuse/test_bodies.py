"""Bodies: in crumbs, padded, stalled, and asked for but not taken."""

from __future__ import annotations

import asyncio

import pytest

from abuse.attacker import attacker, get, numbers, post
from abuse.ordeal import MIB, Ordeal
from support import h2_frames as h2

pytestmark = pytest.mark.asyncio(loop_scope="module")

LISTENER = {"body_timeout": "500ms", "send_timeout": "500ms"}
LARGE = f"/{64 * MIB}"
WINDOW = 65535
STREAMS = 100


def opening(window: int) -> bytes:
    """With so much credit for each stream, and more than there will be for all together."""
    return h2.PREFACE + h2.settings((h2.INITIAL_WINDOW_SIZE, window)) + h2.window_update(0, h2.MAX_WINDOW - WINDOW)


# Uploads


async def test_a_body_in_crumbs(target: Ordeal) -> None:
    """Ten bytes of the wire for one of a body, each of which somebody has to be given: others get their turns."""
    crumbs = h2.data(1, b"x") * 20_000

    async def attack() -> None:
        async with attacker(target.address) as one:
            await one.send(post(1, "/taken") + crumbs)
            await one.ping()
            assert one.goodbye() is None, one.came()

    await target.endure(attack, {})


async def test_a_body_of_padding(target: Ordeal) -> None:
    """A byte, and 255 of nothing: by a client that keeps to the credit it has, which is given for padding at once."""
    frame = h2.data(1, b"x", padding=255)

    async def attack() -> None:
        async with attacker(target.address) as one:
            await one.send(post(1, "/taken"))
            while not one.told:
                given = sum(
                    int.from_bytes(f.payload, "big") for f in one.frames if (f.type, f.stream) == (h2.WINDOW_UPDATE, 1)
                )
                room = (WINDOW + given - one.spent) // 257
                one.spent += room * 257
                if room == 0 or not await one.send(frame * room):
                    await one.read()
                elif room:
                    await one.ping()
            assert one.goodbye() == h2.ENHANCE_YOUR_CALM, one.came()

    await target.endure(attack, {"more framing than content": 1})


async def test_a_hundred_uploads_to_a_server_that_reads_nothing(target: Ordeal) -> None:
    """What lies here is the first window of each."""
    uploads = [post(n, "/unread") + h2.data(n, bytes(WINDOW // 4)) * 4 for n in numbers(STREAMS)]

    async def attack() -> None:
        async with attacker(target.address) as one:
            await one.until(h2.SETTINGS, 0)
            await one.until(h2.WINDOW_UPDATE, 0)
            await one.send_in_batches(uploads)
            await one.ping()
            assert one.goodbye() is None, one.came()
            assert one.resets() == []

    await target.endure(attack, {})


async def test_uploads_that_stop(target: Ordeal) -> None:
    """Each gets its 408 after `body_timeout`, and is closed."""
    uploads = [post(n, "/taken") + h2.data(n, b"x") for n in numbers(STREAMS)]

    async def attack() -> None:
        async with attacker(target.address) as one:
            await one.send_in_batches(uploads)
            await one.until_resets(STREAMS)
            assert set(one.resets()) == {h2.NO_ERROR}

    await target.endure(attack, {})


async def test_uploads_that_trickle(target: Ordeal) -> None:
    """A byte now and then is a body, if a slow one: it costs what a hundred requests in progress do."""

    async def attack() -> None:
        async with attacker(target.address) as one:
            await one.send_in_batches([post(n, "/taken") for n in numbers(STREAMS)])
            for _ in range(3):
                await one.send(b"".join(h2.data(n, b"x") for n in numbers(STREAMS)))
                await asyncio.sleep(0.1)
            await one.ping()
            assert one.goodbye() is None, one.came()

    await target.endure(attack, {})


# Downloads


async def test_a_hundred_downloads_without_credit(target: Ordeal) -> None:
    """Servers are held back, and after `send_timeout` each stream is reset."""
    asked = [get(n, LARGE) for n in numbers(STREAMS)]

    async def attack() -> None:
        async with attacker(target.address, opening=opening(0)) as one:
            await one.send_in_batches(asked)
            await one.until_resets(STREAMS)
            assert set(one.resets()) == {h2.CANCEL}
            assert one.received == 0

    await target.endure(attack, {"stalled": STREAMS})


@pytest.mark.parametrize("window", [1, 16384])
async def test_a_hundred_downloads_with_a_little_credit(window: int, target: Ordeal) -> None:
    """The same after so many bytes."""
    asked = [get(n, LARGE) for n in numbers(STREAMS)]

    async def attack() -> None:
        async with attacker(target.address, opening=opening(window)) as one:
            await one.send_in_batches(asked)
            await one.until_resets(STREAMS)
            assert set(one.resets()) == {h2.CANCEL}
            assert one.received <= STREAMS * window

    await target.endure(attack, {"stalled": STREAMS})


async def test_a_hundred_downloads_with_a_byte_of_credit_now_and_then(target: Ordeal) -> None:
    asked = [get(n, LARGE) for n in numbers(STREAMS)]

    async def attack() -> None:
        async with attacker(target.address, opening=opening(0)) as one:
            await one.send_in_batches(asked)
            for _ in range(4):
                if not await one.send(b"".join(h2.window_update(n, 1) for n in numbers(STREAMS))):
                    break
                await asyncio.sleep(0.1)
            await one.ping()
            assert one.goodbye() is None, one.came()

    await target.endure(attack, {})


async def test_a_hundred_downloads_of_a_client_that_does_not_read(target: Ordeal) -> None:
    """Credit without end, but the socket is full: after `send_timeout` the connection is cut."""
    asked = [get(n, LARGE) for n in numbers(STREAMS)]

    async def attack() -> None:
        async with attacker(target.address, receive_buffer=4096, opening=opening(h2.MAX_WINDOW)) as one:
            await one.send_in_batches(asked)
            await one.cut()

    await target.endure(attack, {"stalled": 1})


async def test_a_hundred_downloads_of_a_client_that_reads_slowly(target: Ordeal) -> None:
    """4 KiB at a time: it may go on, and nothing piles up meanwhile."""
    asked = [get(n, LARGE) for n in numbers(STREAMS)]

    async def attack() -> None:
        async with attacker(target.address, receive_buffer=4096, opening=opening(h2.MAX_WINDOW)) as one:
            await one.send_in_batches(asked)
            for _ in range(10):
                assert await one.read_some(4096)
                await asyncio.sleep(0.05)

    await target.endure(attack, {})
