"""Where TLS is read: records as they arrive, and what was in them. One pair is enough for all connections of a loop."""

from __future__ import annotations

import mmap

from vsproxy.tls_limits import RECORD

#: Bytes that are read at once. Each turn of a fast body wakes both peers, which costs more than the copying does:
#: with half as many per turn, an upload is dearer.
ARRIVING = 1024 * 1024


class TlsBuffers:
    """`arriving` has what was read last, `opened` what was in it, with the record of which a part was there before.

    Nobody leaves anything here between two reads.
    """

    __slots__ = ("arriving", "opened")

    def __init__(self) -> None:
        self.arriving = _pages(ARRIVING)
        self.opened = _pages(ARRIVING + RECORD)


def _pages(size: int) -> memoryview:
    """Memory that takes none before it is used."""
    return memoryview(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
