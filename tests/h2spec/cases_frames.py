"""Sections 6 and 7 of RFC 7540: frame by frame, and error codes."""

from __future__ import annotations

from h2spec.dialog import Wait
from h2spec.steps import (
    Case,
    Request,
    Step,
    connection_end,
    connection_error,
    frame_of,
    frame_with_code,
    numbered,
    ping_ack,
    settings_ack,
    stream_error,
)
from support import h2_frames as h2

GET = Request()
POST = Request(method="POST", end=False)
OPEN = Request(end=False)
UNFINISHED = Request(end_headers=False)
UNFINISHED_GET = Request(end=False, end_headers=False)
UNFINISHED_POST = Request(method="POST", end=False, end_headers=False)
FIELD = h2.hpack_block([("x-dummy0", "x" * 4000)])
MORE, LAST = h2.continuation(1, FIELD, end_headers=False), h2.continuation(1, FIELD)

PROTOCOL = connection_error(h2.PROTOCOL_ERROR)
FRAME_SIZE = connection_error(h2.FRAME_SIZE_ERROR)
ONE_BYTE = frame_of(h2.DATA, stream=1, length=1)


def window(*sizes: int) -> bytes:
    """SETTINGS with these initial windows, one after the other."""
    return h2.settings(*((h2.INITIAL_WINDOW_SIZE, size) for size in sizes))


def setting(key: int, value: int, wait: Wait = PROTOCOL) -> tuple[Step, ...]:
    """A setting that has to be refused."""
    return (h2.settings((key, value)), wait)


def with_bad_padding() -> bytes:
    """HEADERS whose padding is a byte longer than the rest of the frame."""
    block = h2.hpack_block([(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "localhost")])
    payload = bytes((len(block) + 1,)) + block
    return h2.raw(h2.HEADERS, h2.END_STREAM | h2.END_HEADERS | h2.PADDED, 1, payload)


CONTROL: list[Case] = [
    *numbered(
        "http2/6.1",
        ("DATA for stream 0", (h2.data(0, b"test", end=True), PROTOCOL)),
        (
            "DATA for a stream that is not open",
            (Request(method="POST"), h2.data(1, b"test", end=True), stream_error(h2.STREAM_CLOSED)),
        ),
        (
            "DATA with more padding than frame",
            (
                Request(method="POST", end=False, fields=(("content-length", "4"),)),
                h2.raw(h2.DATA, h2.PADDED | h2.END_STREAM, 1, b"\x06test"),
                PROTOCOL,
            ),
        ),
    ),
    *numbered(
        "http2/6.2",
        ("PRIORITY inside a block", (UNFINISHED_GET, h2.priority(1, weight=256) + LAST, PROTOCOL)),
        ("HEADERS of another stream inside a block", (UNFINISHED_GET, Request(3), LAST, PROTOCOL)),
        ("HEADERS for stream 0", (Request(0), PROTOCOL)),
        ("HEADERS with more padding than frame", (with_bad_padding(), stream_error(h2.PROTOCOL_ERROR))),
    ),
    *numbered(
        "http2/6.3",
        ("PRIORITY for stream 0", (h2.priority(0, weight=256), PROTOCOL)),
        (
            "PRIORITY that is too short",
            (GET, h2.raw(h2.PRIORITY, 0, 1, b"\x80\0\0\1"), stream_error(h2.FRAME_SIZE_ERROR)),
        ),
    ),
    *numbered(
        "http2/6.4",
        ("RST_STREAM for stream 0", (h2.rst_stream(0), PROTOCOL)),
        ("RST_STREAM for an idle stream", (h2.rst_stream(1), PROTOCOL)),
        (
            "RST_STREAM that is too short",
            (GET, h2.raw(h2.RST_STREAM, 0, 1, bytes(3)), stream_error(h2.FRAME_SIZE_ERROR)),
        ),
    ),
    *numbered(
        "http2/6.5",
        ("an acknowledgement with a payload", (h2.raw(h2.SETTINGS, h2.ACK, 0, b"\0"), FRAME_SIZE)),
        ("SETTINGS for a stream", (h2.raw(h2.SETTINGS, 0, 1, bytes.fromhex("000300000064")), PROTOCOL)),
        (
            "SETTINGS that end inside a parameter",
            (
                h2.raw(h2.SETTINGS, 0, 0, bytes.fromhex("0003000000640002")),
                stream_error(h2.PROTOCOL_ERROR, h2.FRAME_SIZE_ERROR),
            ),
        ),
    ),
    *numbered(
        "http2/6.5.2",
        ("ENABLE_PUSH of 2", setting(h2.ENABLE_PUSH, 2)),
        (
            "INITIAL_WINDOW_SIZE that is too large",
            setting(h2.INITIAL_WINDOW_SIZE, 2**31, connection_error(h2.FLOW_CONTROL_ERROR)),
        ),
        ("MAX_FRAME_SIZE that is too small", setting(h2.MAX_FRAME_SIZE, 16383)),
        ("MAX_FRAME_SIZE that is too large", setting(h2.MAX_FRAME_SIZE, 2**24)),
        ("an unknown setting is ignored", (h2.settings((0xFF, 1)) + h2.ping(), ping_ack())),
    ),
    Case(
        "http2/6.5.3",
        1,
        "of two equal settings the second counts",
        (window(100, 1), settings_ack(), GET, ONE_BYTE),
        needs_body=1,
    ),
    Case("http2/6.5.3", 2, "SETTINGS are acknowledged", (h2.settings((h2.ENABLE_PUSH, 0)), settings_ack())),
    *numbered(
        "http2/6.7",
        ("PING is answered", (h2.ping(b"h2spec\0\0"), ping_ack(b"h2spec\0\0"))),
        (
            "an answer to a PING is not answered",
            (h2.ping(b"invalid\0", ack=True) + h2.ping(b"h2spec\0\0"), ping_ack(b"h2spec\0\0")),
        ),
        ("PING for a stream", (h2.raw(h2.PING, 0, 1, bytes(8)), PROTOCOL)),
        ("PING that is too short", (h2.raw(h2.PING, 0, 0, bytes(6)), FRAME_SIZE)),
    ),
    *numbered("http2/6.8", ("GOAWAY for a stream", (h2.raw(h2.GOAWAY, 0, 1, bytes(8)), PROTOCOL))),
]

