"""Bodies: where they end, what chunked framing is refused, what becomes of trailers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.wire import cut_at, in_bytes
from vsproxy.errors import BadMessage
from vsproxy.wire.body import MAX_TRAILERS, BodyReader
from vsproxy.wire.message import BODY_CHUNKED, BODY_LENGTH, BODY_NONE, BODY_UNTIL_CLOSE


def unchunk(chunks: list[bytes]) -> tuple[bytes, bytes, bool, int] | int:
    """(payload, trailers, done, bytes consumed), or the status of the refusal."""
    reader = BodyReader(502)
    reader.start(BODY_CHUNKED, 0)
    payload = b""
    consumed = 0
    try:
        for chunk in chunks:
            payload += reader.feed(chunk, 0)
            consumed += reader.pos
    except BadMessage as error:
        return error.status
    return payload, reader.trailers, reader.done, consumed


def refused(data: bytes) -> bool:
    whole = unchunk([data])
    assert (unchunk(in_bytes(data)) == 502) == (whole == 502)
    return whole == 502


def test_length() -> None:
    reader = BodyReader(400)
    reader.start(BODY_LENGTH, 5)
    assert reader.feed(b"xxhe", 2) == b"he"
    assert (reader.pos, reader.remaining, reader.done, reader.eof()) == (4, 3, False, False)
    assert reader.feed(b"lloGET", 0) == b"llo"
    assert (reader.pos, reader.done, reader.eof()) == (3, True, True)
    assert reader.feed(b"GET", 0) == b""
    assert reader.pos == 0


def test_a_buffer_that_is_all_payload_is_not_copied() -> None:
    reader = BodyReader(400)
    data = b"0123456789"
    for mode, length in ((BODY_LENGTH, 100), (BODY_UNTIL_CLOSE, 0)):
        reader.start(mode, length)
        assert reader.feed(data, 0) is data
    reader.start(BODY_CHUNKED, 0)
    assert reader.feed(b"40\r\n", 0) == b""
    assert reader.feed(data, 0) is data


def test_no_body() -> None:
    reader = BodyReader(400)
    for mode, length in ((BODY_NONE, 0), (BODY_LENGTH, 0)):
        reader.start(mode, length)
        assert reader.done
        assert reader.feed(b"x", 0) == b""
        assert reader.pos == 0


def test_until_close() -> None:
    reader = BodyReader(502)
    reader.start(BODY_UNTIL_CLOSE, 0)
    assert reader.feed(b"abc", 1) == b"bc"
    assert not reader.done
    assert reader.eof()
    assert reader.done


def test_chunked_with_every_cut() -> None:
    data = b'5\r\nhello\r\n0A;a;b=c;d="q\\";"\r\n0123456789\r\n000\r\nX-T: 1\r\nHost: b\r\nY:\r\n\r\nGET /'
    expected = (b"hello0123456789", b"X-T: 1\r\nY:\r\n", True, len(data) - 5)
    assert unchunk([data]) == expected
    for cut in range(len(data) - 5):
        assert unchunk(cut_at(data, cut)) == expected
    assert unchunk(in_bytes(data[:-5])) == expected


def test_a_cut_off_body_is_never_complete() -> None:
    data = b"5\r\nhello\r\n0\r\nX: y\r\n\r\n"
    for end in range(len(data)):
        reader = BodyReader(502)
        reader.start(BODY_CHUNKED, 0)
        reader.feed(data[:end], 0)
        assert not reader.done
        assert not reader.eof()


def test_start_forgets_the_body_before() -> None:
    reader = BodyReader(502)
    reader.start(BODY_CHUNKED, 0)
    reader.feed(b"0\r\nX: y\r\nhalf", 0)
    reader.start(BODY_CHUNKED, 0)
    assert reader.feed(b"1\r\na\r\n0\r\n\r\n", 0) == b"a"
    assert reader.done
    assert reader.trailers == b""


@pytest.mark.parametrize(
    "size_line",
    [
        b"",
        b"0x5\r",
        b"0_5\r",
        b"+5\r",
        b"-5\r",
        b" 5\r",
        b"5 \r",
        b"5\t;a\r",
        b"5",
        b"\r",
        b"g\r",
        b"5\r\r",
        b"10000000000000005\r",
        b"1000000000000001\r",
        b"00000000000000005\r",
        b"\xb2\r",
        b"5;\r",
        b"5; a\r",
        b"5;a=\r",
        b'5;a="b\r',
        b'5;a="b"c\r',
        b'5;a="\x01"\r',
        b"5;a=b;\r",
        b"5;a b\r",
        b"5;a\x00\r",
        b"5;a\rb\r",
        b"5;" + b"a" * 1100 + b"\r",
    ],
)
def test_bad_size_lines(size_line: bytes) -> None:
    assert refused(size_line + b"\nhello\r\n0\r\n\r\n")


def test_a_size_line_too_long_is_refused_before_its_end() -> None:
    assert refused(b"5;" + b"a" * 1100)


def test_extensions_are_bounded_over_the_body() -> None:
    chunk = b"1;" + b"a" * 1000 + b"\r\nx\r\n"
    assert not refused(chunk * 16)
    assert refused(chunk * 17)


@pytest.mark.parametrize("after", [b"XX", b"\n", b"\rX", b"\r\r\n", b"0\r\n"])
def test_bad_chunk_ends(after: bytes) -> None:
    assert refused(b"5\r\nhello" + after + b"0\r\n\r\n")


@pytest.mark.parametrize(
    "trailer",
    [
        b"\rX\n",
        b"\n",
        b"X: y\n",
        b" X: y\r\n",
        b"X : y\r\n",
        b"X\r\n",
        b": y\r\n",
        b"X: a\x00\r\n",
        b"X: a\rb\r\n",
        b"X: y\r\n" * 65,
        b"X: " + b"y" * MAX_TRAILERS + b"\r\n",
    ],
)
def test_bad_trailers(trailer: bytes) -> None:
    assert refused(b"0\r\n" + trailer + b"\r\n")


NOT_TRAILERS = (
    b"Content-Length transfer-encoding HOST Connection Authorization Set-Cookie Trailer X-Forwarded-For X_Y "
    b"X-Client-Cert-Subject Client-Cert"
)


@pytest.mark.parametrize("name", NOT_TRAILERS.split(b" "))
def test_fields_that_may_not_be_trailers_are_dropped(name: bytes) -> None:
    outcome = unchunk([b"0\r\nA: 1\r\n" + name + b": 5\r\nB: 2\r\n\r\n"])
    assert outcome != 502
    assert outcome[1] == b"A: 1\r\nB: 2\r\n"


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.lists(st.integers(0, 300), max_size=6))
def test_round_trip(pieces: list[bytes], cuts: list[int]) -> None:
    data = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    chunks = cut_at(data, *(min(cut, len(data)) for cut in cuts))
    assert unchunk(chunks) == (b"".join(pieces), b"", True, len(data))


@given(st.binary(max_size=60), st.integers(0, 60), st.binary(max_size=2))
def test_arbitrary_bytes_and_mutations(noise: bytes, at: int, insert: bytes) -> None:
    valid = b"3;a=b\r\nabc\r\n1\r\nd\r\n0\r\nX: y\r\n\r\n"
    for data in (noise, valid[: at % len(valid)] + insert + valid[at % len(valid) + 1 :]):
        whole = unchunk([data])
        by_bytes = unchunk(in_bytes(data))
        if whole == 502 or by_bytes == 502:
            assert whole == by_bytes
        else:
            assert whole[:3] == by_bytes[:3]
