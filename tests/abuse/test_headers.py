"""Header blocks that become more than they were, or are more than anybody takes."""

from __future__ import annotations

import pytest

from abuse.attacker import attacker, block, ended, numbers
from abuse.ordeal import Ordeal
from support import h2_frames as h2

pytestmark = pytest.mark.asyncio(loop_scope="module")

LISTENER = {"max_head": 32 * 1024}
#: What the first entry of the dynamic table is called (RFC 7541 section 2.3.3), as a whole field.
ENTRY = b"\xbe"


def remembered(name: str, value: str) -> bytes:
    """A literal field that the table keeps (RFC 7541 section 6.2.1)."""
    return b"\x40" + h2.hpack_string(name.encode()) + h2.hpack_string(value.encode())


def split(stream: int, whole: bytes, *, end: bool = True) -> bytes:
    """A header block in as many frames as it takes."""
    frames = [h2.headers(stream, whole[:16384], end=end, end_headers=len(whole) <= 16384)]
    for at in range(16384, len(whole), 16384):
        frames.append(h2.continuation(stream, whole[at : at + 16384], end_headers=at + 16384 >= len(whole)))
    return b"".join(frames)


async def test_a_large_entry_named_thousands_of_times(target: Ordeal) -> None:
    """16 KiB become 60 MiB, if all of it is written down."""
    bomb = h2.headers(1, block("GET", "/never") + remembered("x", "y" * 4000), end=True)
    bomb += split(3, block("GET", "/never") + ENTRY * 16000)

    async def attack() -> None:
        async with attacker(target.address) as one:
            await ended(one, bomb)

    await target.endure(attack, {"limits exceeded": 1})


async def test_a_large_entry_on_each_of_a_hundred_streams(target: Ordeal) -> None:
    """As often as a request may have it, and the streams stay open: what is in progress has a bound of its own."""
    bomb = [h2.headers(1, block("GET", "/never") + remembered("x", "y" * 4000), end=True)]
    bomb += [h2.headers(n, block("POST", "/never") + ENTRY * 6) for n in numbers(100) if n > 1]

    async def attack() -> None:
        async with attacker(target.address) as one:
            await one.send_in_batches(bomb)
            await one.ping()
            assert one.goodbye() is None, one.came()
            assert set(one.resets()) == {h2.REFUSED_STREAM}, one.came()
            assert len(one.resets()) > 80

    await target.endure(attack, {"refused": 80})


async def test_tiny_fields_on_a_hundred_streams(target: Ordeal) -> None:
    """CVE-2026-49975: a byte of the wire is a field, each of which is worth a hundred as an object."""
    first = block("POST", "/never") + remembered("x", "y")
    bomb = [h2.headers(1, first)]
    bomb += [h2.headers(n, block("POST", "/never") + ENTRY * 90) for n in numbers(100) if n > 1]

    async def attack() -> None:
        async with attacker(target.address) as one:
            await one.send_in_batches(bomb)
            await one.ping()
            assert one.goodbye() is None, one.came()

    await target.endure(attack, {})


async def test_crumbs_of_cookies_on_a_hundred_streams(target: Ordeal) -> None:
    """The same as one field that comes in pieces (RFC 9113 section 8.2.3), as many as a block may have."""
    first = block("POST", "/never") + remembered("cookie", "")
    bomb = [h2.headers(1, first)]
    bomb += [h2.headers(n, block("POST", "/never") + ENTRY * 250) for n in numbers(100) if n > 1]

    async def attack() -> None:
        async with attacker(target.address) as one:
            await one.send_in_batches(bomb)
            await one.ping()
            assert one.goodbye() is None, one.came()

    await target.endure(attack, {})


async def test_too_many_fields(target: Ordeal) -> None:
    """A few too many are refused, thousands end the connection."""
    few = h2.headers(1, block("GET", "/", *[(f"x{n}", "y") for n in range(120)]), end=True)
    many = split(3, block("GET", "/", *[(f"x{n}", "y") for n in range(3000)]))

    async def attack() -> None:
        async with attacker(target.address) as one:
            await one.send(few)
            answer = await one.until(h2.HEADERS, 1)
            assert b"431" in answer.payload
            await ended(one, many)

    await target.endure(attack, {"limits exceeded": 1})


async def test_too_large_a_header_list(target: Ordeal) -> None:
    """The same for bytes: from `max_head` on there is an answer, from 64 KiB on the end."""
    some = h2.headers(1, block("GET", "/") + remembered("x", "y" * 1000) + ENTRY * 60, end=True)
    much = split(3, block("GET", "/", ("x", "y" * 40000)))

    async def attack() -> None:
        async with attacker(target.address) as one:
            await one.send(some)
            answer = await one.until(h2.HEADERS, 1)
            assert b"431" in answer.payload
            await ended(one, much)

    await target.endure(attack, {"header block too large": 1})
