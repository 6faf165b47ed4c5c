"""The bytes of every body, as in native/pattern.c."""

from __future__ import annotations

from functools import cache

_PERIOD = 65521
_WORD = 0xFFFFFFFF


@cache
def _period() -> bytes:
    state = 2463534242
    found = bytearray()
    for _ in range(_PERIOD):
        state ^= (state << 13) & _WORD
        state ^= state >> 17
        state ^= (state << 5) & _WORD
        found.append((state >> 8) & 0xFF)
    return bytes(found)


def pattern(size: int) -> bytes:
    """Its first `size` bytes."""
    return (_period() * (size // _PERIOD + 1))[:size]
