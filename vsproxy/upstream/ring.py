"""The points that a server owns on a hash ring. They follow from its address alone."""

from __future__ import annotations

import struct
from hashlib import blake2b

from vsproxy.upstream.server import Server

# A point is 40 bits of hash and 20 bits of slot: beyond 60 bits CPython's integers need a third digit
# and comparing them gets slower.
SLOT_BITS = 20
SLOT_MASK = (1 << SLOT_BITS) - 1
_POINTS_PER_HASH = 8


def ring_points(server: Server, slot: int, count: int) -> list[int]:
    """The first `count` points of `server`, marked with `slot`. A longer list begins with the shorter."""
    name = f"{server.name}|{server.address}|".encode()
    points: list[int] = []
    for block in range((count + _POINTS_PER_HASH - 1) // _POINTS_PER_HASH):
        digest = blake2b(name + b"%d" % block).digest()
        points += [value >> 24 << SLOT_BITS | slot for value in struct.unpack("<8Q", digest)]
    return points[:count]
