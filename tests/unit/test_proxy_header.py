"""The header of the PROXY protocol: what is read from it, what is refused, and that cuts change nothing."""

from __future__ import annotations

import ipaddress
import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsproxy.errors import BadProxyHeader
from vsproxy.wire.crc32c import crc32c
from vsproxy.wire.proxy_header import (
    MAX_HEADER,
    MAX_LINE,
    SIGNATURE,
    Ends,
    ProxyHeader,
    ProxyHeaderParser,
    block_of,
    ends_of,
    line_of,
)

V4 = Ends(bytes((192, 168, 0, 1)), 56324, bytes((192, 168, 0, 11)), 443)
V6 = Ends(ipaddress.ip_address("2001:db8::1").packed, 1, ipaddress.ip_address("2001:db8::2").packed, 65535)
NOOP = b"\x04\x00\x03abc"

ends = st.sampled_from((4, 16)).flatmap(
    lambda size: st.builds(
        Ends,
        st.binary(min_size=size, max_size=size),
        st.integers(0, 65535),
        st.binary(min_size=size, max_size=size),
        st.integers(0, 65535),
    )
)


def outcome(*pieces: bytes) -> tuple[ProxyHeader | None, bytes] | str:
    """What a parser makes of `pieces`: the header (None: not whole) with what is behind it, or why it is none."""
    parser = ProxyHeaderParser()
    header = None
    rest = b""
    try:
        for piece in pieces:
            if header is not None:
                rest += piece
            else:
                header = parser.feed(piece)
                rest = parser.rest
    except BadProxyHeader as error:
        return str(error)
    return header, rest


def v2(command: int = 0x21, kind: int = 0x11, body: bytes = block_of(V4)[16:], length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return SIGNATURE + bytes((command, kind)) + struct.pack("!H", size) + body


def checked(header: bytes, wrong: bool = False) -> bytes:
    """`header` of version 2 with a checksum behind what it has."""
    zeroed = header[:14] + struct.pack("!H", len(header) - 16 + 7) + header[16:] + b"\x03\x00\x04\0\0\0\0"
    return zeroed[:-4] + struct.pack("!I", crc32c(zeroed) ^ wrong)


# Version 1


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n", V4),
        (b"PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n", Ends(bytes(4), 0, b"\xff" * 4, 65535)),
        (b"PROXY TCP6 2001:DB8::1 2001:db8:0:0:0:0:0:2 1 65535\r\n", V6),
        (
            b"PROXY TCP6 ::ffff:192.0.2.1 :: 1 2\r\n",
            Ends(b"\0" * 10 + b"\xff\xff\xc0\x00\x02\x01", 1, bytes(16), 2),
        ),
        (b"PROXY UNKNOWN\r\n", None),
        (b"PROXY UNKNOWN ffff::1 what ever\0 \r \xff\r\n", None),
        (b"PROXY UNKNOWN " + b"x" * (MAX_LINE - 16) + b"\r\n", None),
        (b"PROXY TCP6 " + b"ffff:" * 7 + b"ffff " + b"ffff:" * 7 + b"ffff 65535 65535\r\n",
         Ends(b"\xff" * 16, 65535, b"\xff" * 16, 65535)),
    ],
)  # fmt: skip
def test_lines(line: bytes, expected: Ends | None) -> None:
    assert outcome(line + b"GET /") == (ProxyHeader(1, expected), b"GET /")


