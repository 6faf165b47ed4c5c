"""What servers are told of one connection of a client by the PROXY protocol, and the connections that began with it.

Such a connection is the client's own: whatever else were sent on it, the server would take for that client's too. So
it is used again only where the header would be the same, and closed, if it is idle, when the client goes. A header that
names nobody, as for clients of a Unix socket, is the same for all of them.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Protocol

from vsproxy.wire.proxy_header import Ends, block_of, ends_of, line_of


class Introduced(Protocol):
    """A connection to a server."""

    lost: bool

    def leave_idle(self) -> bool:
        """Whether it was idle; it can no longer be taken."""

    def close(self) -> None:
        """Close it."""


class Introduction:
    """A `header`, as it is sent. With `personal` False it names nobody, and others may say the same."""

    __slots__ = ("_held", "_personal", "header")

    def __init__(self, header: bytes, personal: bool = True) -> None:
        self.header = header
        self._personal = personal
        self._held: list[Introduced] = []

    def hold(self, connection: Introduced) -> None:
        """`connection` has begun with the header."""
        if self._personal:
            self._held = [*(held for held in self._held if not held.lost), connection]

    def header_for(self, transport: asyncio.Transport) -> bytes:
        """The header, which is the same on every connection."""
        return self.header

    def end(self) -> None:
        """The client is gone: nobody will ask for what is idle."""
        held, self._held = self._held, []
        for connection in held:
            if connection.leave_idle():
                connection.close()


def client_ends(transport: asyncio.Transport) -> Ends | None:
    """The two ends of a client's connection, None for a Unix socket.

    Raises ConnectionError if the connection is broken and nobody knows its ends any more.
    """
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family == socket.AF_UNIX:
        return None
    peer, own = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
    if not peer or not own:
        raise ConnectionError("the client is gone")
    return ends_of(peer[0], peer[1], own[0], own[1])


def make_introduction(version: str, ends: Ends | None) -> Introduction:
    """By `version`, `v1` or `v2`, for a connection with these ends; None for one that has no address."""
    return Introduction(line_of(ends) if version == "v1" else block_of(ends), personal=ends is not None)


class Introductions:
    """Those of one connection of a client, by version; `ends` are what a PROXY header has said of it, None: its own."""

    __slots__ = ("_ends", "_known")

    def __init__(self, ends: Ends | None) -> None:
        self._ends = ends
        self._known: dict[str, Introduction] = {}

    def of(self, version: str, transport: asyncio.Transport) -> Introduction | None:
        """Made when the first server wants it, and the same for all requests; None if nobody knows any more."""
        known = self._known.get(version)
        if known is None:
            try:
                ends = self._ends or client_ends(transport)
            except ConnectionError:
                return None
            known = self._known[version] = make_introduction(version, ends)
        return known

    def end(self) -> None:
        """The client is gone."""
        for told in self._known.values():
            told.end()
