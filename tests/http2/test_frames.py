"""What only HTTP/2 has: heads in several frames, padding, priorities, settings that change."""

from __future__ import annotations

import asyncio

import pytest
from h2.settings import SettingCodes

from support.h2_client import H2Client
from support.h2_front import Front, only
from support.h2_stream import H2Stream
from support.http import Request
from support.server import Conversation

PRIORITY_UPDATE = 0x10
BODY = 100_000


async def mirror(peer: Conversation, request: Request) -> None:
    """The field X-Size decides how long the one that comes back is."""
    size = int(request.fields.get("X-Size") or 0)
    await peer.respond(request.body, fields=[("X-Long", "v" * size)])


async def test_a_head_in_several_frames(front: Front) -> None:
    """CONTINUATION, both ways: neither head fits a frame of 16 KiB."""
    server = await front.stage.server(mirror)
    await front.proxy(server)
    cookies = [("cookie", f"c{number}=" + "X" * 900) for number in range(24)]
    async with front.client() as client:
        response = await client.request(fields=[*cookies, ("x-size", "30000")])
        assert response.fields.get("x-long") == "v" * 30_000
        assert (await client.request()).status == 200
    cookie = server.requests[0].fields.get("Cookie")
    assert cookie == "; ".join(value for _, value in cookies)


async def test_heads_without_a_table(plain: Front) -> None:
    """A client that keeps no table for HPACK (RFC 7541 section 4.2) reads every head."""
    await plain.proxy(await plain.stage.server(mirror))
    async with plain.client() as client:
        assert (await client.request(fields=[("x-size", "10")])).fields.get("x-long") == "v" * 10
        await client.settings({SettingCodes.HEADER_TABLE_SIZE: 0})
        for size in (10, 20, 10):
            response = await client.request(fields=[("x-size", str(size))])
            assert response.fields.get("x-long") == "v" * size


async def test_frames_larger_than_the_least_are_kept_to(plain: Front) -> None:
    """The client takes frames of up to 64 KiB; `h2` fails the test for one that is larger than it has allowed."""

    async def script(peer: Conversation, request: Request) -> None:
        await peer.respond(bytes(1 << 20))

    await plain.proxy(await plain.stage.server(script))
    async with plain.client() as client:
        assert (await client.request()).size == 1 << 20
        await client.settings({SettingCodes.MAX_FRAME_SIZE: 65536})
        assert (await client.request()).size == 1 << 20


async def test_a_get_with_a_body(plain: Front) -> None:
    server = await plain.stage.server(mirror)
    await plain.proxy(server)
    async with plain.client() as client:
        assert (await client.request("GET", body=b"unusual")).body == b"unusual"
    assert (only(server).method, only(server).framing) == ("GET", "chunked")


async def test_padding_of_the_client_is_taken_off_and_credited(plain: Front) -> None:
    """255 of every 256 bytes are padding: without credit for them the upload would stop after one window."""
    server = await plain.stage.server(mirror)
    await plain.proxy(server)
    async with plain.client() as client:
        stream = await client.start("POST", end=False)
        for _ in range(1000):
            await client.until(lambda: client.h2.local_flow_control_window(stream.number) > 256, "credit")
            client.h2.send_data(stream.number, b"x", pad_length=255)
            await client.flush()
        await stream.end()
        assert (await stream.finished()).body == b"x" * 1000


# Priorities (RFC 9218)


async def order(client: H2Client, *streams: H2Stream) -> list[int]:
    """Which stream each piece of body belongs to, in the order in which they come once there is credit for all."""
    came: list[int] = []
    for stream in streams:
        await stream.head_arrived()
        number = stream.number

        def note(data: bytes, number: int = number) -> None:
            came.append(number)

        stream.on_data = note
    # The bodies have to wait at the proxy; that they do nobody can see.
    await asyncio.sleep(0.2)
    await client.ping()
    for stream in streams:
        client.h2.increment_flow_control_window(BODY, stream.number)
    await client.flush()
    for stream in streams:
        await stream.finished()
    return came


@pytest.fixture
async def far_and_near(plain: Front) -> Front:
    """A proxy whose server answers everything with 100 kB."""

    async def script(peer: Conversation, request: Request) -> None:
        await peer.respond(bytes(BODY))

    await plain.proxy(await plain.stage.server(script))
    return plain


async def test_what_is_more_urgent_comes_first(far_and_near: Front) -> None:
    async with far_and_near.client(window=0) as client:
        late = await client.start(fields=[("priority", "u=6")])
        soon = await client.start(fields=[("priority", "u=1")])
        came = await order(client, late, soon)
    assert came == sorted(came, key=lambda number: number != soon.number)


async def test_a_priority_may_change(far_and_near: Front) -> None:
    """PRIORITY_UPDATE (RFC 9218 section 7.1)."""
    async with far_and_near.client(window=0) as client:
        first = await client.start(fields=[("priority", "u=2")])
        second = await client.start(fields=[("priority", "u=3")])
        payload = second.number.to_bytes(4) + b"u=0"
        await client.send_bytes(len(payload).to_bytes(3) + bytes([PRIORITY_UPDATE]) + bytes(5) + payload)
        came = await order(client, first, second)
    assert came == sorted(came, key=lambda number: number != second.number)


async def test_incremental_ones_of_the_same_urgency_take_turns(far_and_near: Front) -> None:
    async with far_and_near.client(window=0) as client:
        streams = [await client.start(fields=[("priority", "u=3, i")]) for _ in range(2)]
        came = await order(client, *streams)
    half = came[: len(came) // 2]
    assert set(half) == {stream.number for stream in streams}
