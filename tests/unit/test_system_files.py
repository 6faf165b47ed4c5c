"""The system's hosts and resolver files: how they are read, and that a change is seen."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vsproxy.config.model import ResolverSection
from vsproxy.upstream.hosts_file import HostsFile, parse_hosts
from vsproxy.upstream.nameservers import Nameservers, NameserverSource, read_nameservers
from vsproxy.upstream.watched_file import WatchedFile

SYSTEM = ResolverSection()
# With another label of 60 before it, this is too long for a name.
LONG = ".".join(["b" * 60] * 4)


def candidates(name: str, text: str) -> list[str]:
    return [found.to_text() for found in read_nameservers(SYSTEM, text).candidates(name)]


def asked(nameservers: Nameservers) -> list[str]:
    """Whom the resolver would ask, as `address@port`."""
    return [str(server).removeprefix("Do53:") for server in nameservers.resolver.nameservers]


def test_hosts() -> None:
    text = """\
# addresses of this machine
192.0.2.1   one.example  ONE     # comment
2001:DB8::1 one
192.0.2.1 one
not-an-address two
192.0.2.3
192.0.2.4\tdotted.example.
"""
    assert parse_hosts(text) == {
        "one.example": ("192.0.2.1",),
        "one": ("192.0.2.1", "2001:db8::1"),
        "dotted.example": ("192.0.2.4",),
    }


def test_a_host_is_known_however_it_is_written(tmp_path: Path) -> None:
    file = tmp_path / "hosts"
    file.write_text("192.0.2.1 One.Example\n")
    hosts = HostsFile(str(file))
    assert hosts.addresses("ONE.example") == hosts.addresses("one.example.") == ("192.0.2.1",)
    assert hosts.addresses("two.example") == ()


def test_localhost_needs_no_file_but_may_be_in_it(tmp_path: Path) -> None:
    file = tmp_path / "hosts"
    hosts = HostsFile(str(file))
    assert hosts.addresses("localhost") == hosts.addresses("app.localhost.") == ("127.0.0.1", "::1")
    file.write_text("127.0.0.5 localhost\n")
    assert hosts.addresses("localhost") == ("127.0.0.5",)


def test_a_file_is_read_once_until_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("a")
    texts: list[str] = []
    file = WatchedFile(str(path), lambda text: texts.append(text) or len(texts))
    assert [file.current(), file.current()] == [1, 1]
    path.write_text("bb")
    assert [file.current(), file.current()] == [2, 2]
    os.utime(path, (1, 1))
    assert file.current() == 3
    replacement = tmp_path / "new"
    replacement.write_text("cc")
    os.utime(replacement, (1, 1))
    replacement.rename(path)
    assert file.current() == 4
    path.unlink()
    assert [file.current(), file.current()] == [5, 5]
    assert texts == ["a", "bb", "bb", "cc", ""]


def test_a_file_that_cannot_be_read_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert WatchedFile(str(tmp_path), str.upper).current() == ""
    assert "cannot be read: Is a directory" in caplog.text


def test_the_resolver_file() -> None:
    text = "nameserver 192.0.2.53\nnameserver 2001:db8::53\noptions timeout:3 attempts:4 rotate\n"
    found = read_nameservers(SYSTEM, text)
    assert found.resolver.nameservers == ["192.0.2.53", "2001:db8::53"]
    assert (found.resolver.timeout, found.lifetime, found.resolver.rotate) == (3, 3 * 4 * 2, True)


@pytest.mark.parametrize(
    "text", ["", "search example.org\n", "nameserver\n", "nameserver none\n", "options timeout:0"]
)
def test_a_file_that_names_nobody_means_this_machine(text: str) -> None:
    found = read_nameservers(SYSTEM, text)
    assert found.resolver.nameservers == ["127.0.0.1"]
    assert (found.resolver.timeout, found.lifetime) == (2, 4)


def test_lines_that_mean_nothing_do_not_spoil_the_others() -> None:
    text = "nameserver none\nsearch a..b\nnameserver 192.0.2.53\nsearch example.org\ndomain x..y\n"
    found = read_nameservers(SYSTEM, text)
    assert found.resolver.nameservers == ["192.0.2.53"]
    assert [domain.to_text() for domain in found.resolver.search] == ["example.org."]


def test_our_configuration_goes_first_and_leaves_the_rest() -> None:
    config = ResolverSection.model_validate(
        {"nameservers": ["192.0.2.1", "[2001:db8::1]:5353"], "timeout": "500ms", "tries": 3}
    )
    text = "nameserver 192.0.2.53\nsearch example.org\noptions timeout:3 attempts:4\n"
    found = read_nameservers(config, text)
    assert asked(found) == ["192.0.2.1@53", "2001:db8::1@5353"]
    assert (found.resolver.timeout, found.lifetime) == (0.5, 0.5 * 3 * 2)
    assert [name.to_text() for name in found.candidates("a")] == ["a.example.org.", "a."]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a", "search x.org y.org\n", ["a.x.org.", "a.y.org.", "a."]),
        ("a.b", "search x.org y.org\n", ["a.b.", "a.b.x.org.", "a.b.y.org."]),
        ("a.b", "search x.org\noptions ndots:2\n", ["a.b.x.org.", "a.b."]),
        ("a", "search x.org\noptions ndots:0\n", ["a.", "a.x.org."]),
        ("a.", "search x.org\n", ["a."]),
        ("a" * 60, f"search {LONG} x.org\n", ["a" * 60 + ".x.org.", "a" * 60 + "."]),
        ("_http._tcp.a", "search x.org\n", ["_http._tcp.a.", "_http._tcp.a.x.org."]),
    ],
)
def test_the_search_list(name: str, text: str, expected: list[str]) -> None:
    assert candidates(name, text) == expected


def test_a_changed_resolver_file_counts_at_once(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    source = NameserverSource(SYSTEM, str(file))
    assert asked(source.current()) == ["127.0.0.1"]
    file.write_text("nameserver 192.0.2.53\n")
    assert asked(source.current()) == ["192.0.2.53"]
