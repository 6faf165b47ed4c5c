"""Lookups against a nameserver on loopback: addresses, services, the hosts file, and what fails."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from support.nameserver import NameServer, nameserver
from vsproxy.config.model import ResolverSection
from vsproxy.config.units import parse_address
from vsproxy.upstream import names as names_module
from vsproxy.upstream.endpoint import Endpoint
from vsproxy.upstream.lookup import Answer, LookupFailed
from vsproxy.upstream.names import Names

SERVICE = "_http._tcp.app.test"


@pytest.fixture
async def server() -> AsyncIterator[NameServer]:
    async with nameserver() as server:
        yield server


class Looking:
    """Names that ask the test's nameserver, with hosts and resolver files of the test's own."""

    def __init__(self, server: NameServer, directory: Path) -> None:
        self.server = server
        self.hosts = directory / "hosts"
        self.resolver = directory / "resolv.conf"
        self.names = self.make()

    def make(self, **settings: Any) -> Names:
        config = ResolverSection.model_validate(
            {"nameservers": [self.server.address], "timeout": 5, "tries": 1, **settings}
        )
        return Names(config, str(self.hosts), str(self.resolver))

    async def __call__(self, address: str, last: Answer | None = None) -> Answer:
        return await self.names.look_up(parse_address(address), last)

    async def hosts_of(self, address: str, last: Answer | None = None) -> list[str]:
        return [endpoint.host for endpoint in (await self(address, last)).endpoints]

    async def failure(self, address: str, last: Answer | None = None) -> str:
        with pytest.raises(LookupFailed) as caught:
            await self(address, last)
        return str(caught.value)


@pytest.fixture
async def look(server: NameServer, tmp_path: Path) -> AsyncIterator[Looking]:
    looking = Looking(server, tmp_path)
    yield looking
    await looking.names.close()


async def test_all_addresses_and_the_shorter_ttl(server: NameServer, look: Looking) -> None:
    server.put("app.test", "A", "192.0.2.1", "192.0.2.2", ttl=60)
    server.put("app.test", "AAAA", "2001:db8::1", ttl=30)
    answer = await look("app.test:81")
    assert set(answer.endpoints) == {
        Endpoint("192.0.2.1", 81),
        Endpoint("192.0.2.2", 81),
        Endpoint("2001:db8::1", 81),
    }
    assert len(answer.endpoints) == 3
    assert answer.ttl == 30


async def test_an_alias_counts_with_its_ttl(server: NameServer, look: Looking) -> None:
    server.put("app.test", "CNAME", "real.test.", ttl=7)
    server.put("real.test", "A", "192.0.2.1", ttl=60)
    answer = await look("app.test:80")
    assert (answer.endpoints, answer.ttl) == ((Endpoint("192.0.2.1", 80),), 7)


async def test_nothing_is_kept_between_lookups(server: NameServer, look: Looking) -> None:
    """A TTL is for whoever asks; a cache below would overrule `resolve_interval`."""
    server.put("app.test", "A", "192.0.2.1", ttl=3600)
    assert await look.hosts_of("app.test:80") == ["192.0.2.1"]
    server.put("app.test", "A", "192.0.2.2", ttl=3600)
    assert await look.hosts_of("app.test:80") == ["192.0.2.2"]


@pytest.mark.parametrize(
    ("wanted", "expected", "asked"),
    [("ipv4", ["192.0.2.1"], {"A"}), ("ipv6", ["2001:db8::1"], {"AAAA"})],
)
async def test_one_family_is_enough_if_one_is_wanted(
    server: NameServer, look: Looking, wanted: str, expected: list[str], asked: set[str]
) -> None:
    server.put("app.test", "A", "192.0.2.1")
    server.put("app.test", "AAAA", "2001:db8::1")
    look.hosts.write_text("192.0.2.9 both\n2001:db8::9 both\n")
    look.names = look.make(addresses=wanted)
    assert await look.hosts_of("app.test:80") == expected
    assert {kind for _, kind in server.asked} == asked
    assert len(await look.hosts_of("both:80")) == 1


async def test_an_answer_too_long_for_a_datagram_comes_over_tcp(server: NameServer, look: Looking) -> None:
    server.truncating = True
    addresses = [f"192.0.2.{number}" for number in range(1, 100)]
    server.put("app.test", "A", *addresses)
    assert sorted(await look.hosts_of("app.test:80")) == sorted(addresses)
    assert server.asked_over_tcp == 2


# The hosts file and the search list


async def test_the_hosts_file_goes_first(server: NameServer, look: Looking) -> None:
    server.put("app.test", "A", "192.0.2.1")
    look.hosts.write_text("192.0.2.7 app.test\n2001:db8::7 app.test\n")
    answer = await look("app.test:80")
    assert [endpoint.host for endpoint in answer.endpoints] == ["192.0.2.7", "2001:db8::7"]
    assert answer.ttl == math.inf
    look.hosts.write_text("")
    assert await look.hosts_of("app.test:80") == ["192.0.2.1"]


async def test_localhost_is_never_asked_for(server: NameServer, look: Looking) -> None:
    assert await look.hosts_of("localhost:80") == ["127.0.0.1", "::1"]
    assert server.asked == []


async def test_the_systems_own_hosts_file_is_the_default() -> None:
    names = Names(ResolverSection())
    answer = await names.look_up(parse_address("localhost:80"))
    await names.close()
    assert {endpoint.host for endpoint in answer.endpoints} & {"127.0.0.1", "::1"}


async def test_the_search_list_is_tried(server: NameServer, look: Looking) -> None:
    look.resolver.write_text("search one.test two.test\n")
    server.put("app.two.test", "A", "192.0.2.1")
    assert await look.hosts_of("app:80") == ["192.0.2.1"]
    assert [name for name, kind in server.asked if kind == "A"] == ["app.one.test", "app.two.test"]


async def test_both_families_are_those_of_one_name(server: NameServer, look: Looking) -> None:
    look.resolver.write_text("search one.test two.test\n")
    server.put("app.one.test", "A", "192.0.2.1")
    server.put("app.two.test", "A", "192.0.2.2")
    server.put("app.two.test", "AAAA", "2001:db8::2")
    assert await look.hosts_of("app:80") == ["192.0.2.1"]


async def test_a_search_goes_past_a_domain_that_fails(server: NameServer, look: Looking) -> None:
    look.resolver.write_text("search broken.test\n")
    server.faults["app.broken.test"] = "SERVFAIL"
    server.put("app", "A", "192.0.2.1")
    assert await look.hosts_of("app:80") == ["192.0.2.1"]
    server.put("app", "A")
    assert "SERVFAIL" in await look.failure("app:80")


async def test_a_search_does_not_go_past_silence(server: NameServer, look: Looking) -> None:
    """What did not answer may be the right name: the next one would be another's."""
    look.resolver.write_text("search one.test\n")
    look.names = look.make(timeout=0.1)
    server.faults["app.one.test"] = "silence"
    server.put("app", "A", "192.0.2.1")
    await look.failure("app:80")
    assert server.count("app", "A") == 0


