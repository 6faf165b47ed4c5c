"""Names end to end: servers are those that the nameserver names, as it changes its mind or falls silent."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from support.nameserver import PATIENCE, NameServer, nameserver
from support.proxies import Settings, eventually
from support.server import Server
from support.stage import Stage
from vsproxy import Config
from vsproxy.upstream import resolve

SERVICE = "_http._tcp.app.test"
AT_SERVICE: Settings = {"address": f"srv:{SERVICE}"}


@pytest.fixture
async def dns() -> AsyncIterator[NameServer]:
    async with nameserver() as server:
        server.put("host.test", "A", "127.0.0.1", ttl=0)
        yield server


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A TTL of 0 is followed up at once, and so is a failure."""
    monkeypatch.setattr(resolve, "MIN_PAUSE", 0.01)
    monkeypatch.setattr(resolve, "RETRY", 0.01)


def offer(dns: NameServer, *records: tuple[int, int, Server], ttl: int = 0) -> None:
    """Let the service be these: priority, weight, server."""
    lines = [f"{priority} {weight} {server.port} host.test." for priority, weight, server in records]
    dns.put(SERVICE, "SRV", *lines, ttl=ttl)


def resolver(dns: NameServer) -> Settings:
    return {"nameservers": [dns.address], "timeout": "2s", "tries": 1}


async def served_by(stage: Stage, count: int) -> Counter[str]:
    """Who answers the next requests."""
    return Counter([(await stage.get()).body.decode() for _ in range(count)])


@pytest.mark.usefixtures("impatient")
async def test_weights_and_priorities_of_a_service_are_followed(stage: Stage, dns: NameServer) -> None:
    one, two, spare = await stage.server(), await stage.server(), await stage.server(name="spare")
    offer(dns, (10, 3, one), (10, 1, two), (20, 1, spare))
    proxy = await stage.proxy(AT_SERVICE, resolver=resolver(dns))
    assert await served_by(stage, 8) == {"server1": 6, "server2": 2}

    offer(dns, (10, 1, one), (10, 1, two), (20, 1, spare))
    await eventually(lambda: {server.weight for server in proxy.pools["main"].servers} == {1})
    assert await served_by(stage, 8) == {"server1": 4, "server2": 4}

    offer(dns, (10, 1, two), (20, 1, one), (30, 1, spare))
    await eventually(lambda: [server.backup for server in proxy.pools["main"].servers].count(True) == 2)
    assert await served_by(stage, 4) == {"server2": 4}
    await two.stop()
    assert set(await served_by(stage, 4)) == {"server1", "spare"}


async def test_a_reload_keeps_the_weights_of_records(stage: Stage, dns: NameServer) -> None:
    one, two = await stage.server(), await stage.server()
    offer(dns, (10, 3, one), (10, 1, two), ttl=300)
    proxy = await stage.proxy(AT_SERVICE, resolver=resolver(dns))
    config = proxy.config.model_dump(mode="json")
    config["pools"]["main"]["keepalive"] = 7
    await proxy.reload(Config.model_validate(config))
    assert await served_by(stage, 8) == {"server1": 6, "server2": 2}


@pytest.mark.usefixtures("impatient")
async def test_what_has_vanished_serves_until_its_successors_were_found_to_be_good(
    stage: Stage, dns: NameServer
) -> None:
    old, new = await stage.server(name="old"), await stage.server(name="new")
    offer(dns, (10, 1, old))
    # What is down refuses; a check that is only late says nothing.
    health = {"inter": "50ms", "timeout": "5s", "fall": 1, "rise": 1}
    proxy = await stage.proxy(AT_SERVICE, resolver=resolver(dns), pool={"health": health})
    await eventually(lambda: [server.state_name for server in proxy.pools["main"].servers] == ["up"])
    await new.stop()
    offer(dns, (10, 1, new))
    await eventually(lambda: "down" in [server.state_name for server in proxy.pools["main"].servers])
    assert await served_by(stage, 4) == {"old": 4}
    await new.start()
    await eventually(lambda: [server.port for server in proxy.pools["main"].servers] == [new.port])
    assert await served_by(stage, 4) == {"new": 4}


@pytest.mark.usefixtures("impatient")
async def test_the_targets_of_a_service_come_and_go(stage: Stage, dns: NameServer) -> None:
    one, two = await stage.server(), await stage.server()
    offer(dns, (10, 1, one))
    proxy = await stage.proxy(AT_SERVICE, resolver=resolver(dns))
    assert await served_by(stage, 3) == {"server1": 3}

    offer(dns, (10, 1, one), (10, 1, two))
    await eventually(lambda: proxy.pools["main"].up_count == 2)
    assert await served_by(stage, 4) == {"server1": 2, "server2": 2}

    offer(dns, (10, 1, two))
    await eventually(lambda: len(proxy.pools["main"].servers) == 1)
    assert await served_by(stage, 3) == {"server2": 3}

    # There is no such service any more, says one that may be wrong about it: the last answer stays.
    dns.records.clear()
    await dns.until_asked(SERVICE, "SRV", 3)
    dns.faults[SERVICE] = "silence"
    await dns.until_asked(SERVICE, "SRV", 2)
    assert await served_by(stage, 3) == {"server2": 3}


@pytest.mark.usefixtures("impatient")
async def test_a_service_is_there_once_it_resolves(stage: Stage, dns: NameServer) -> None:
    one = await stage.server()
    proxy = await stage.proxy(AT_SERVICE, resolver=resolver(dns))
    assert (await stage.get()).status == 503
    offer(dns, (10, 1, one))
    await eventually(lambda: proxy.pools["main"].up_count == 1)
    assert await served_by(stage, 2) == {"server1": 2}
    dns.put(SERVICE, "SRV", "0 0 0 .", ttl=0)
    await eventually(lambda: proxy.pools["main"].up_count == 0)
    assert (await stage.get()).status == 503


async def test_the_command_follows_a_service(stage: Stage, dns: NameServer) -> None:
    one, two = await stage.server(), await stage.server()
    offer(dns, (10, 1, one), ttl=1)
    await stage.process(AT_SERVICE, resolver=resolver(dns))
    assert await served_by(stage, 2) == {"server1": 2}
    offer(dns, (10, 1, two), (20, 1, one), ttl=1)
    await dns.until_asked(SERVICE, "SRV")
    async with asyncio.timeout(PATIENCE):
        while await served_by(stage, 1) != {"server2": 1}:
            pass
    assert await served_by(stage, 3) == {"server2": 3}
