"""Request heads: what is accepted and what becomes of it, what is refused, and that cuts change nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.wire import cut_at, in_bytes, read, refusal, request
from vsproxy.errors import BadMessage
from vsproxy.wire.field_names import CLIENT_CERT_NAMES, KNOWN_NAMES
from vsproxy.wire.message import field_value
from vsproxy.wire.request import RequestParser

BROWSER = (
    b"GET /app/main.js?v=12&x=%20|{} HTTP/1.1\r\nHost: www.example.com:8080\r\nConnection: keep-alive\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nAccept: */*\r\nX-Forwarded-For: 10.0.0.1\r\n"
    b"Accept-Language:  en-US,en;q=0.9 \t\r\nX-Latin: caf\xe9\r\nCookie: a=b\r\n"
    b"X-Forwarded-For: 10.0.0.2\r\n\r\n"
)


def get(fields: bytes, line: bytes = b"GET / HTTP/1.1") -> bytes:
    return line + b"\r\nHost: a\r\n" + fields + b"\r\n"


def test_browser_head() -> None:
    head = request(BROWSER)
    assert (head.method, head.target, head.path) == (b"GET", b"/app/main.js?v=12&x=%20|{}", b"/app/main.js")
    assert (head.host, head.minor, head.content_length, head.chunked) == (
        b"www.example.com:8080",
        1,
        -1,
        False,
    )
    assert head.keep_alive
    assert head.x_forwarded_for == b"10.0.0.1, 10.0.0.2"
    assert head.fields == (
        b"User-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nAccept: */*\r\n"
        b"Accept-Language:  en-US,en;q=0.9 \t\r\nX-Latin: caf\xe9\r\nCookie: a=b\r\n"
    )


def test_every_pair_of_cuts_gives_the_same_head() -> None:
    data = get(b"Content-Length: 3\r\nX-A: b\r\nConnection: x-a, close\r\n") + b"abcGET"
    whole = read("request", [data])
    assert whole.heads[0]["fields"] == b""
    assert whole.bodies == [(b"abc", b"", True)]
    assert read("request", in_bytes(data)) == whole
    for first in range(len(data)):
        for second in range(first, len(data), 3):
            assert read("request", cut_at(data, first, second)) == whole


def test_parse_starts_at_the_offset_and_stops_after_the_head() -> None:
    parser = RequestParser(65536, 100, 16384, False)
    data = b"xyz" + get(b"") + get(b"", b"PUT /b HTTP/1.1")
    first = parser.parse(data, 3)
    assert first is not None
    assert first.method == b"GET"
    second = parser.parse(data, parser.end)
    assert second is not None
    assert second.method == b"PUT"
    assert parser.end == len(data)


def test_started() -> None:
    parser = RequestParser(65536, 100, 16384, False)
    assert not parser.started
    parser.parse(b"G", 0)
    assert parser.started
    parser.parse(get(b"")[1:], 0)
    assert not parser.started
    parser.parse(b"\r\n", 0)
    assert not parser.started


@pytest.mark.parametrize(
    ("line", "target", "path", "host"),
    [
        (b"GET /a?b?c HTTP/1.1", b"/a?b?c", b"/a", b"a"),
        (b"GET /? HTTP/1.1", b"/?", b"/", b"a"),
        (b"GET //x/../y HTTP/1.1", b"//x/../y", b"//x/../y", b"a"),
        (b"OPTIONS * HTTP/1.1", b"*", b"*", b"a"),
        (b"GET http://B.example HTTP/1.1", b"/", b"/", b"B.example"),
        (b"GET HTTP://b:81?q HTTP/1.1", b"/?q", b"/", b"b:81"),
        (b"GET https://[::1]:8443/x?y HTTP/1.1", b"/x?y", b"/x", b"[::1]:8443"),
        (b"OPTIONS http://b HTTP/1.1", b"*", b"*", b"b"),
    ],
)
def test_targets(line: bytes, target: bytes, path: bytes, host: bytes) -> None:
    head = request(get(b"", line))
    assert (head.target, head.path, head.host) == (target, path, host)


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"GET  / HTTP/1.1", 400),
        (b"GET /  HTTP/1.1", 400),
        (b"GET / HTTP/1.1 ", 400),
        (b" GET / HTTP/1.1", 400),
        (b"GET /", 400),
        (b"GET / ", 400),
        (b"GET", 400),
        (b"G@T / HTTP/1.1", 400),
        (b"M" * 33 + b" / HTTP/1.1", 400),
        (b"GET\t/ HTTP/1.1", 400),
        (b"GET * HTTP/1.1", 400),
        (b"GET a/b HTTP/1.1", 400),
        (b"GET ftp://a/ HTTP/1.1", 400),
        (b"GET http:///x HTTP/1.1", 400),
        (b"GET http://u@a/ HTTP/1.1", 400),
        (b"GET a:80 HTTP/1.1", 400),
        (b"GET /a#b HTTP/1.1", 400),
        (b"GET /\xe9 HTTP/1.1", 400),
        (b"GET /\x7f HTTP/1.1", 400),
        (b"GET /\x00 HTTP/1.1", 400),
        (b"GET / http/1.1", 400),
        (b"GET / HTTP/1,1", 400),
        (b"GET / HTTP/11", 400),
        (b"GET / HTTP/1.10", 400),
        (b"GET / HTTP/2.0", 505),
        (b"GET / HTTP/1.2", 505),
        (b"GET / HTTP/0.9", 505),
        (b"CONNECT a:80 HTTP/1.1", 405),
        (b"CONNECT / HTTP/1.1", 405),
    ],
)
def test_bad_request_lines(line: bytes, status: int) -> None:
    assert refusal(get(b"", line)) == status


@pytest.mark.parametrize("first", [b"\x16\x03\x01", b"\x00", b"\n", b" ", b":", b"\r\n\r"])
def test_a_bad_first_byte_is_refused_at_once(first: bytes) -> None:
    assert refusal(first) == 400


@pytest.mark.parametrize("ending", [b"\n", b"\r\r\n", b"\n\r\n"])
def test_bad_line_ends(ending: bytes) -> None:
    assert refusal(b"GET / HTTP/1.1" + ending + b"Host: a\r\n\r\n") == 400
    assert refusal(b"GET / HTTP/1.1\r\nHost: a" + ending + b"X: y\r\n\r\n") is not None
    assert refusal(b"GET / HTTP/1.1\r\nHost: a\r\nX: y" + b"\n" + b"\r\n") == 400


def test_a_bare_lf_is_refused_before_the_head_is_complete() -> None:
    assert refusal(b"GET / HTTP/1.1\r\nHost: a\n") == 400
    assert refusal(b"GET / HTTP/1.1\r\nHost: a\r\n\n") == 400


@pytest.mark.parametrize(
    "line",
    [
        b"X : y",
        b"X\t: y",
        b": y",
        b"X",
        b"",
        b" X: y",
        b"\tX: y",
        b"X(: y",
        b"X\xe9: y",
        b"X: a\x00b",
        b"X: a\x7fb",
        b"X: a\x0bb",
        b"X: a\x1bb",
        b"X: a\rb",
        b"X: a\r\n b",
        b"Content-Length: +5",
        b"Content-Length: 5, 5",
        b"Content-Length: 0x5",
        b"Content-Length: 1_0",
        b"Content-Length:",
        b"Content-Length: 9223372036854775808",
        b"Content-Length: 18446744073709551621",
        b"Content-Length: \xb2",
        b"Content-Length: 5\r\nContent-Length: 5",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding: chunked,",
        b"Transfer-Encoding:",
        b"Transfer-Encoding: \xa0chunked",
        b"Transfer-Encoding: identity",
        b"Host: a",
        b"Connection: a b",
        b"Connection: \xe9",
    ],
)
def test_bad_fields(line: bytes) -> None:
    if line == b"":
        assert refusal(b"GET / HTTP/1.1\r\n\r\n") == 400
    else:
        assert refusal(get(line + b"\r\n")) == 400


BAD_HOSTS = (
    b"|u@a|a/b|a b|a,b|a:|:80|a:x|a:99999|[::1|[a]|::1|a?b|a#b|[::1]x|a:80:80|a\\b|caf\xe9|[::1]:|[]"
).split(b"|")


@pytest.mark.parametrize("host", BAD_HOSTS)
def test_bad_hosts(host: bytes) -> None:
    assert refusal(b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n") == 400


@pytest.mark.parametrize(
    "host", [b"a", b"a.b-c_d.:8080", b"127.0.0.1", b"[2001:db8::1]:443", b"a:65535", b"a:0"]
)
def test_good_hosts(host: bytes) -> None:
    assert request(b"GET / HTTP/1.1\r\nhOST:\t" + host + b" \r\n\r\n").host == host


def test_http_1_0() -> None:
    head = request(b"GET / HTTP/1.0\r\n\r\n")
    assert (head.minor, head.host, head.keep_alive) == (0, b"", False)
    head = request(b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\nExpect: 100-continue\r\nUpgrade: x\r\n\r\n")
    assert head.keep_alive
    assert not head.expect_continue
    assert head.upgrade == b""
    assert refusal(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n") == 400


def test_framing() -> None:
    assert request(get(b"Transfer-Encoding: CHUNKED\r\n")).chunked
    assert request(get(b"content-length: 0000000005\r\n")).content_length == 5
    assert request(get(b"Content-Length: 9223372036854775807\r\n")).content_length == 2**63 - 1


def test_fields_of_the_connection_are_taken_out() -> None:
    head = request(
        get(
            b"A: 1\r\nConnection: Upgrade, HTTP2-Settings, B\r\nB: 2\r\nC: 3\r\nUpgrade: websocket\r\n"
            b"HTTP2-Settings: x\r\nKeep-Alive: timeout=5\r\nProxy-Connection: close\r\nTE: gzip, Trailers\r\n"
            b"Expect: 100-Continue\r\nContent-Length: 0\r\nBB: 4\r\n"
        )
    )
    assert head.fields == b"A: 1\r\nC: 3\r\nBB: 4\r\n"
    assert head.upgrade == b"websocket"
    assert head.upgrade_requested
    assert head.te_trailers
    assert head.expect_continue
    assert head.keep_alive


def test_connection_cannot_remove_framing_or_host() -> None:
    head = request(
        get(
            b"Connection: Host, Content-Length, X-Forwarded-For, close\r\n"
            b"Content-Length: 4\r\nX-Forwarded-For: b\r\n"
        )
    )
    assert (head.host, head.content_length, head.x_forwarded_for, head.keep_alive) == (b"a", 4, b"b", False)


def test_upgrade_counts_only_if_connection_lists_it() -> None:
    head = request(get(b"Upgrade: websocket\r\n"))
    assert (head.upgrade, head.upgrade_requested, head.fields) == (b"", True, b"")
    head = request(get(b"Upgrade: a\r\nConnection: keep-alive, upgrade\r\nUpgrade: b\r\n"))
    assert head.upgrade == b"a, b"


def test_forwarding_fields() -> None:
    head = request(
        get(
            b"Forwarded: for=a\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: h\r\nX-Real-IP: 1\r\n"
            b"X-Request-ID: r\r\nforwarded: for=b\r\nx-forwarded-proto: https\r\n"
        )
    )
    assert head.forwarded == b"for=a, for=b"
    assert (head.x_forwarded_proto, head.x_forwarded_host) == (b"https", b"h")
    assert (head.x_real_ip, head.x_request_id, head.x_forwarded_for) == (b"1", b"r", None)
    assert head.fields == b""


def test_expectations() -> None:
    assert refusal(get(b"Expect: x 100-continue\r\n")) == 417


@pytest.mark.parametrize("name", CLIENT_CERT_NAMES)
@pytest.mark.parametrize("spell", [bytes.lower, bytes.upper, bytes.title, bytes.swapcase])
def test_what_is_said_of_a_client_s_certificate_is_set_aside(name: bytes, spell: Callable[[bytes], bytes]) -> None:
    line = spell(name) + b": x, y \r\n"
    head = request(get(b"A: 1\r\n" + line + b"B: 2\r\n" + line))
    assert (head.fields, head.client_cert) == (b"A: 1\r\nB: 2\r\n", 2 * line)
    near = name[:-1] + b"z: 1\r\n" + name + b"s: 1\r\n"
    assert request(get(near)).fields == near
    for underscored in (name.replace(b"-", b"_"), name.replace(b"-", b"_", 1)):
        head = request(get(spell(underscored) + b": x\r\n"), keep_underscores=True)
        assert (head.fields, head.client_cert) == (b"", b"")
        assert head.dropped_underscores == [spell(underscored)]


def test_underscores() -> None:
    data = get(b"A_b: 1\r\nContent_Length: 5\r\nX_Forwarded-For: 1\r\nC: 2\r\n")
    head = request(data)
    assert head.fields == b"C: 2\r\n"
    assert head.dropped_underscores == [b"A_b", b"Content_Length", b"X_Forwarded-For"]
    head = request(data, keep_underscores=True)
    assert head.fields == b"A_b: 1\r\nC: 2\r\n"
    assert head.dropped_underscores == [b"Content_Length", b"X_Forwarded-For"]


def test_one_empty_line_first() -> None:
    assert request(b"\r\n" + get(b"")).host == b"a"
    assert refusal(b"\r\n\r\n" + get(b"")) == 400
    assert refusal(b"\rX" + get(b"")) == 400
    assert read("request", [get(b""), b"\r\n", get(b""), b"\r\n"]).error is None


@pytest.mark.parametrize("extra", [0, 1])
def test_limits_are_exact(extra: int) -> None:
    limits = (200, 3, 50)
    path = b"/" + b"a" * (49 + extra)
    assert refusal(get(b"", b"GET " + path + b" HTTP/1.1"), limits=limits) == (414 if extra else None)
    assert refusal(get(b"A: b\r\n" * (2 + extra)), limits=limits) == (431 if extra else None)
    # The last LF is the one byte that need not fit: whatever comes before it has been judged by then.
    rest = len(get(b"X: \r\n")) - 1
    assert refusal(get(b"X: " + b"v" * (200 - rest + extra) + b"\r\n"), limits=limits) == (
        431 if extra else None
    )


def test_limits_hold_before_a_line_is_complete() -> None:
    assert refusal(b"GET /" + b"a" * 20000) == 414
    assert refusal(b"GET / HTTP/1.1\r\nX: " + b"a" * 66000) == 431
    assert refusal(b"G" * 20000) == 414


def test_a_long_line_byte_by_byte() -> None:
    parser = RequestParser(65536, 2000, 16384, False)
    for piece in in_bytes(get(b"X: " + b"y" * 60000 + b"\r\n"))[:-1]:
        assert parser.parse(piece, 0) is None
    head = parser.parse(b"\n", 0)
    assert head is not None
    assert len(head.fields) == 60005


names = st.text("abcdefghijklmnopqrstuvwxyzXYZ0123456789-!#$%&'*+.^`|~", min_size=1, max_size=20).map(
    str.encode
)
values = st.binary(max_size=30).map(lambda raw: bytes(b for b in raw if b == 9 or (b >= 32 and b != 127)))
SPECIAL = {*KNOWN_NAMES[1:], *CLIENT_CERT_NAMES}
plain_fields = st.lists(st.tuples(names.filter(lambda name: name.lower() not in SPECIAL), values), max_size=8)
lines = st.sampled_from(sorted(SPECIAL)).flatmap(
    lambda name: st.sampled_from(
        [b"chunked", b"5", b"close", b"a", b"x-a, upgrade", b"100-continue", b"trailers", b""]
    ).map(lambda value: name.title() + b": " + value + b"\r\n")
)


@given(plain_fields, st.integers(0, 400), st.integers(0, 400))
def test_ordinary_fields_pass_unchanged(fields: list[tuple[bytes, bytes]], first: int, second: int) -> None:
    block = b"".join(name + b":" + value + b"\r\n" for name, value in fields)
    data = b"GET /x HTTP/1.1\r\n" + block + b"Host: a\r\n\r\n"
    outcome = read("request", cut_at(data, min(first, len(data)), min(second, len(data))))
    assert outcome.error is None
    assert outcome.heads[0]["fields"] == block


@given(st.lists(lines, max_size=5), st.binary(max_size=3), st.integers(0, 300), st.integers(0, 300))
def test_mutations_never_depend_on_cuts(block: list[bytes], noise: bytes, at: int, cut: int) -> None:
    data = get(b"".join(block)) + b"5\r\nhello\r\n0\r\n\r\n"
    at %= len(data)
    data = data[:at] + noise + data[at + 1 :]
    whole = read("request", [data])
    assert (whole.error is None) or 400 <= whole.error < 600
    for chunks in (in_bytes(data), cut_at(data, cut % len(data))):
        other = read("request", chunks)
        assert (other.error, other.heads) == (whole.error, whole.heads)


@given(st.binary(max_size=300))
def test_arbitrary_bytes_raise_nothing_but_bad_message(data: bytes) -> None:
    assert read("request", [data]).error == read("request", in_bytes(data)).error


def test_the_error_carries_status_and_reason() -> None:
    with pytest.raises(BadMessage) as caught:
        request(get(b"X : y\r\n"))
    assert (caught.value.status, caught.value.reason) == (400, "blank before colon")


noted = st.sampled_from([b"Referer", b"referer", b"USER-AGENT", b"User-Agent", b"Refresh", b"Unit-Count", b"X-A"])
noted_lines = st.lists(st.tuples(noted, values), max_size=6).map(
    lambda fields: b"".join(name + b":" + value + b"\r\n" for name, value in fields)
)


@given(noted_lines, noted_lines, st.sampled_from([b"", b"a", b"referer", b"x-a, user-agent"]), st.data())
def test_what_is_logged_is_found_where_it_was_noted(
    before: bytes, after: bytes, option: bytes, cuts: st.DataObject
) -> None:
    """The first line of either name, whatever was taken out around it and however the head was split."""
    head_bytes = b"GET / HTTP/1.1\r\n" + before + b"Host: a\r\nConnection: " + option + b"\r\n" + after + b"\r\n"
    parser = RequestParser(65536, 100, 8192, False)
    head = None
    cut = cuts.draw(st.integers(1, len(head_bytes) - 1))
    for piece in (head_bytes[:cut], head_bytes[cut:]):
        assert head is None
        head = parser.parse(piece, 0)
    assert head is not None
    fields = head.fields
    assert fields[head.referer : head.referer_end].strip(b" \t") == (field_value(fields, b"referer") or b"")
    assert fields[head.user_agent : head.user_agent_end].strip(b" \t") == (field_value(fields, b"user-agent") or b"")
