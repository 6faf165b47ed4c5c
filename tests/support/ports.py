"""Ports of loopback that belong to one test, also while nobody listens on them."""

from __future__ import annotations

import socket
from typing import Self


class Ports:
    """Each is kept by a socket that is bound to it and does not listen: clients are refused.

    The kernel passes such a port over in bind(2) to port 0 and in connect(2), so that no process of this machine
    gets it by chance. Who asks for it by number and with SO_REUSEADDR, as servers do, gets it, again and again.
    """

    def __init__(self) -> None:
        self._held: list[socket.socket] = []

    def take(self) -> int:
        """A free port, kept until `close`."""
        holder = socket.socket()
        self._held.append(holder)
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        return int(holder.getsockname()[1])

    def close(self) -> None:
        """Keep none of them any longer."""
        for holder in self._held:
            holder.close()
        self._held.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
