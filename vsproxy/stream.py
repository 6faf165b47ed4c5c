# cython: annotation_typing=False
"""The narrow waist: what an exchange may ask of a side, and what a side may tell an exchange.

An HTTP/1 connection is its own `Stream`; an HTTP/2 connection makes one per stream id. `Exchange`
is the only implementation of `ExchangeEvents`. Neither side knows the other, and this module knows
neither.
"""

from __future__ import annotations

import asyncio

from vsproxy.introduction import Introduction
from vsproxy.relay import Relay
from vsproxy.splice import Splice, Splicer
from vsproxy.timers import Timed
from vsproxy.wire.message import RequestHead, ResponseHead


class Stream(Timed):
    """One side of an exchange. Every call is synchronous and never blocks.

    `splice`: what takes the body from this side's transport while that does not read itself.
    """

    __slots__ = ("splice",)

    splice: Splice | None

    def __init__(self) -> None:
        super().__init__()
        self.splice = None

    def send_body(self, data: bytes) -> None:
        """Send body bytes; the side frames them. May answer with `ExchangeEvents` back-pressure."""
        raise NotImplementedError

    def send_end(self, trailers: bytes) -> None:
        """The message is complete; `trailers` are field lines, empty for none."""
        raise NotImplementedError

    def abort(self) -> None:
        """Break the message off so that the peer cannot take it for complete."""
        raise NotImplementedError

    def pause_reading(self) -> None:
        """Deliver no more body bytes until `resume_reading`."""
        raise NotImplementedError

    def resume_reading(self) -> None:
        """Undo `pause_reading`."""
        raise NotImplementedError


class ExchangeEvents:
    """What the two sides of an exchange tell it."""

    __slots__ = ()

    # From the downstream side

    def on_request_body(self, data: bytes) -> None:
        """Decoded bytes of the request body."""
        raise NotImplementedError

    def on_request_end(self, trailers: bytes) -> None:
        """The request is complete."""
        raise NotImplementedError

    def on_request_rest(self, rest: int) -> None:
        """What is still to come of the body are `rest` bytes as they are: the kernel may move them."""
        raise NotImplementedError

    def on_request_spliced(self, count: int) -> None:
        """The kernel has moved `count` of them."""
        raise NotImplementedError

    def on_client_gone(self) -> None:
        """The client's connection is broken: nothing can reach it any more."""
        raise NotImplementedError

    # From the upstream side

    def on_interim(self, head: ResponseHead) -> None:
        """A 1xx response other than 101."""
        raise NotImplementedError

    def on_response_head(self, head: ResponseHead, more: bool) -> None:
        """The final response's head; `more`: the next call follows at once, so it may wait for that."""
        raise NotImplementedError

    def on_response_body(self, data: bytes) -> None:
        """Decoded bytes of the response body."""
        raise NotImplementedError

    def on_response_rest(self) -> None:
        """What is still to come of the body are bytes as they are: the kernel may move them."""
        raise NotImplementedError

    def on_response_spliced(self, count: int) -> None:
        """The kernel has moved `count` of them."""
        raise NotImplementedError

    def on_response_end(self, trailers: bytes) -> None:
        """The response is complete."""
        raise NotImplementedError

    def on_upstream_failed(self, kind: str) -> None:
        """The server's side failed before the response was complete.

        `kind` is `reset`, `timeout` or `bad_response`.
        """
        raise NotImplementedError

    # From either side

    def on_downstream_full(self, full: bool) -> None:
        """The client's side has (no) room to write."""
        raise NotImplementedError

    def on_upstream_full(self, full: bool) -> None:
        """The server's side has (no) room to write."""
        raise NotImplementedError


class Downstream(Stream):
    """The client's side of an exchange."""

    __slots__ = ()

    def send_head(self, head: ResponseHead, more: bool) -> None:
        """Send a response head; the side chooses the framing. `more`: another call follows at once."""
        raise NotImplementedError

    def on_exchange_over(self, exchange: ExchangeEvents) -> None:
        """The exchange has ended; its last bytes may still have to be sent."""
        raise NotImplementedError

    def withdraw_head(self) -> bool:
        """Take back a head that waits for its body; False if it has gone out."""
        raise NotImplementedError

    def introduction(self, version: str) -> Introduction | None:
        """How servers are told whose connection this is, by `v1` or `v2` of the PROXY protocol.

        None if that is no longer known, since the client is gone.
        """
        raise NotImplementedError

    def splicing(self) -> tuple[Splicer, asyncio.Transport] | None:
        """Who may move body bytes in the kernel, and the transport from or to which; None: nobody, ever."""
        raise NotImplementedError

    def on_spliced(self, count: int) -> None:
        """`count` bytes of the request's body were taken from the transport by the kernel."""
        raise NotImplementedError

    def on_splice_over(self, complete: bool) -> None:
        """No more are taken: read on, or end the request if its body is `complete`."""
        raise NotImplementedError

    def hand_over(self, head: ResponseHead) -> tuple[asyncio.Transport, bytes, Relay | None]:
        """Send a 101 and give the transport away, with what the client sent after its head, and who may read it."""
        raise NotImplementedError

    def accepts_switch(self, head: ResponseHead) -> bool:
        """Whether a 101 is what was asked for, as far as that is this side's to say."""
        raise NotImplementedError

    def on_tunnel_closed(self) -> None:
        """The transport that was given away is closed."""
        raise NotImplementedError

    def send_interim(self, head: ResponseHead) -> None:
        """Send a 1xx head."""
        raise NotImplementedError


class Upstream(Stream):
    """The server's side of an exchange. `introduction`: with what its connection began, None: with nothing."""

    __slots__ = ("introduction",)

    introduction: Introduction | None

    def __init__(self) -> None:
        super().__init__()
        self.introduction = None

    def send_head(self, head: RequestHead, lines: bytes, whole: bool) -> None:
        """Send a request head whose bytes are `lines`, framed as `head` says; `whole`: no body follows."""
        raise NotImplementedError
