"""Heads of HTTP/2 to heads of HTTP/1.1 and back: nothing gets through that the parser of HTTP/1.1 would refuse."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsproxy.errors import BadMessage
from vsproxy.wire.http2_head import (
    Http2HeadReader,
    head_lines,
    opened_fields,
    response_fields,
    trailer_fields,
    trailer_lines,
)
from vsproxy.wire.message import RequestHead, ResponseHead, field_value, make_response

GET = ((b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"a.example"), (b":path", b"/x?y=1"))
CONNECT = (
    (b":method", b"CONNECT"), (b":protocol", b"websocket"), (b":scheme", b"https"), (b":authority", b"a.example"),
    (b":path", b"/ws"), (b"sec-websocket-version", b"13"),
)  # fmt: skip


def reader(**limits: int) -> Http2HeadReader:
    return Http2HeadReader(
        limits.get("max_head", 65536), limits.get("max_fields", 100), limits.get("max_target", 16384), False
    )


def read(*fields: tuple[bytes, bytes], ended: bool = True, start: tuple[tuple[bytes, bytes], ...] = GET) -> RequestHead:
    return reader().read((*start, *fields), ended)


def changed(name: bytes, value: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """`GET` with another value, or without it if that is empty."""
    return tuple((n, value if n == name else v) for n, v in GET if n != name or value)


def refusal(*fields: tuple[bytes, bytes], start: tuple[tuple[bytes, bytes], ...] = GET) -> int:
    with pytest.raises(BadMessage) as caught:
        read(*fields, start=start)
    return int(caught.value.status)


def test_an_ordinary_request() -> None:
    head = read((b"accept", b"*/*"), (b"te", b"trailers"), (b"user-agent", b"x/1"))
    assert head.line == b"GET /x?y=1 HTTP/1.1\r\n"
    assert (head.method, head.target, head.path, head.host) == (b"GET", b"/x?y=1", b"/x", b"a.example")
    assert head.fields == b"accept: */*\r\nuser-agent: x/1\r\n"
    assert head.te_trailers
    assert head.minor == 2
    assert not head.chunked
    assert head.content_length == -1


def test_a_reader_reads_on_after_a_refusal() -> None:
    one = reader()
    with pytest.raises(BadMessage):
        one.read((*GET, (b"bad name", b"x")), True)
    assert one.read(GET, True).host == b"a.example"


@pytest.mark.parametrize(("length", "chunked"), [((b"content-length", b"5"), False), ((b"x-none", b""), True)])
def test_a_body_is_framed_by_its_length_or_chunked(length: tuple[bytes, bytes], chunked: bool) -> None:
    head = read(length, ended=False)
    assert head.chunked is chunked
    assert head.content_length == (-1 if chunked else 5)


def test_crumbs_of_cookie_become_one_field() -> None:
    head = read((b"cookie", b"a=b"), (b"accept", b"*/*"), (b"cookie", b"c=d"))
    assert head.fields == b"accept: */*\r\ncookie: a=b; c=d\r\n"


def test_host_is_authority_or_agrees_with_it() -> None:
    assert read((b"host", b"A.example")).host == b"a.example"
    assert read((b"host", b"b.example"), start=changed(b":authority", b"")).host == b"b.example"
    assert refusal((b"host", b"b.example")) == 400
    assert refusal((b"host", b"b"), (b"host", b"c"), start=changed(b":authority", b"")) == 400
    assert refusal(start=changed(b":authority", b"")) == 400
    assert refusal(start=changed(b":authority", b"user@a.example")) == 400


@pytest.mark.parametrize(
    "field",
    [
        (b"connection", b"close"), (b"keep-alive", b"timeout=5"), (b"proxy-connection", b"keep-alive"),
        (b"transfer-encoding", b"chunked"), (b"upgrade", b"websocket"), (b"X-Upper", b"x"), (b"a:b", b"x"),
        (b"a b", b"x"), (b"", b"x"), (b"a\r\nb", b"x"), (b"a", b"x\r\nb: y"), (b"a", b"x\ny"), (b"a", b"x\0y"),
        (b"a", b"x\ry"), (b"content-length", b"5x"), (b":unknown", b"x"),
    ],
)  # fmt: skip
def test_what_is_no_field_is_refused(field: tuple[bytes, bytes]) -> None:
    assert refusal(field) == 400


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b":path", b"/ HTTP/1.1\r\nx: y"), (b":path", b"/a b"), (b":path", b"http://b/"), (b":path", b"x"),
        (b":path", b"*"), (b":path", b""), (b":method", b"GET / HTTP/1.1\r\nX: y"), (b":method", b"G T"),
        (b":method", b""), (b":scheme", b"ftp"), (b":authority", b"a\r\nx: y"), (b":authority", b"a b"),
    ],
)  # fmt: skip
def test_what_is_no_request_line_is_refused(name: bytes, value: bytes) -> None:
    assert refusal(start=changed(name, value)) == 400


def test_limits_have_their_statuses() -> None:
    with pytest.raises(BadMessage) as caught:
        reader(max_fields=3).read((*GET, *((b"a", b"x"),) * 4), True)
    assert caught.value.status == 431
    with pytest.raises(BadMessage) as caught:
        reader(max_target=64).read(changed(b":path", b"/" + b"x" * 100), True)
    assert caught.value.status == 414
    assert refusal(start=changed(b":method", b"CONNECT")) == 405
    assert refusal((b"expect", b"miracles")) == 417


def test_an_extended_connect_asks_for_an_upgrade() -> None:
    head = read((b"sec-websocket-key", b"theirs"), ended=False, start=CONNECT)
    assert head.method == b"GET"
    assert head.upgrade == b"websocket"
    assert not head.chunked
    key = field_value(head.fields, b"sec-websocket-key")
    assert key is not None
    assert len(key) == 24
    assert field_value(head.fields, b"sec-websocket-version") == b"13"
    other = read(ended=False, start=CONNECT)
    assert field_value(other.fields, b"sec-websocket-key") != key


def test_a_protocol_needs_connect_and_a_name() -> None:
    assert refusal(start=(*GET, (b":protocol", b"websocket"))) == 400
    assert refusal(start=tuple((n, b"a b" if n == b":protocol" else v) for n, v in CONNECT)) == 400


ANY = st.binary(max_size=12) | st.sampled_from([b"\r\n", b"\n", b"a: b", b"x\r\ny: z", b"transfer-encoding"])


@given(fields=st.lists(st.tuples(ANY, ANY), max_size=5), path=ANY, method=ANY, authority=ANY)
def test_lines_are_those_that_were_sent(
    fields: list[tuple[bytes, bytes]], path: bytes, method: bytes, authority: bytes
) -> None:
    start = ((b":method", method), (b":scheme", b"http"), (b":authority", authority), (b":path", path))
    try:
        lines = head_lines((*start, *fields))
    except BadMessage:
        return
    sent = [field for field in fields if field[0] not in (b"cookie", b"host") and not field[0].startswith(b":")]
    cookies = [value for name, value in fields if name == b"cookie"]
    assert lines.count(b"\n") == 3 + len(sent) + (1 if any(cookies) else 0)
    for name, value in sent:
        assert b"\r\n" + name + b": " + value + b"\r\n" in lines


def answer(status: int, fields: bytes) -> ResponseHead:
    head = make_response(status, fields, b"")
    head.content_length = -1
    return head


def test_an_answer() -> None:
    head = make_response(404, b"Content-Type: text/plain\r\nX-Odd:\t a b \r\nX-Empty:\r\n", b"gone\n")
    assert response_fields(head, True, b"") == [
        (b":status", b"404"), (b"content-type", b"text/plain"), (b"x-odd", b"a b"), (b"x-empty", b""),
        (b"content-length", b"5"), (b"via", b"1.1 vsproxy"),
    ]  # fmt: skip
    assert response_fields(answer(204, b""), False, b"") == [(b":status", b"204")]


def test_hsts_is_added_unless_the_server_says_it() -> None:
    line = b"Strict-Transport-Security: max-age=5\r\n"
    field = (b"strict-transport-security", b"max-age=5")
    assert response_fields(answer(204, b""), False, line) == [(b":status", b"204"), field]
    assert response_fields(answer(204, b"strict-transport-security: max-age=7\r\n"), False, line)[1][1] == b"max-age=7"


def test_a_tunnel_begins_with_200() -> None:
    head = answer(101, b"Sec-WebSocket-Accept: x\r\nSec-WebSocket-Protocol: chat\r\n")
    assert opened_fields(head) == [(b":status", b"200"), (b"sec-websocket-protocol", b"chat")]


def test_trailers() -> None:
    assert trailer_fields(b"X-Sum: 1\r\nGrpc-Status: 0\r\n") == [(b"x-sum", b"1"), (b"grpc-status", b"0")]
    assert trailer_lines(((b"x-sum", b"1"), (b"content-length", b"9"), (b"x_y", b"z"))) == b"x-sum: 1\r\n"
    for bad in ((b"x", b"a\r\nb: c"), (b"x:", b"a"), (b":path", b"/"), (b"connection", b"close")):
        with pytest.raises(BadMessage):
            trailer_lines((bad,))
    with pytest.raises(BadMessage):
        trailer_lines(tuple((b"x", b"1") for _ in range(65)))
    with pytest.raises(BadMessage):
        trailer_lines(((b"x", b"y" * 20000),))
