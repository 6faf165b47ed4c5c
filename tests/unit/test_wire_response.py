"""Response heads: what is accepted and what becomes of it, what is refused, and that cuts change nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.wire import cut_at, in_bytes, read, refusal
from vsproxy.wire.message import (
    BODY_CHUNKED,
    BODY_LENGTH,
    BODY_NONE,
    BODY_UNTIL_CLOSE,
    ResponseHead,
    field_value,
    make_response,
)
from vsproxy.wire.response import ResponseParser, response_body_mode


def response(fields: bytes, line: bytes = b"HTTP/1.1 200 OK") -> ResponseHead:
    data = line + b"\r\n" + fields + b"\r\n"
    parser = ResponseParser()
    head = parser.parse(data, 0)
    assert head is not None
    assert parser.end == len(data)
    return head


def refused(fields: bytes, line: bytes = b"HTTP/1.1 200 OK") -> int | None:
    return refusal(line + b"\r\n" + fields + b"\r\n", "response")


def test_an_ordinary_head() -> None:
    head = response(
        b"Server: x\r\nContent-Length: 12\r\nConnection: keep-alive, X-Hop\r\n"
        b"Keep-Alive: max=9, Timeout=15\r\nX-Hop: 1\r\nSet-Cookie: a=b\r\n"
        b"set-cookie: c=d\r\nX_Under: kept\r\nProxy-Connection: close\r\n"
    )
    assert (head.status, head.reason, head.minor) == (200, b"OK", 1)
    assert (head.content_length, head.chunked, head.keep_alive) == (12, False, True)
    assert head.keepalive_timeout == 15.0
    assert head.fields == b"Server: x\r\nSet-Cookie: a=b\r\nset-cookie: c=d\r\nX_Under: kept\r\n"


@pytest.mark.parametrize(
    ("line", "status", "reason"),
    [
        (b"HTTP/1.1 200", 200, b""),
        (b"HTTP/1.1 200 ", 200, b""),
        (b"HTTP/1.0 404 Not  Found \xe9\t", 404, b"Not  Found \xe9\t"),
        (b"HTTP/1.1 599 x", 599, b"x"),
        (b"HTTP/1.1 100 Continue", 100, b"Continue"),
    ],
)
def test_status_lines(line: bytes, status: int, reason: bytes) -> None:
    head = response(b"", line)
    assert (head.status, head.reason) == (status, reason)


@pytest.mark.parametrize(
    "line",
    [
        b"hello world",
        b"HTTP/1.1 20 OK",
        b"HTTP/1.1 2000 OK",
        b"HTTP/1.1 099 x",
        b"HTTP/1.1 600 x",
        b"HTTP/1.1 +20 x",
        b"HTTP/1.1  200 OK",
        b"HTTP/1.1\t200 OK",
        b"HTTP/1.1 200OK",
        b"HTTP/2.0 200 OK",
        b"HTTP/1.2 200 OK",
        b"http/1.1 200 OK",
        b"HTTP/1.1 200 a\x00b",
        b"HTTP/1.1 200 a\rb",
        b"HTTP/1.1",
        b"H",
        b"",
        b" HTTP/1.1 200 OK",
    ],
)
def test_bad_status_lines(line: bytes) -> None:
    assert refused(b"", line) == 502


@pytest.mark.parametrize(
    "fields",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: 5, 5\r\n",
        b"Content-Length: -5\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        b"X: a\r\n b\r\n",
        b"X : a\r\n",
        b"X\r\n",
        b"X: a\nY: b\r\n",
        b"X: a\rY: b\r\n",
        b"X: \x00\r\n",
        b"X: y\r\n" * 257,
        b"X: " + b"y" * 66000 + b"\r\n",
    ],
)
def test_bad_fields(fields: bytes) -> None:
    assert refused(fields) == 502


def test_chunked_in_http_1_0_is_refused() -> None:
    assert refused(b"Transfer-Encoding: chunked\r\n", b"HTTP/1.0 200 OK") == 502


def test_a_bad_first_byte_is_refused_at_once() -> None:
    assert refusal(b"<", "response") == 502


def test_an_identical_content_length_collapses() -> None:
    assert response(b"Content-Length: 5\r\ncontent-length: 5\r\n").content_length == 5


def test_persistence() -> None:
    assert not response(b"Connection: Close\r\n").keep_alive
    assert not response(b"", b"HTTP/1.0 200 OK").keep_alive
    assert response(b"Connection: keep-alive\r\n", b"HTTP/1.0 200 OK").keep_alive
    assert not response(b"Connection: keep-alive, close\r\n").keep_alive
    assert response(b"").keepalive_timeout == -1.0
    assert response(b"Keep-Alive: timeout=x\r\n").keepalive_timeout == -1.0


def test_upgrade() -> None:
    head = response(b"Connection: upgrade\r\nUpgrade: websocket\r\n", b"HTTP/1.1 101 Switching Protocols")
    assert (head.upgrade, head.fields) == (b"websocket", b"")
    assert response(b"Upgrade: h2c\r\n").upgrade == b""


@pytest.mark.parametrize(
    ("line", "fields", "method", "mode"),
    [
        (b"HTTP/1.1 200 OK", b"Content-Length: 5\r\n", b"GET", BODY_LENGTH),
        (b"HTTP/1.1 200 OK", b"Content-Length: 0\r\n", b"GET", BODY_LENGTH),
        (b"HTTP/1.1 200 OK", b"Transfer-Encoding: chunked\r\n", b"GET", BODY_CHUNKED),
        (b"HTTP/1.1 200 OK", b"", b"GET", BODY_UNTIL_CLOSE),
        (b"HTTP/1.1 200 OK", b"Content-Length: 5\r\n", b"HEAD", BODY_NONE),
        (b"HTTP/1.1 304 x", b"Content-Length: 5\r\n", b"GET", BODY_NONE),
        (b"HTTP/1.1 204 x", b"Content-Length: 5\r\n", b"GET", BODY_NONE),
        (b"HTTP/1.1 103 x", b"Transfer-Encoding: chunked\r\n", b"GET", BODY_NONE),
    ],
)
def test_body_modes(line: bytes, fields: bytes, method: bytes, mode: int) -> None:
    head = response(fields, line)
    assert response_body_mode(head, method) == mode
    assert head.body_mode == mode


def test_length_without_meaning_is_ignored() -> None:
    assert response(b"Content-Length: 5\r\n", b"HTTP/1.1 204 x").content_length == -1
    assert response(b"Content-Length: 5\r\n", b"HTTP/1.1 100 x").content_length == -1
    assert response(b"Content-Length: 5\r\n", b"HTTP/1.1 304 x").content_length == 5


def test_every_cut_gives_the_same() -> None:
    data = (
        b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\nConnection: x\r\nX: 1\r\n"
        b"Content-Length: 5\r\n\r\nhelloHTTP/1.1 204 No Content\r\n\r\n"
    )
    whole = read("response", [data])
    assert [head["status"] for head in whole.heads] == [103, 200, 204]
    assert read("response", in_bytes(data)) == whole
    for cut in range(len(data)):
        assert read("response", cut_at(data, cut)) == whole


@given(st.binary(max_size=200), st.booleans())
def test_arbitrary_bytes_raise_nothing_but_bad_message(data: bytes, as_fields: bool) -> None:
    if as_fields:
        data = b"HTTP/1.1 200 OK\r\n" + data + b"\r\n\r\n"
    whole = read("response", [data])
    other = read("response", in_bytes(data))
    assert (other.error, other.heads) == (whole.error, whole.heads)
    assert whole.error in (None, 502)


def test_field_value() -> None:
    fields = b"XY: no\r\nx-a:  b c \t\r\nX-A: second\r\nEmpty:\r\n"
    assert field_value(fields, b"x-a") == b"b c"
    assert field_value(fields, b"empty") == b""
    assert field_value(fields, b"x") is None
    assert field_value(b"", b"x") is None


def test_make_response() -> None:
    head = make_response(503, b"Retry-After: 1\r\n", b"busy")
    assert (head.status, head.reason, head.fields) == (503, b"Service Unavailable", b"Retry-After: 1\r\n")
    assert (head.content_length, head.body_mode, head.keep_alive) == (4, BODY_LENGTH, True)