WINDOWS: list[Case] = [
    *numbered(
        "http2/6.9",
        ("WINDOW_UPDATE of 0 for the connection", (h2.window_update(0, 0), PROTOCOL)),
        ("WINDOW_UPDATE of 0 for a stream", (OPEN, h2.window_update(1, 0), stream_error(h2.PROTOCOL_ERROR))),
        ("WINDOW_UPDATE that is too short", (h2.raw(h2.WINDOW_UPDATE, 0, 0, b"\0\0\1"), FRAME_SIZE)),
    ),
    Case(
        "http2/6.9.1",
        1,
        "no more is sent than the window allows",
        (window(1), settings_ack(), GET, ONE_BYTE),
        needs_body=1,
    ),
    Case(
        "http2/6.9.1",
        2,
        "a window of the connection beyond 2^31-1",
        (
            h2.window_update(0, h2.MAX_WINDOW) * 2,
            frame_with_code(h2.GOAWAY, h2.FLOW_CONTROL_ERROR),
        ),
    ),
    Case(
        "http2/6.9.1",
        3,
        "a window of a stream beyond 2^31-1",
        (
            OPEN,
            h2.window_update(1, h2.MAX_WINDOW) * 2,
            frame_with_code(h2.RST_STREAM, h2.FLOW_CONTROL_ERROR),
        ),
    ),
    Case(
        "http2/6.9.2",
        1,
        "a new initial window changes those of open streams",
        (window(0), settings_ack(), GET, window(1), settings_ack(), ONE_BYTE),
        needs_body=1,
    ),
    Case(
        "http2/6.9.2",
        2,
        "a window may become negative",
        (
            window(3),
            settings_ack(),
            GET,
            frame_of(h2.DATA),
            window(2),
            settings_ack(),
            h2.window_update(1, 2),
            ONE_BYTE,
        ),
        needs_body=5,
    ),
    Case(
        "http2/6.9.2",
        3,
        "an initial window beyond 2^31-1",
        (window(2**31), connection_error(h2.FLOW_CONTROL_ERROR)),
    ),
]

BLOCKS: list[Case] = [
    *numbered(
        "http2/6.10",
        ("two CONTINUATION after HEADERS", (UNFINISHED, MORE + LAST, frame_of(h2.HEADERS))),
        ("CONTINUATION, then DATA", (UNFINISHED_POST, MORE + h2.data(1, b"test", end=True), PROTOCOL)),
        ("CONTINUATION for stream 0", (UNFINISHED, h2.continuation(0, FIELD), PROTOCOL)),
        ("CONTINUATION after a whole block", (GET, LAST, PROTOCOL)),
        ("CONTINUATION after the last CONTINUATION", (UNFINISHED, LAST + LAST, PROTOCOL)),
        (
            "CONTINUATION after DATA",
            (
                UNFINISHED_POST,
                h2.data(1, b"test", end=True) + MORE + h2.continuation(0, FIELD),
                PROTOCOL,
            ),
        ),
    ),
    *numbered(
        "http2/7",
        ("GOAWAY with an unknown code", (h2.goaway(code=0xFF), connection_end())),
        ("RST_STREAM with an unknown code", (POST, h2.rst_stream(1, 0xFF) + h2.ping(), ping_ack())),
    ),
]

CASES = [*CONTROL, *WINDOWS, *BLOCKS]
