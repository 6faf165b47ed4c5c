"""Section 8 of RFC 7540, requests; and RFC 7541, HPACK."""

from __future__ import annotations

from h2spec.dialog import Dialog
from h2spec.steps import Case, Request, Step, connection_error, numbered, stream_error
from support import h2_frames as h2

POST = Request(method="POST", end=False)
ONE_LONG = Request(method="POST", end=False, fields=(("content-length", "1"),))
MALFORMED = stream_error(h2.PROTOCOL_ERROR)
UNDECODABLE = connection_error(h2.COMPRESSION_ERROR)
HUFFMAN_NAME = bytes.fromhex("0085f2b24a84ff")  # a literal without indexing, x-test


def malformed(request: Request) -> tuple[Step, ...]:
    """A request that has to be refused, as a stream error."""
    return (request, MALFORMED)


def field(name: str, value: str) -> tuple[Step, ...]:
    """A request with one field too many."""
    return malformed(Request(fields=((name, value),)))


def undecodable(after: bytes) -> tuple[Step, ...]:
    """A request whose block ends in something that cannot be decoded."""
    return (Request(after=after), UNDECODABLE)


def too_large_table(dialog: Dialog) -> bytes:
    """A request that begins with a larger table than the server has."""
    size = dialog.settings.get(h2.HEADER_TABLE_SIZE, h2.DEFAULT_TABLE_SIZE)
    return Request(before=h2.hpack_integer(size + 1, 5, 0x20))(dialog)


def trailers(*fields: tuple[str, str]) -> bytes:
    """A second HEADERS frame, which does not end the stream."""
    return h2.headers(1, h2.hpack_block(fields))


MESSAGES: list[Case] = [
    *numbered(
        "http2/8.1",
        ("second HEADERS without END_STREAM", (POST, h2.data(1, b"test") + trailers(("x-test", "ok")), MALFORMED)),
    ),
    *numbered("http2/8.1.2", ("a name in upper case", field("X-TEST", "ok"))),
    *numbered(
        "http2/8.1.2.1",
        ("an unknown pseudo-header field", field(":test", "ok")),
        ("a pseudo-header field of responses", field(":status", "200")),
        ("a pseudo-header field in trailers", (POST, h2.data(1, b"test") + trailers((":method", "POST")), MALFORMED)),
        ("pseudo-header fields after another field", malformed(Request(first=(("x-test", "ok"),)))),
    ),
    *numbered(
        "http2/8.1.2.2",
        ("a field of the connection", field("connection", "keep-alive")),
        (
            "TE other than trailers",
            malformed(Request(fields=(("trailers", "test"), ("te", "trailers, deflate")))),
        ),
    ),
    *numbered(
        "http2/8.1.2.3",
        ("an empty :path", malformed(Request(replaced=((":path", ""),)))),
        ("no :method", malformed(Request(without=(":method",)))),
        ("no :scheme", malformed(Request(without=(":scheme",)))),
        ("no :path", malformed(Request(without=(":path",)))),
        ("two :method", field(":method", "GET")),
        ("two :scheme", field(":scheme", "http")),
        ("two :path", field(":path", "/")),
    ),
    *numbered(
        "http2/8.1.2.6",
        ("DATA longer than content-length", (ONE_LONG, h2.data(1, b"test", end=True), MALFORMED)),
        (
            "two DATA longer than content-length",
            (ONE_LONG, h2.data(1, b"test") + h2.data(1, b"test", end=True), MALFORMED),
        ),
    ),
    *numbered(
        "http2/8.2",
        (
            "PUSH_PROMISE from a client",
            (h2.push_promise(1, 3, h2.hpack_block([(":method", "GET")])), connection_error(h2.PROTOCOL_ERROR)),
        ),
    ),
]

HPACK: list[Case] = [
    *numbered(
        "hpack/2.3.3",
        ("an indexed field beyond the tables", undecodable(h2.hpack_integer(70, 7, 0x80))),
        ("a name beyond the tables", undecodable(h2.hpack_integer(70, 6, 0x40) + h2.hpack_string(b""))),
    ),
    *numbered("hpack/4.2", ("a change of the table's size at the end", undecodable(h2.hpack_integer(1, 5, 0x20)))),
    *numbered(
        "hpack/5.2",
        ("Huffman padding of more than 7 bits", undecodable(HUFFMAN_NAME + bytes.fromhex("8449509fff"))),
        ("Huffman padding of zeros", undecodable(HUFFMAN_NAME + bytes.fromhex("83495090"))),
        ("the end-of-string symbol", undecodable(HUFFMAN_NAME + bytes.fromhex("87fffffffd25427f"))),
    ),
    *numbered("hpack/6.1", ("index 0", undecodable(b"\x80"))),
    *numbered("hpack/6.3", ("a larger table than announced", (too_large_table, UNDECODABLE))),
]

CASES = [*MESSAGES, *HPACK]
