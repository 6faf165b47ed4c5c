# cython: annotation_typing=False
"""Idle upstream connections: which one to take, which to keep. The last one in is the first one out."""

from __future__ import annotations

from vsproxy import sockets
from vsproxy.introduction import Introduction
from vsproxy.upstream.http1 import UpstreamConnection
from vsproxy.upstream.server import DRAIN, MAINT, Server
from vsproxy.upstream.tls import ClientTls

_DRAIN, _MAINT = DRAIN, MAINT


class Keepalive:
    """A pool's limits for idle connections: how many per server, idle and total age in seconds, requests.

    `tls` is what connections are to be made with (None: plain): those of another time are not kept.
    """

    __slots__ = ("age", "idle_timeout", "limit", "requests", "tls")

    def __init__(self, limit: int, idle_timeout: float, requests: int, age: float) -> None:
        self.limit = limit
        self.idle_timeout = idle_timeout
        self.requests = requests
        self.age = age
        self.tls: ClientTls | None = None

    def take(
        self, server: Server, now: float, repeatable: bool, introduction: Introduction | None = None
    ) -> UpstreamConnection | None:
        """An idle connection of `server`, or None.

        A request that is not `repeatable` gets one only if the server will surely still read it. A connection that
        began with a PROXY header is only for those who would begin one with the same, as `introduction` says.
        """
        idle = server.idle
        while idle:
            connection: UpstreamConnection = idle[-1]  # type: ignore[assignment]
            if connection.introduction is not introduction and not bring_forward(idle, introduction):
                return None
            connection = idle[-1]  # type: ignore[assignment]
            if connection.lost or connection.transport.is_closing():  # type: ignore[union-attr]
                idle.pop()
                continue
            if not repeatable:
                if not server.is_safe_to_reuse(now - connection.idle_since):
                    # The oldest may be proof that the next one can be taken.
                    oldest: UpstreamConnection = idle[0]  # type: ignore[assignment]
                    if not oldest.lost:
                        server.note_survival(now - oldest.idle_since)
                    return None
                if connection.tls is not None:
                    # What has come may be a session ticket as well as the end, and its transport will say soon.
                    # Until then it is not for such a request, and nothing is held against the server.
                    if not sockets.is_quiet(connection.transport.sender.descriptor):  # type: ignore[union-attr]
                        return None
                elif not sockets.is_quiet(connection.sender.descriptor):  # type: ignore[union-attr]
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
            or connection.tls is not self.tls
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
            if not server.is_trusted():
                # The oldest has to show how long the server lets it live.
                connection.close()
                return
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


def bring_forward(idle: list[object], introduction: Introduction | None) -> bool:
    """Put the youngest of `idle` that began as `introduction` says at its end; False if there is none."""
    wanted = introduction.header if introduction is not None else b""
    for index in range(len(idle) - 1, -1, -1):
        connection: UpstreamConnection = idle[index]  # type: ignore[assignment]
        began = connection.introduction
        if (began.header if began is not None else b"") == wanted:
            idle.append(idle.pop(index))
            return True
    return False
