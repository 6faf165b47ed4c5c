"""The rest of a large plain body, moved by the kernel: whom a splice of an exchange concerns.

`Exchange` decides whether there is one. All that the ordinary way tells and counts is told and counted here, once
for each move instead of once for each read.
"""

from __future__ import annotations

import asyncio
from typing import TypeVar, cast

from vsproxy import sockets
from vsproxy.splice import Sink, Splice, Splicer
from vsproxy.stream import Downstream, ExchangeEvents, Stream
from vsproxy.upstream.http1 import UpstreamConnection

Kind = TypeVar("Kind", bound=Splice)


class Download(Splice):
    """From a server to a client."""

    __slots__ = ("events", "source")

    def __init__(
        self,
        splicer: Splicer,
        source: UpstreamConnection,
        sink: Downstream,
        sink_transport: asyncio.Transport,
        events: ExchangeEvents,
    ) -> None:
        assert source.transport is not None
        # A client's connection is a sink, whatever is spoken on it.
        super().__init__(splicer, source.transport, cast(Sink, sink), sink_transport, source.body.remaining)
        self.source = source
        self.events = events

    def on_moved(self, count: int) -> None:
        """As `UpstreamConnection.data_received` and `read_body`."""
        source = self.source
        source.body.remaining -= count
        source.deadline = source.sweep.now + source.read_timeout
        self.events.on_response_spliced(count)

    def on_over(self, complete: bool) -> None:
        """Go on as after the last read."""
        source = self.source
        source.splice = None
        if not source.reading_paused:
            self.source_transport.resume_reading()
        if complete:
            source.body.done = True
            if not sockets.is_quiet(source.sender.descriptor):  # type: ignore[union-attr]
                # Bytes after the body: they must not become the answer to the next request.
                source.reusable = False
            source.complete(b"")


class Upload(Splice):
    """From a client to a server."""

    __slots__ = ("events", "source")

    def __init__(
        self,
        splicer: Splicer,
        source: Downstream,
        source_transport: asyncio.Transport,
        sink: UpstreamConnection,
        events: ExchangeEvents,
        rest: int,
    ) -> None:
        assert sink.transport is not None
        super().__init__(splicer, source_transport, sink, sink.transport, rest)
        self.source = source
        self.events = events

    def on_moved(self, count: int) -> None:
        """As `DownstreamConnection.take_body`."""
        self.source.on_spliced(count)
        self.events.on_request_spliced(count)

    def on_over(self, complete: bool) -> None:
        """Go on as after the last read."""
        self.source.on_splice_over(complete)


def splice_response(source: UpstreamConnection, sink: Downstream, events: ExchangeEvents) -> Download | None:
    """Let the kernel move the rest of a response; None if it has to go on as it does."""
    found = sink.splicing()
    if found is None or source.tls is not None:
        return None
    splicer, transport = found
    return begun(Download(splicer, source, sink, transport, events), source)


def splice_request(
    source: Downstream, sink: UpstreamConnection, events: ExchangeEvents, rest: int
) -> Upload | None:
    """Let the kernel move the `rest` bytes of a request's body; None if it has to go on as it does."""
    found = source.splicing()
    if found is None or sink.tls is not None:
        return None
    splicer, transport = found
    return begun(Upload(splicer, source, transport, sink, events, rest), source)


def begun(splice: Kind, source: Stream) -> Kind | None:
    """`splice`, which takes the body of `source` from now on, or None if it could not begin."""
    if not splice.splicer.start(splice):
        return None
    source.splice = splice
    return splice