@pytest.mark.parametrize(
    "line",
    [
        b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\n",
        b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\r\n",
        b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443 \r\n",
        b"PROXY TCP4  192.168.0.1 192.168.0.11 56324 443\r\n",
        b"PROXY TCP4\t192.168.0.1 192.168.0.11 56324 443\r\n",
        b"PROXY TCP4 192.168.0.1 192.168.0.11 56324\r\n",
        b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443 1\r\n",
        b"PROXY TCP4 192.168.0.01 192.168.0.11 56324 443\r\n",
        b"PROXY TCP4 192.168.0.256 192.168.0.11 56324 443\r\n",
        b"PROXY TCP4 192.168.1 192.168.0.11 56324 443\r\n",
        b"PROXY TCP4 0xc0a80001 192.168.0.11 56324 443\r\n",
        b"PROXY TCP4 ::1 ::1 56324 443\r\n",
        b"PROXY TCP6 192.168.0.1 192.168.0.11 56324 443\r\n",
        b"PROXY TCP6 fe80::1%eth0 ::1 56324 443\r\n",
        b"PROXY TCP6 1::2::3 ::1 56324 443\r\n",
        b"PROXY TCP6 12345:: ::1 56324 443\r\n",
        b"PROXY TCP6 ::1/64 ::1 56324 443\r\n",
        b"PROXY TCP4 192.168.0.1 192.168.0.11 056324 443\r\n",
        b"PROXY TCP4 192.168.0.1 192.168.0.11 65536 443\r\n",
        b"PROXY TCP4 192.168.0.1 192.168.0.11 +1 443\r\n",
        b"PROXY TCP4 192.168.0.1 192.168.0.11 -1 443\r\n",
        b"PROXY TCP4 192.168.0.1 192.168.0.11 \xd9\xa1 443\r\n",
        b"PROXY TCP4 192.168.0.1 192.168.0.11  443\r\n",
        b"PROXY UDP4 192.168.0.1 192.168.0.11 1 443\r\n",
        b"PROXY tcp4 192.168.0.1 192.168.0.11 1 443\r\n",
        b"PROXY UNKNOWNS\r\n",
        b"PROXY UNKNOWN a\nb\r\n",
        b"PROXY \r\n",
        b"PROXY UNKNOWN " + b"x" * (MAX_LINE - 15) + b"\r\n",
        b"PROXY " + b"x" * (MAX_LINE - 6),
        b"proxy TCP4 192.168.0.1 192.168.0.11 1 443\r\n",
        b"PROXY\r\n",
        b"GET / HTTP/1.1\r\n",
        b"\x16\x03\x01",
        b" PROXY",
        b"\0",
    ],
)
def test_what_is_no_line(line: bytes) -> None:
    reason = outcome(line)
    assert isinstance(reason, str), "taken for a header"
    # However it comes: never longer than it takes to know.
    assert outcome(*(line[at : at + 1] for at in range(len(line)))) == reason


def test_a_line_is_waited_for() -> None:
    for line in (b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n", b"PROXY UNKNOWN\r\n"):
        for size in range(len(line)):
            assert outcome(line[:size]) == (None, b"")


# Version 2


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (v2(), V4),
        (v2(kind=0x21, body=block_of(V6)[16:]), V6),
        (v2(body=block_of(V4)[16:] + NOOP + b"\x30\x00\x00"), V4),
        (v2(command=0x20, kind=0, body=b""), None),
        # Nothing in a LOCAL header means anything, not even its family.
        (v2(command=0x20, kind=0xFF, body=b"\x03\x00\x04nope"), None),
        (v2(command=0x20), None),
        (v2(kind=0x00, body=b""), None),
        (v2(kind=0x00, body=NOOP), None),
        (v2(kind=0x12), None),
        (v2(kind=0x22, body=bytes(36)), None),
        (v2(kind=0x31, body=bytes(216)), None),
        (v2(kind=0x32, body=bytes(216) + NOOP), None),
        (v2(kind=0x10, body=b"anything"), None),
        (v2(kind=0x01, body=b""), None),
        (checked(v2()), V4),
        (checked(v2(body=block_of(V4)[16:] + NOOP)) , V4),
        (v2(body=block_of(V4)[16:] + b"\x04" + struct.pack("!H", MAX_HEADER - 31) + bytes(MAX_HEADER - 31)), V4),
    ],
)  # fmt: skip
def test_blocks(header: bytes, expected: Ends | None) -> None:
    assert outcome(header + b"\x16\x03") == (ProxyHeader(2, expected), b"\x16\x03")
    assert outcome(header[:-1]) == (None, b"")


def test_a_checksum_in_the_middle() -> None:
    """It covers the whole header, with itself as zeros."""
    head = v2(length=12 + 7 + len(NOOP))
    zeroed = head + b"\x03\x00\x04\0\0\0\0" + NOOP
    good = head + b"\x03\x00\x04" + struct.pack("!I", crc32c(zeroed)) + NOOP
    assert outcome(good) == (ProxyHeader(2, V4), b"")
    for at in range(28, len(good)):
        flipped = good[:at] + bytes((good[at] ^ 1,)) + good[at + 1 :]
        assert isinstance(outcome(flipped), str) or at == 28, at


