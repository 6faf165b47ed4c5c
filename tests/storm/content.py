"""Bodies that both ends know, so that a byte lost, doubled or exchanged on the way is seen."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass

#: Longer than any buffer, and no multiple of one: a piece that went missing shifts all that follows.
PERIOD = 1_000_003
PATTERN = random.Random(20250101).randbytes(PERIOD)


def content(seed: int, size: int) -> bytes:
    """`size` bytes that differ for each `seed`."""
    start = seed * 7919 % PERIOD
    return (PATTERN * ((start + size) // PERIOD + 1))[start : start + size]


@dataclass(frozen=True, slots=True)
class Expected:
    """What a body has to be."""

    length: int
    sha256: str

    @classmethod
    def of(cls, body: bytes) -> Expected:
        """The expectation that a body is `body`."""
        return cls(len(body), hashlib.sha256(body).hexdigest())
