"""Connections that the kernel has ready for a listener."""

from __future__ import annotations

import time

from storm.sockets import waiting

PATIENCE = 10.0


def until_queued(address: str, count: int) -> None:
    """Wait, without a turn of the loop, until `count` connections to this TCP address can be accepted.

    To its client a connection is there with the answer to its SYN; what the client says to that has still to
    arrive, and a listener that is closed sooner resets the connection.
    """
    port = int(address.rpartition(":")[2])
    deadline = time.monotonic() + PATIENCE
    while (found := waiting({port})) != count:
        assert time.monotonic() < deadline, f"{found} connections, not {count}"
        time.sleep(0.001)