@pytest.mark.parametrize(
    "header",
    [
        SIGNATURE + b"\x11\x11\x00\x0c" + bytes(12),
        SIGNATURE + b"\x31\x11\x00\x0c" + bytes(12),
        v2(command=0x22),
        v2(command=0x2F),
        v2(kind=0x41),
        v2(kind=0x13),
        v2(kind=0x51, body=bytes(216)),
        v2(body=bytes(11)),
        v2(kind=0x21, body=bytes(35)),
        v2(kind=0x31, body=bytes(215)),
        v2(body=bytes(12) + b"\x04"),
        v2(body=bytes(12) + b"\x04\x00"),
        v2(body=bytes(12) + b"\x04\x00\x01"),
        v2(body=bytes(12) + NOOP + b"\x04\x00\x04abc"),
        v2(kind=0x00, body=b"\x04\x00\x01"),
        v2(body=bytes(12) + b"\x03\x00\x00"),
        v2(body=bytes(12) + b"\x03\x00\x03abc"),
        checked(v2(), wrong=True),
        checked(v2())[:20] + b"\x07" + checked(v2())[21:],
        v2(length=MAX_HEADER - 15),
        v2(length=65535),
        SIGNATURE[:-1] + b"\r",
        b"\r\n\r\n\r\n",
    ],
)
def test_what_is_no_block(header: bytes) -> None:
    reason = outcome(header)
    assert isinstance(reason, str), "taken for a header"
    assert outcome(*(header[at : at + 1] for at in range(len(header)))) == reason


def test_what_cannot_become_a_header_is_refused_at_once() -> None:
    for start in (b"G", b"PX", b"\r\r", SIGNATURE + b"\x11", SIGNATURE + b"\x21\x41", b"PROXY TCP4 1.2.3.4\n"):
        assert isinstance(outcome(start), str)


# Both


def test_the_checksum_is_that_of_the_standard() -> None:
    # The check value of CRC-32C in catalogues; and RFC 3720 appendix B.4 for 32 bytes of zeros and of ones.
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43


@given(ends)
def test_what_is_written_is_read(them: Ends) -> None:
    assert outcome(line_of(them)) == (ProxyHeader(1, them), b"")
    assert outcome(block_of(them)) == (ProxyHeader(2, them), b"")
    assert len(line_of(them)) <= MAX_LINE


def test_what_is_written_without_addresses() -> None:
    assert line_of(None) == b"PROXY UNKNOWN\r\n"
    assert block_of(None) == SIGNATURE + b"\x20\x00\x00\x00"
    assert outcome(line_of(None)) == (ProxyHeader(1, None), b"")
    assert outcome(block_of(None)) == (ProxyHeader(2, None), b"")


fragments = st.sampled_from(
    (
        b"PROXY ", b"TCP4 ", b"TCP6 ", b"UNKNOWN", b"1.2.3.4", b"::1", b" ", b"80", b"\r", b"\n", b"\r\n", SIGNATURE,
        b"\x20", b"\x21", b"\x11", b"\x31", b"\x00\x0c", b"\x00\x00", b"\x00\x13", bytes(4), b"\x03\x00\x04", b"GET /",
    )
)  # fmt: skip
noise = st.one_of(
    st.binary(max_size=300),
    st.lists(fragments, max_size=20).map(b"".join),
    st.binary(max_size=60).map(SIGNATURE.__add__),
    st.tuples(st.binary(max_size=40), ends).map(lambda both: block_of(both[1]) + both[0]),
    ends.flatmap(lambda them: st.sampled_from((block_of(them), line_of(them)))).flatmap(
        lambda good: st.tuples(st.integers(0, len(good) - 1), st.integers(0, 255)).map(
            lambda at: good[: at[0]] + bytes((at[1],)) + good[at[0] + 1 :]
        )
    ),
)


@given(noise, st.lists(st.integers(0, 400), max_size=6))
def test_cuts_change_nothing_and_nothing_else_is_raised(data: bytes, cuts: list[int]) -> None:
    places = sorted({0, len(data), *(min(cut, len(data)) for cut in cuts)})
    pieces = [data[start:end] for start, end in pairwise(places)]
    whole = outcome(data)
    assert outcome(*pieces) == whole
    assert outcome(*(data[at : at + 1] for at in range(len(data)))) == whole


# Addresses as text


def test_ends_from_text() -> None:
    assert ends_of("192.168.0.1", 56324, "192.168.0.11", 443) == V4
    assert ends_of("2001:db8::1", 1, "2001:db8::2", 65535) == V6
    # A listener for both families sees IPv4 clients inside of IPv6.
    assert ends_of("::ffff:192.168.0.1", 56324, "::ffff:192.168.0.11", 443) == V4
    assert ends_of("fe80::1%eth0", 1, "fe80::2%3", 2).source == ipaddress.ip_address("fe80::1").packed
    mixed = ends_of("192.168.0.1", 1, "2001:db8::2", 2)
    assert ipaddress.ip_address(mixed.source) == ipaddress.ip_address("::ffff:192.168.0.1")
    with pytest.raises(ValueError, match="nobody"):
        ends_of("nobody", 1, "::1", 2)
