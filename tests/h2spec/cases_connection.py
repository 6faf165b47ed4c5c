"""Sections 3 to 5 of RFC 7540: the start, frames, streams and errors."""

from __future__ import annotations

from h2spec.dialog import Dialog
from h2spec.steps import (
    Case,
    Request,
    connection_end,
    connection_error,
    first_frame_settings,
    frame_of,
    frame_with_code,
    numbered,
    ping_ack,
    stream_end,
    stream_error,
    too_large,
    too_many_requests,
)
from support import h2_frames as h2

GET = Request()
POST = Request(method="POST", end=False)
OPEN = Request(end=False)
UNFINISHED = Request(end=False, end_headers=False)
LAST = h2.continuation(1, h2.hpack_block([("x-dummy0", "x" * 4000)]))
UNKNOWN = h2.raw(0x16, 0, 0, bytes(8))
BAD_PING = h2.raw(h2.PING, 0, 3, bytes(8))

PROTOCOL = connection_error(h2.PROTOCOL_ERROR)
CLOSED = stream_error(h2.STREAM_CLOSED)
CLOSED_OR_PROTOCOL = stream_error(h2.STREAM_CLOSED, h2.PROTOCOL_ERROR)


def full_data(dialog: Dialog) -> bytes:
    """DATA as large as every server takes it."""
    return h2.data(1, b"x" * h2.DEFAULT_FRAME_SIZE, end=True)


def large_data(dialog: Dialog) -> bytes:
    """DATA a byte larger than the server takes it."""
    return h2.data(1, b"x" * too_large(dialog), end=True)


def large_headers(dialog: Dialog) -> bytes:
    """HEADERS larger than the server takes them."""
    count = too_large(dialog) // 4000 + 1
    return Request(fields=tuple((f"x-dummy{i}", "x" * 4000) for i in range(count)))(dialog)


CASES: list[Case] = [
    Case(
        "http2/3.5",
        1,
        "the server's preface is SETTINGS, before anything else",
        (h2.PREFACE + h2.settings((h2.INITIAL_WINDOW_SIZE, h2.DEFAULT_WINDOW)), first_frame_settings()),
        handshake=False,
    ),
    Case(
        "http2/3.5",
        2,
        "an invalid preface ends the connection",
        (b"INVALID CONNECTION PREFACE\r\n\r\n", connection_end()),
        handshake=False,
    ),
    *numbered(
        "http2/4.1",
        ("a frame of unknown type is ignored", (UNKNOWN + h2.ping(), ping_ack())),
        ("an undefined flag is ignored", (h2.raw(h2.PING, 0x16, 0, bytes(8)), ping_ack())),
        ("the reserved bit is ignored", (h2.raw(h2.PING, 0x16, 1 << 31, bytes(8)), ping_ack())),
    ),
    *numbered(
        "http2/4.2",
        ("DATA of the largest size is taken", (POST, full_data, frame_of(h2.HEADERS))),
        ("larger DATA is a FRAME_SIZE_ERROR", (POST, large_data, stream_error(h2.FRAME_SIZE_ERROR))),
        ("so are larger HEADERS", (large_headers, connection_error(h2.FRAME_SIZE_ERROR))),
    ),
    *numbered(
        "http2/4.3",
        ("a broken block", (h2.headers(1, b"\x40", end=True), connection_error(h2.COMPRESSION_ERROR))),
        (
            "PRIORITY inside a block",
            (UNFINISHED, h2.priority(1, weight=256) + LAST, PROTOCOL),
        ),
        ("HEADERS of another stream inside a block", (UNFINISHED, Request(3), LAST, PROTOCOL)),
    ),
    *numbered(
        "http2/5.1",
        ("idle: DATA", (h2.data(1, b"test", end=True), PROTOCOL)),
        ("idle: RST_STREAM", (h2.rst_stream(1), PROTOCOL)),
        ("idle: WINDOW_UPDATE", (h2.window_update(1, 100), PROTOCOL)),
        ("idle: CONTINUATION", (LAST, PROTOCOL)),
        ("half-closed: DATA", (GET, h2.data(1, b"test", end=True), CLOSED)),
        ("half-closed: HEADERS", (GET, GET, CLOSED)),
        ("half-closed: CONTINUATION", (GET, LAST, CLOSED_OR_PROTOCOL)),
        ("closed by RST_STREAM: DATA", (OPEN, h2.rst_stream(1) + h2.data(1, b"test", end=True), CLOSED)),
        ("closed by RST_STREAM: HEADERS", (OPEN, h2.rst_stream(1), GET, CLOSED)),
        (
            "closed by RST_STREAM: CONTINUATION",
            (OPEN, h2.rst_stream(1) + LAST, CLOSED_OR_PROTOCOL),
        ),
        ("closed: DATA", (GET, stream_end(), h2.data(1, b"test", end=True), CLOSED)),
        ("closed: HEADERS", (GET, stream_end(), GET, connection_error(h2.STREAM_CLOSED))),
        (
            "closed: CONTINUATION",
            (
                GET,
                stream_end(),
                LAST,
                connection_error(h2.STREAM_CLOSED, h2.PROTOCOL_ERROR),
            ),
        ),
    ),
    *numbered(
        "http2/5.1.1",
        ("an even stream identifier", (Request(2), PROTOCOL)),
        ("a stream identifier that is lower than the last", (Request(5), Request(3), PROTOCOL)),
    ),
    *numbered(
        "http2/5.1.2",
        (
            "more streams than are allowed at once",
            (
                h2.settings((h2.INITIAL_WINDOW_SIZE, 0)),
                too_many_requests,
                stream_error(h2.PROTOCOL_ERROR, h2.REFUSED_STREAM),
            ),
        ),
    ),
    *numbered(
        "http2/5.3.1",
        (
            "HEADERS that depend on their own stream",
            (Request(priority=h2.priority_fields(1, 256)), stream_error(h2.PROTOCOL_ERROR)),
        ),
        ("PRIORITY of a stream that depends on itself", (h2.priority(1, 1, 256), stream_error(h2.PROTOCOL_ERROR))),
    ),
    *numbered("http2/5.4.1", ("after a connection error the connection ends", (BAD_PING, connection_end()))),
    Case(
        "http2/5.4.1",
        2,
        "before it ends the error is told",
        (BAD_PING, frame_with_code(h2.GOAWAY, h2.PROTOCOL_ERROR)),
        beyond=True,
    ),
    *numbered(
        "http2/5.5",
        ("an extension frame is ignored", (UNKNOWN + h2.ping(), ping_ack())),
        ("an extension frame inside a block is an error", (Request(end_headers=False), UNKNOWN, PROTOCOL)),
    ),
]
