"""Durations, sizes, addresses and sets of statuses: what is read, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsproxy.config.units import (
    Bind,
    format_duration,
    format_size,
    parse_address,
    parse_bind,
    parse_duration,
    parse_nameserver,
    parse_size,
    parse_statuses,
)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("500ms", 0.5),
        ("10s", 10),
        ("1.5s", 1.5),
        ("5m", 300),
        ("1h", 3600),
        ("1m30s", 90),
        ("1h1ms", 3600.001),
        ("10", 10),
        ("0", 0),
        (10, 10),
        (0.25, 0.25),
    ],
)
def test_duration(written: object, seconds: float) -> None:
    assert parse_duration(written) == seconds


@pytest.mark.parametrize(
    "written",
    [
        "",
        "s",
        "10 s",
        " 10s",
        "10s\n",
        "10S",
        "-1s",
        "1w",
        "1e3s",
        "\u0661s",
        ".5s",
        True,
        None,
        -1,
        float("nan"),
        float("inf"),
    ],
)
def test_not_a_duration(written: object) -> None:
    with pytest.raises(ValueError, match="not a"):
        parse_duration(written)


@pytest.mark.parametrize(
    ("written", "size"),
    [
        ("10GiB", 10 * 1024**3),
        ("64KiB", 65536),
        ("3MiB", 3 * 1024**2),
        ("1KB", 1000),
        ("1MB", 10**6),
        ("2GB", 2 * 10**9),
        ("1.5MiB", 1572864),
        ("12B", 12),
        ("12", 12),
        (12, 12),
        ("9007199254740993B", 9007199254740993),
    ],
)
def test_size(written: object, size: int) -> None:
    assert parse_size(written) == size


@pytest.mark.parametrize("written", ["", "10G", "10gib", "10 MiB", "-1", "1e3", "MiB", 1.5, True, -1, "٣MB"])
def test_not_a_size(written: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_size(written)


@given(st.integers(0, 10**7))
def test_a_duration_is_read_as_it_was_shown(milliseconds: int) -> None:
    text = format_duration(milliseconds / 1000)
    assert parse_duration(text) == pytest.approx(milliseconds / 1000, rel=1e-5)


@given(st.integers(0, 2**50))
def test_a_size_is_read_as_it_was_shown(size: int) -> None:
    assert parse_size(format_size(size)) == size


@pytest.mark.parametrize("seconds", [0.0, 0.5, 1.0, 60.0, 90.0, 120.0, 3600.0, 7200.0])
def test_the_shown_duration_is_short(seconds: float) -> None:
    shown = {
        0.0: "0s",
        0.5: "500ms",
        1.0: "1s",
        60.0: "60s",
        90.0: "90s",
        120.0: "2m",
        3600.0: "1h",
        7200.0: "2h",
    }
    assert format_duration(seconds) == shown[seconds]


@pytest.mark.parametrize(
    ("written", "bind"),
    [
        ("127.0.0.1:80", Bind("tcp", "127.0.0.1", 80)),
        ("backend1:8080", Bind("tcp", "backend1", 8080)),
        ("a_b.c-d.example.com:1", Bind("tcp", "a_b.c-d.example.com", 1)),
        ("[::1]:443", Bind("tcp", "::1", 443)),
        ("[fe80::1%eth0]:443", Bind("tcp", "fe80::1%eth0", 443)),
        (":0", Bind("tcp", "", 0)),
        ("unix:/run/x.sock", Bind("unix", path="/run/x.sock")),
    ],
)
def test_bind_and_back(written: str, bind: Bind) -> None:
    assert parse_bind(written) == bind
    assert str(bind) == written


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("localhost", "port is missing"),
        ("[::1]", "port is missing"),
        ("::1:80", "brackets"),
        ("localhost:http", "not a number"),
        ("localhost:65536", "not a number"),
        ("localhost:٨", "not a number"),
        ("http://localhost:80", "no scheme"),
        ("localhost:80/x", "no path"),
        ("a b:80", "not a host name"),
        ("-a:80", "not a host name"),
        ("1.2.3:80", "4 octets"),
        ("1.2.3.999:80", "255"),
        ("[::g]:80", "::g"),
        ("srv:_http._tcp.app.example.com", "not a number"),
        ("unix:run.sock", "absolute"),
        ("unix:/" + "x" * 107, "107 bytes"),
        (80, "not text"),
    ],
)
def test_not_a_bind(written: object, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_bind(written)


def test_a_service_and_back() -> None:
    bind = parse_address("srv:_http._tcp.app.example.com")
    assert bind == Bind("srv", "_http._tcp.app.example.com")
    assert str(bind) == "srv:_http._tcp.app.example.com"
    assert parse_address(bind) is bind


@pytest.mark.parametrize(
    ("written", "bind"),
    [
        ("192.0.2.53", Bind("tcp", "192.0.2.53", 53)),
        ("192.0.2.53:5353", Bind("tcp", "192.0.2.53", 5353)),
        ("2001:DB8::53", Bind("tcp", "2001:db8::53", 53)),
        ("[2001:db8::53]:5353", Bind("tcp", "2001:db8::53", 5353)),
        ("fe80::1%eth0", Bind("tcp", "fe80::1%eth0", 53)),
    ],
)
def test_a_nameserver(written: str, bind: Bind) -> None:
    assert parse_nameserver(written) == bind
    assert parse_nameserver(str(bind)) == bind


@pytest.mark.parametrize(
    "written", ["dns.test", "dns.test:53", "192.0.2.1:0", "unix:/run/dns", "srv:_a._b.c", "", 53]
)
def test_not_a_nameserver(written: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_nameserver(written)


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        (":80", "host is missing"),
        ("backend1:0", "port 0"),
        ("srv:app.example.com", "_http._tcp"),
        ("srv:_http._tcp", "_http._tcp"),
        ("srv:_http.app.example.com", "_http._tcp"),
        ("srv:_http._tcp.app:80", "_http._tcp"),
        ("srv:_http._tcp.a b", "_http._tcp"),
        ("srv:_http._tcp." + "x" * 250, "_http._tcp"),
    ],
)
def test_an_address_of_a_server_is_complete(written: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_address(written)


@pytest.mark.parametrize(
    ("written", "inside", "outside"),
    [
        ("200", [200], [199, 201, 204]),
        (204, [204], [200]),
        ("2xx", [200, 299], [199, 300]),
        ("200-399", [200, 399], [199, 400]),
        ("200, 204,3xx", [200, 204, 300, 399], [201, 400]),
    ],
)
def test_statuses(written: object, inside: list[int], outside: list[int]) -> None:
    statuses = parse_statuses(written)
    assert all(statuses.matches(status) for status in inside)
    assert not any(statuses.matches(status) for status in outside)
    assert str(statuses) == str(written)


@pytest.mark.parametrize("written", ["", "2x", "20", "600", "300-200", "200,", "6xx", True, 2.0, "٢٠٠"])
def test_not_statuses(written: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_statuses(written)
