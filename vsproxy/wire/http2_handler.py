# cython: annotation_typing=False
"""What a session of HTTP/2 tells the connection that it belongs to."""

from __future__ import annotations

from vsproxy.timers import Timed


class Http2Handler(Timed):
    """All of it is told from inside `Http2Session.receive` and `deliver`."""

    __slots__ = ()

    def on_request(self, stream_id: int, fields: tuple[tuple[bytes, bytes], ...], ended: bool) -> None:
        """A request: `fields` are pairs of bytes, those that begin with ":" first; `ended`: that is all of it."""
        raise NotImplementedError

    def on_data(self, stream_id: int, data: bytes, ended: bool) -> None:
        """A part of a body; the bytes count against the client's credit until `consume`."""
        raise NotImplementedError

    def on_trailers(self, stream_id: int, fields: tuple[tuple[bytes, bytes], ...]) -> None:
        """Fields that end a request."""
        raise NotImplementedError

    def on_reset(self, stream_id: int) -> None:
        """The client has reset a stream; `on_stream_closed` follows."""
        raise NotImplementedError

    def on_stream_closed(self, stream_id: int, code: int, ours: bool) -> None:
        """A stream is no more: `code` is 0 if both sides had ended, `ours` whether the session found it at fault."""
        raise NotImplementedError

    def on_window(self, stream_id: int) -> None:
        """The client has given credit, 0 for the connection."""
        raise NotImplementedError

    def on_pong(self) -> None:
        """The client has answered `ping`."""
        raise NotImplementedError

    def on_goaway(self) -> None:
        """The client begins nothing more."""
        raise NotImplementedError
