# cython: annotation_typing=False
"""What a stream of HTTP/2 knows of the connection that it belongs to."""

from __future__ import annotations

from vsproxy.downstream.serving import ListenerSettings
from vsproxy.introduction import Introduction
from vsproxy.stream import Downstream, ExchangeEvents
from vsproxy.timers import Sweep
from vsproxy.wire.http2 import Http2Session
from vsproxy.wire.http2_handler import Http2Handler


class StreamOwner(Http2Handler):
    """The connection of a stream, as far as the stream knows it.

    `spare_window` are bytes by which the windows of its streams may still grow, together. `full` and `ending` are
    streams that wait for what they have queued to leave: to go on, or to be closed. `queued_most` are bytes that all
    may have queued together, at most; `pressed`: that was too much.
    """

    __slots__ = (
        "ending",
        "full",
        "pressed",
        "queued_most",
        "session",
        "settings",
        "spare_window",
        "sweep",
        "writing_paused",
    )

    ending: set[Downstream]
    full: set[Downstream]
    pressed: bool
    queued_most: int
    session: Http2Session
    settings: ListenerSettings
    spare_window: int
    sweep: Sweep
    writing_paused: bool

    def flush(self) -> None:
        """Send what can be sent."""
        raise NotImplementedError

    def flush_soon(self) -> None:
        """The same, once in this turn of the loop, together with what else there will be."""
        raise NotImplementedError

    def push(self) -> None:
        """Send what can be sent, and hear nothing of what that leads to before the next `flush`."""
        raise NotImplementedError

    def look_at_total(self) -> None:
        """Hold all streams back if they have too much queued together."""
        raise NotImplementedError

    def has_room(self, number: int) -> bool:
        """Whether a stream that has little queued may have more."""
        raise NotImplementedError

    def note_over(self, exchange: ExchangeEvents) -> None:
        """An exchange of this connection is over."""
        raise NotImplementedError

    def introduction(self, version: str) -> Introduction | None:
        """As of `Downstream`."""
        raise NotImplementedError

    def note_stalled(self) -> None:
        """A client has stopped to take what it asked for."""
        raise NotImplementedError
