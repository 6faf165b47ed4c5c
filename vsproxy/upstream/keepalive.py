# cython: annotation_typing=False
"""Idle upstream connections: which one to take, which to keep. The last one in is the first one out."""

from __future__ import annotations

import socket

from vsproxy.upstream.http1 import UpstreamConnection
from vsproxy.upstream.server import DRAIN, MAINT, Server

_DRAIN, _MAINT = DRAIN, MAINT


def looks_alive(connection: UpstreamConnection) -> bool:
    """Whether the kernel has neither a FIN, a reset nor stray bytes for an idle connection.

    The loop may not have told us yet; a look costs one system call.
    """
    transport = connection.transport
    sock = transport.get_extra_info("socket") if transport is not None else None
    if sock is None or sock.fileno() < 0:
        return False
    probe = socket.socket(sock.family, socket.SOCK_STREAM, 0, fileno=sock.fileno())
    try:
        probe.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        probe.detach()
    return False


class Keepalive:
    """A pool's limits for idle connections: how many per server, idle and total age in seconds, requests."""

    __slots__ = ("age", "idle_timeout", "limit", "requests")

    def __init__(self, limit: int, idle_timeout: float, requests: int, age: float) -> None:
        self.limit = limit
        self.idle_timeout = idle_timeout
        self.requests = requests
        self.age = age

    def take(self, server: Server, now: float, repeatable: bool) -> UpstreamConnection | None:
        """An idle connection of `server`, or None.

        A request that is not `repeatable` gets one only if the server will surely still read it.
        """
        idle = server.idle
        while idle:
            connection: UpstreamConnection = idle[-1]  # type: ignore[assignment]
            if connection.lost or connection.transport.is_closing():  # type: ignore[union-attr]
                idle.pop()
                continue
            if not repeatable:
                if not server.is_safe_to_reuse(now - connection.idle_since):
                    return None
                if not looks_alive(connection):
                    idle.pop()
                    server.note_idle_close(now - connection.idle_since)
                    connection.close()
                    continue
            idle.pop()
            return connection
        return None

    def put(self, connection: UpstreamConnection, now: float) -> None:
        """Keep a connection whose exchange is over, or close it if it may not be used again."""
        server = connection.server
        if connection.requests > 1:
            server.note_reuse()
        if (
            not connection.reusable
            or connection.lost
            or self.limit == 0
            or server.removed
            or server.state == _DRAIN
            or server.state == _MAINT
            or connection.requests >= self.requests
            or now - connection.created >= self.age
        ):
            connection.close()
            return
        connection.resume_reading()
        connection.idle_since = now
        if 0.0 <= server.reuse_until < self.idle_timeout:
            # Close it before the server does, and nobody is hit by the race.
            connection.deadline = now + server.reuse_until
        else:
            connection.deadline = now + self.idle_timeout
        idle = server.idle
        if len(idle) >= self.limit:
            # The oldest is the one the server is most likely to close next.
            oldest: UpstreamConnection = idle.pop(0)  # type: ignore[assignment]
            oldest.close()
        idle.append(connection)

    def drop_all(self, server: Server) -> None:
        """Close every idle connection of `server`."""
        idle = list(server.idle)
        server.idle.clear()
        for connection in idle:
            connection.close()  # type: ignore[attr-defined]