async def test_the_systems_nameservers_are_asked_unless_others_are_given(
    server: NameServer, look: Looking
) -> None:
    server.put("app.test", "A", "192.0.2.1")
    look.resolver.write_text("nameserver 127.0.0.1\n")
    names = look.make(nameservers=[])
    source = names._nameservers.current()
    assert list(source.resolver.nameservers) == ["127.0.0.1"]
    names.configure(ResolverSection.model_validate({"nameservers": [server.address]}))
    assert (await names.look_up(parse_address("app.test:80"))).endpoints
    await names.close()


# Failures


async def test_why_there_is_no_address(server: NameServer, look: Looking) -> None:
    server.put("text.test", "CNAME", "none.test.")
    server.put("six.test", "SRV", "0 0 1 x.test.")
    server.faults["broken.test"] = "SERVFAIL"
    server.faults["silent.test"] = "silence"
    assert await look.failure("none.test:80") == "no A or AAAA record"
    assert await look.failure("text.test:80") == "no A or AAAA record"
    assert await look.failure("six.test:80") == "no A or AAAA record"
    assert "SERVFAIL" in await look.failure("broken.test:80")
    assert "label" in await look.failure(f"{'x' * 64}.test:80")
    look.names = look.make(timeout=0.1)
    assert "timed out" in await look.failure("silent.test:80")


async def test_a_nameserver_that_fails_leaves_it_to_the_next(server: NameServer, look: Looking) -> None:
    server.put("app.test", "A", "192.0.2.1")
    async with nameserver() as broken:
        broken.faults["app.test"] = "SERVFAIL"
        look.names = look.make(nameservers=[broken.address, server.address])
        assert await look.hosts_of("app.test:80") == ["192.0.2.1"]
        look.names = look.make(nameservers=[broken.address, server.address], timeout=1)
        broken.faults["app.test"] = "silence"
        assert await look.hosts_of("app.test:80") == ["192.0.2.1"]


async def test_a_family_that_fails_keeps_what_it_had(server: NameServer, look: Looking) -> None:
    server.put("app.test", "A", "192.0.2.1")
    server.put("app.test", "AAAA", "2001:db8::1")
    first = await look("app.test:80")
    server.put("app.test", "A", "192.0.2.2")
    server.faults["app.test", "AAAA"] = "SERVFAIL"
    assert await look.hosts_of("app.test:80") == ["192.0.2.2"]
    second = await look("app.test:80", first)
    assert [endpoint.host for endpoint in second.endpoints] == ["192.0.2.2", "2001:db8::1"]
    assert await look.hosts_of("app.test:80", second) == ["192.0.2.2", "2001:db8::1"]
    del server.faults["app.test", "AAAA"]
    server.put("app.test", "AAAA")
    assert await look.hosts_of("app.test:80", second) == ["192.0.2.2"]


