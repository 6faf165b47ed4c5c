"""Listening sockets as they travel with an order: packed by the supervisor, unpacked by a child."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence

from vsproxy.binding import BoundAddress, ListenerKey
from vsproxy.orders import SocketsOf


def packed(bound: Mapping[ListenerKey, BoundAddress]) -> tuple[tuple[SocketsOf, ...], list[int]]:
    """What an order says of `bound`, and the descriptors to send with it, which stay ours."""
    sockets = tuple(SocketsOf(key, item.bind, len(item.sockets)) for key, item in bound.items())
    return sockets, [sock.fileno() for item in bound.values() for sock in item.sockets]


def unpacked(sockets: Sequence[SocketsOf], descriptors: Sequence[int]) -> dict[ListenerKey, BoundAddress]:
    """The addresses that came with an order; descriptors that belong to none are closed."""
    rest = list(descriptors)
    found = {}
    for one in sockets:
        mine, rest = rest[: one.count], rest[one.count :]
        found[one.key] = BoundAddress(one.bind, [socket.socket(fileno=item) for item in mine], owner=False)
    for descriptor in rest:
        os.close(descriptor)
    return found
