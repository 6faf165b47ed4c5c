"""What a server has to accept: the cases that h2spec calls generic."""

from __future__ import annotations

from h2spec.steps import (
    Case,
    Request,
    Rest,
    Step,
    connection_end,
    first_frame_settings,
    frame_of,
    numbered,
    ping_ack,
    settings_ack,
    stream_end,
)
from support import h2_frames as h2

ANSWER = frame_of(h2.HEADERS, stream=1)
GET = Request()
POST = Request(method="POST", end=False)
CLOSED_WINDOW = h2.settings((h2.INITIAL_WINDOW_SIZE, 0))
ANNOUNCED = Request(method="POST", end=False, fields=(("trailer", "x-test"),))
TRAILERS = h2.headers(1, h2.hpack_block([("x-test", "ok")]), end=True)

# "h2spec" and "user-agent" or "x-test", as they are and in Huffman coding
PLAIN_VALUE = h2.hpack_string(b"h2spec")
HUFFMAN_VALUE = bytes.fromhex("849c48aca4")
PLAIN_NAME, HUFFMAN_NAME = h2.hpack_string(b"x-test"), bytes.fromhex("85f2b24a84ff")
USER_AGENT = 58  # in the static table


def with_field(representation: bytes) -> tuple[Step, ...]:
    """A request whose last field is in this representation is answered."""
    return (Request(after=representation), ANSWER)


def literals(kind: str, first: int, prefix: int) -> list[tuple[str, tuple[Step, ...]]]:
    """The four ways to write a literal whose first byte begins with `first` (RFC 7541 6.2)."""
    indexed = h2.hpack_integer(USER_AGENT, prefix, first)
    new = bytes((first,))
    return [
        (f"a literal {kind}, name from the table", with_field(indexed + PLAIN_VALUE)),
        (f"a literal {kind}, name from the table, Huffman", with_field(indexed + HUFFMAN_VALUE)),
        (f"a literal {kind}, new name", with_field(new + PLAIN_NAME + PLAIN_VALUE)),
        (f"a literal {kind}, new name, Huffman", with_field(new + HUFFMAN_NAME + HUFFMAN_VALUE)),
    ]


SPLIT = Request(end_headers=False, cut=5)

CASES: list[Case] = [
    Case(
        "generic/1",
        1,
        "a preface is answered by SETTINGS",
        (h2.PREFACE + h2.settings((h2.INITIAL_WINDOW_SIZE, h2.DEFAULT_WINDOW)), first_frame_settings()),
        handshake=False,
    ),
    *numbered(
        "generic/2",
        ("PRIORITY on an idle stream", (h2.priority(1, weight=256) + h2.ping(), ping_ack())),
        (
            "WINDOW_UPDATE on a half-closed stream",
            (CLOSED_WINDOW, GET, h2.window_update(1, 1), frame_of(h2.DATA)),
        ),
        (
            "PRIORITY on a half-closed stream",
            (CLOSED_WINDOW, GET, h2.priority(1, weight=256) + h2.window_update(1, 1), frame_of(h2.DATA)),
        ),
        ("RST_STREAM on a half-closed stream", (GET, h2.rst_stream(1) + h2.ping(), ping_ack(or_end=True))),
        ("PRIORITY on a closed stream", (GET, stream_end(), h2.priority(1, weight=256) + h2.ping(), ping_ack())),
    ),
    *numbered(
        "generic/3.1",
        ("a DATA frame", (POST, h2.data(1, b"test", end=True), ANSWER)),
        ("several DATA frames", (POST, h2.data(1, b"test") + h2.data(1, b"test", end=True), ANSWER)),
        ("a DATA frame with padding", (POST, h2.data(1, b"test", end=True, padding=6), ANSWER)),
    ),
    *numbered(
        "generic/3.2",
        ("a HEADERS frame", (GET, ANSWER)),
        ("a HEADERS frame with padding", (Request(padding=8), ANSWER)),
        ("a HEADERS frame with priority", (Request(priority=h2.priority_fields(0, 256)), ANSWER)),
    ),
    *numbered(
        "generic/3.3",
        ("PRIORITY with weight 1", (h2.priority(1, weight=1), GET, ANSWER)),
        ("PRIORITY with weight 256", (h2.priority(1, weight=256), GET, ANSWER)),
        ("PRIORITY with a dependency", (h2.priority(3, 1, weight=1), GET, ANSWER)),
        ("PRIORITY, exclusive", (h2.priority(1, weight=1, exclusive=True), GET, ANSWER)),
        ("PRIORITY on an idle stream, then a request on a lower one", (h2.priority(3, weight=256), GET, ANSWER)),
    ),
    *numbered(
        "generic/3.4",
        ("a RST_STREAM frame", (Request(end=False), h2.rst_stream(1) + h2.ping(), ping_ack(or_end=True))),
    ),
    *numbered(
        "generic/3.5",
        (
            "a SETTINGS frame with all parameters",
            (
                h2.settings(
                    (h2.HEADER_TABLE_SIZE, 4096),
                    (h2.ENABLE_PUSH, 1),
                    (h2.MAX_CONCURRENT_STREAMS, 100),
                    (h2.INITIAL_WINDOW_SIZE, 65535),
                    (h2.MAX_FRAME_SIZE, 16384),
                    (h2.MAX_HEADER_LIST_SIZE, 100),
                ),
                settings_ack(),
            ),
        ),
    ),
    *numbered("generic/3.7", ("a PING frame", (h2.ping(b"h2spec\0\0"), ping_ack(b"h2spec\0\0")))),
    *numbered("generic/3.8", ("a GOAWAY frame", (h2.goaway(debug=b"h2spec"), connection_end()))),
    *numbered(
        "generic/3.9",
        ("WINDOW_UPDATE of the connection", (h2.window_update(0, 1) + h2.ping(), ping_ack())),
        ("WINDOW_UPDATE of a stream", (GET, h2.window_update(1, 1), frame_of(h2.HEADERS))),
    ),
    *numbered(
        "generic/3.10",
        ("a CONTINUATION frame", (SPLIT, Rest(SPLIT, 5), ANSWER)),
        ("several CONTINUATION frames", (SPLIT, Rest(SPLIT, 5, 10, end_headers=False), Rest(SPLIT, 10), ANSWER)),
    ),
    *numbered(
        "generic/4",
        ("a GET request", (GET, ANSWER)),
        ("a HEAD request", (Request(method="HEAD"), ANSWER)),
        ("a POST request", (POST, h2.data(1, b"test", end=True), ANSWER)),
        (
            "a POST request with trailers",
            (ANNOUNCED, h2.data(1, b"test") + TRAILERS, ANSWER),
        ),
    ),
    *numbered(
        "generic/5",
        ("an indexed field", with_field(h2.hpack_integer(USER_AGENT, 7, 0x80))),
        *literals("with incremental indexing", 0x40, 6),
        *literals("without indexing", 0x00, 4),
        *literals("never indexed", 0x10, 4),
        ("a change of the table's size", (Request(before=h2.hpack_integer(0, 5, 0x20)), ANSWER)),
        (
            "two changes of the table's size",
            (Request(before=h2.hpack_integer(0, 5, 0x20) + h2.hpack_integer(4096, 5, 0x20)), ANSWER),
        ),
    ),
]
