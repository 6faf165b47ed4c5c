"""Floods: what is cheap to send and not to take ends the connection, with a reason that is counted."""

from __future__ import annotations

from collections import Counter

import pytest

from abuse.attacker import attacker, ended
from abuse.floods import FLOODS, Flood
from abuse.ordeal import Ordeal
from support import h2_frames as h2

pytestmark = pytest.mark.asyncio(loop_scope="module")

SOON = 10.0  # seconds that even a busy machine does not need


@pytest.mark.parametrize("floods", FLOODS.values(), ids=FLOODS)
async def test_a_flood_ends_its_connection_and_nothing_else(floods: list[Flood], target: Ordeal) -> None:
    async def attack() -> None:
        for flood in floods:
            async with attacker(target.address) as one:
                await one.flood(flood.data)
                assert one.goodbye() == flood.code, f"{flood.name}: {one.came()}"
                assert one.told - one.began < SOON

    await target.endure(attack, Counter(flood.event for flood in floods))


async def test_a_ping_flood_of_a_client_that_reads_nothing(target: Ordeal) -> None:
    """Answers that nobody takes are not kept."""

    async def attack() -> None:
        async with attacker(target.address, receive_buffer=4096) as one:
            for _ in range(20):
                if not await one.send(h2.ping() * 1000):
                    break
            await one.read_to_end()
            assert one.goodbye() == h2.ENHANCE_YOUR_CALM, one.came()

    await target.endure(attack, {"ping flood": 1})


async def test_requests_after_a_goaway_end_with_those_before(target: Ordeal) -> None:
    """What the client begins after it has said that it begins nothing more is answered; nothing stays open for it."""
    from abuse.attacker import get

    async def attack() -> None:
        async with attacker(target.address) as one:
            await ended(one, get(1) + h2.goaway() + b"".join(get(n) for n in range(3, 101, 2)), None)
            assert one.frames

    await target.endure(attack, {})