async def test_a_failure_is_one_even_if_something_was_known(server: NameServer, look: Looking) -> None:
    server.put("app.test", "A", "192.0.2.1")
    last = await look("app.test:80")
    server.put("app.test", "A")
    server.faults["app.test", "AAAA"] = "SERVFAIL"
    assert "SERVFAIL" in await look.failure("app.test:80", last)


# Services


async def test_a_service_is_its_targets(server: NameServer, look: Looking) -> None:
    server.put(SERVICE, "SRV", "10 3 8001 one.test.", "10 1 8002 two.test.", "20 5 8003 three.test.", ttl=60)
    server.put("one.test", "A", "192.0.2.1", ttl=50)
    server.put("two.test", "AAAA", "2001:db8::2", ttl=40)
    look.hosts.write_text("192.0.2.3 three.test\n")
    answer = await look(f"srv:{SERVICE}")
    assert set(answer.endpoints) == {
        Endpoint("192.0.2.1", 8001, 3, False),
        Endpoint("2001:db8::2", 8002, 1, False),
        Endpoint("192.0.2.3", 8003, 5, True),
    }
    assert len(answer.endpoints) == 3
    assert answer.ttl == 40
    server.put(SERVICE, "SRV", "10 3 8001 one.test.", ttl=5)
    assert (await look(f"srv:{SERVICE}")).ttl == 5


async def test_a_service_that_is_not_offered_has_no_endpoint(server: NameServer, look: Looking) -> None:
    server.put(SERVICE, "SRV", "0 0 0 .", ttl=20)
    assert await look(f"srv:{SERVICE}") == Answer((), 20)


async def test_a_port_of_0_is_passed_over(server: NameServer, look: Looking) -> None:
    server.put(SERVICE, "SRV", "1 1 0 one.test.", "2 1 8002 two.test.")
    server.put("one.test", "A", "192.0.2.1")
    server.put("two.test", "A", "192.0.2.2")
    assert (await look(f"srv:{SERVICE}")).endpoints == (Endpoint("192.0.2.2", 8002, 1, False),)


async def test_targets_are_whole_names(server: NameServer, look: Looking) -> None:
    look.resolver.write_text("search other.test\n")
    server.put(SERVICE, "SRV", "0 1 80 one.")
    server.put("one.other.test", "A", "192.0.2.1")
    assert await look.failure(f"srv:{SERVICE}") == "no target has an address"


async def test_a_target_without_address_goes_and_one_that_fails_stays(
    server: NameServer, look: Looking
) -> None:
    server.put(SERVICE, "SRV", "0 1 80 one.test.", "0 1 80 two.test.", "0 1 80 three.test.")
    for number, name in enumerate(("one", "two", "three"), 1):
        server.put(f"{name}.test", "A", f"192.0.2.{number}")
    last = await look(f"srv:{SERVICE}")
    assert len(last.endpoints) == 3
    server.put("one.test", "A")
    server.faults["two.test"] = "SERVFAIL"
    answer = await look(f"srv:{SERVICE}", last)
    assert {endpoint.host for endpoint in answer.endpoints} == {"192.0.2.2", "192.0.2.3"}
    assert {endpoint.host for endpoint in (await look(f"srv:{SERVICE}", answer)).endpoints} == {
        "192.0.2.2",
        "192.0.2.3",
    }


async def test_why_there_is_no_service(server: NameServer, look: Looking) -> None:
    assert await look.failure(f"srv:{SERVICE}") == "no SRV record"
    server.faults[SERVICE] = "REFUSED"
    assert "REFUSED" in await look.failure(f"srv:{SERVICE}")


# The object


async def test_not_too_much_is_asked_at_once(
    server: NameServer, look: Looking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names_module, "MAX_QUESTIONS", 2)
    look.names = look.make(timeout=30)
    server.faults["one.test"] = "silence"
    server.put("two.test", "A", "192.0.2.2")
    waiting = asyncio.create_task(look("one.test:80"))
    await server.until_asked("one.test", "AAAA")
    second = asyncio.create_task(look.hosts_of("two.test:80"))
    await asyncio.sleep(0.05)
    assert {name for name, _ in server.asked} == {"one.test"}
    waiting.cancel()
    assert await second == ["192.0.2.2"]


async def test_a_close_ends_what_is_being_asked(server: NameServer, look: Looking) -> None:
    look.names = look.make(timeout=30)
    server.faults["one.test"] = "silence"
    waiting = asyncio.create_task(look.failure("one.test:80"))
    await server.until_asked("one.test", "A")
    await look.names.close()
    assert await waiting == "lookups have ended"
    assert await look.failure("localhost:80") == "lookups have ended"


async def test_a_lookup_can_be_cancelled(server: NameServer, look: Looking) -> None:
    look.names = look.make(timeout=30)
    server.faults["one.test"] = "silence"
    waiting = asyncio.create_task(look("one.test:80"))
    await server.until_asked("one.test", "A")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("look up ")]
