"""Whose turn it is: what is written of a few servers at each beat is written of many a part at a time.

A worker and control write ten times a second. For a thousand servers that would be a tenth of a processor.
"""

from __future__ import annotations

#: So many are written at each beat.
FEW = 100
#: Beats after which each of more has been written: a second.
TURNS = 10


def turns_of(count: int) -> int:
    """In how many parts, one at each beat, `count` servers are written."""
    return 1 if count <= FEW else TURNS
