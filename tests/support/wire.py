"""Drives the parsers of `vsproxy.wire` with a stream of bytes cut anywhere, and writes down what came out."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field

from vsproxy.errors import BadMessage
from vsproxy.wire.body import BodyReader
from vsproxy.wire.message import RequestHead, ResponseHead
from vsproxy.wire.request import RequestParser, request_body_mode
from vsproxy.wire.response import ResponseParser, response_body_mode

MAX_HEAD, MAX_FIELDS, MAX_TARGET = 65536, 100, 16384


@dataclass
class Outcome:
    """`heads`: dicts of their attributes; `bodies`: (payload, trailers, complete); `error`: a status."""

    heads: list[dict[str, object]] = field(default_factory=list)
    bodies: list[tuple[bytes, bytes, bool]] = field(default_factory=list)
    error: int | None = None
    started: bool = False


def attributes(head: RequestHead | ResponseHead) -> dict[str, object]:
    return {name: getattr(head, name) for name in dir(head) if not name.startswith("_") and name != "clear"}


def in_bytes(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


def cut_at(data: bytes, *cuts: int) -> list[bytes]:
    bounds = [0, *sorted(cuts), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(bounds)]


class Reading:
    """One direction of a connection: head, body, head, body."""

    def __init__(self, side: str, method: bytes = b"GET", limits: tuple[int, int, int] | None = None) -> None:
        max_head, max_fields, max_target = limits or (MAX_HEAD, MAX_FIELDS, MAX_TARGET)
        self.parser: RequestParser | ResponseParser = (
            RequestParser(max_head, max_fields, max_target, False)
            if side == "request"
            else ResponseParser(max_head, max_fields)
        )
        self.method = method
        self.reader = BodyReader(400 if side == "request" else 502)
        self.payload: bytes | None = None
        self.outcome = Outcome()

    def feed(self, data: bytes) -> None:
        pos = 0
        while pos < len(data):
            if self.payload is None:
                head = self.parser.parse(data, pos)
                pos = self.parser.end
                if head is None:
                    return
                self.begin(head)
            else:
                self.payload += self.reader.feed(data, pos)
                pos = self.reader.pos
            self.finish_if_done()

    def begin(self, head: RequestHead | ResponseHead) -> None:
        self.outcome.heads.append(attributes(head))
        self.payload = b""
        mode = request_body_mode(head) if isinstance(head, RequestHead) else response_body_mode(head, self.method)
        self.reader.start(mode, max(head.content_length, 0))

    def finish_if_done(self) -> None:
        if self.payload is not None and self.reader.done:
            self.outcome.bodies.append((self.payload, self.reader.trailers, True))
            self.payload = None

    def end(self) -> Outcome:
        if self.payload is not None and self.outcome.error is None:
            self.outcome.bodies.append((self.payload, self.reader.trailers, self.reader.eof()))
        self.outcome.started = self.parser.started
        return self.outcome


def read(
    side: str, chunks: Iterable[bytes], method: bytes = b"GET", limits: tuple[int, int, int] | None = None
) -> Outcome:
    """Everything that a stream of `chunks` holds, up to its first error."""
    reading = Reading(side, method, limits)
    try:
        for chunk in chunks:
            reading.feed(chunk)
    except BadMessage as error:
        reading.outcome.error = error.status
    return reading.end()


def request(data: bytes, keep_underscores: bool = False) -> RequestHead:
    """The one whole head that `data` is."""
    parser = RequestParser(MAX_HEAD, MAX_FIELDS, MAX_TARGET, keep_underscores)
    head = parser.parse(data, 0)
    assert head is not None
    assert parser.end == len(data)
    assert not parser.started
    return head


def refusal(data: bytes, side: str = "request", limits: tuple[int, int, int] | None = None) -> int | None:
    """The status with which `data` is refused, whole and byte by byte alike; None: it is not."""
    whole = read(side, [data], limits=limits).error
    assert read(side, in_bytes(data), limits=limits).error == whole
    return whole
