"""Servers are told by the PROXY protocol who a client is, and no request of another travels on its connection."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from support.client import Client, connect
from support.haproxy import SERVER, HAProxy
from support.http import Request, request_bytes
from support.introductions import LOCAL, block, line
from support.nginx import CONFIG, Nginx
from support.proxies import eventually, in_process, settings
from support.scrape import scrape, scrape_until
from support.server import Conversation, Server
from support.stage import Stage
from vsproxy import Config

VERSIONS = pytest.mark.parametrize("version", ["v1", "v2"])
NGINX = CONFIG.replace("listen 127.0.0.1:{port};", "listen 127.0.0.1:{port} proxy_protocol;").replace(
    'return 200 "nginx";',
    'return 200 "$proxy_protocol_addr $proxy_protocol_port $proxy_protocol_server_addr $proxy_protocol_server_port";',
)


def own_ends(client: Client) -> str:
    """What a server is to be told of `client`."""
    (source, source_port), (destination, destination_port) = client.sock.getsockname(), client.sock.getpeername()
    return f"{source} {source_port} {destination} {destination_port}"


@contextlib.asynccontextmanager
async def coming_from(address: str, source: str) -> AsyncIterator[Client]:
    """A client whose own address is `source`."""
    host, _, port = address.rpartition(":")
    async with Client(socket.create_connection((host, int(port)), source_address=(source, 0))) as client:
        yield client


async def told(peer: Conversation, request: Request) -> None:
    """Answers with the header that this connection began with."""
    await peer.respond(peer.introduction.encode())


@VERSIONS
async def test_the_ends_of_the_connection_are_said(stage: Stage, version: str) -> None:
    server = await stage.server(told, introduced=True)
    await stage.proxy(server, pool={"proxy_protocol": version})
    for source in ("127.0.0.1", "127.0.0.9"):
        async with coming_from(stage.address, source) as client:
            # What proxies say in fields is about requests, not about the connection.
            response = await client.request(fields={"X-Forwarded-For": "6.6.6.6"})
            assert response.body.decode() == f"{version} {own_ends(client)}"


@VERSIONS
async def test_over_ipv6(stage: Stage, version: str) -> None:
    server = await stage.server(told, introduced=True)
    await stage.proxy(server, pool={"proxy_protocol": version}, listener={"bind": "[::1]:0"})
    port = int(stage.address.rpartition(":")[2])
    async with Client(socket.create_connection(("::1", port))) as client:
        own = client.sock.getsockname()[1]
        assert (await client.request()).body.decode() == f"{version} ::1 {own} ::1 {port}"


@VERSIONS
async def test_what_a_front_has_said_is_passed_on(stage: Stage, version: str) -> None:
    server = await stage.server(told, introduced=True)
    await stage.proxy(
        server, pool={"proxy_protocol": version}, listener={"proxy_protocol": ["127.0.0.1"]}
    )
    cases = (
        (line("203.0.113.7"), "203.0.113.7 4711 192.0.2.1 80"),
        (block("2001:db8::7", "2001:db8::1", 5, 443), "2001:db8::7 5 2001:db8::1 443"),
    )
    for first, expected in cases:
        async with await stage.connect() as client:
            response = await client.raw(first + request_bytes())
            assert response.body.decode() == f"{version} {expected}"
    async with await stage.connect() as client:
        response = await client.raw(LOCAL + request_bytes())
        assert response.body.decode() == f"{version} {own_ends(client)}"


@VERSIONS
async def test_clients_of_a_unix_socket_have_no_address(stage: Stage, tmp_path: Path, version: str) -> None:
    server = await stage.server(told, introduced=True)
    path = f"unix:{tmp_path}/lb.sock"
    await stage.proxy(server, pool={"proxy_protocol": version}, listener={"bind": path})
    for _ in range(2):
        async with await connect(path) as client:
            for _ in range(2):
                assert (await client.request()).body.decode() == {"v1": "v1 UNKNOWN", "v2": "v2 LOCAL"}[version]
    # It names nobody, so that it is as good for the next one.
    assert server.connections == 1


@VERSIONS
async def test_a_connection_carries_one_client_alone(stage: Stage, version: str) -> None:
    """Many clients at once, by turns and in no order, with pauses in which connections are idle."""
    servers = [await stage.server(told, introduced=True) for _ in range(2)]
    await stage.proxy(*servers, pool={"proxy_protocol": version, "keepalive": 8})
    clients = [await stage.connect() for _ in range(20)]
    chance = random.Random(5)

    async def talk(client: Client, number: int) -> None:
        for _ in range(12):
            await asyncio.sleep(chance.random() * 0.01)
            method = chance.choice(("GET", "POST"))
            body = b"x" * 10 if method == "POST" else None
            response = await client.request(method, f"/{number}", body=body)
            assert response.body.decode() == f"{version} {own_ends(client)}"

    async with asyncio.timeout(60):
        await asyncio.gather(*(talk(client, number) for number, client in enumerate(clients)))
    requests = [request for server in servers for request in server.requests]
    assert len(requests) == 240
    by_connection: dict[tuple[int, int], set[str]] = {}
    for server in servers:
        for request in server.requests:
            by_connection.setdefault((server.port, request.connection), set()).add(request.target)
    assert all(len(targets) == 1 for targets in by_connection.values())
    # It is kept for its client, though.
    assert len(by_connection) < len(requests)


async def test_a_connection_is_kept_for_its_client(stage: Stage) -> None:
    server = await stage.server(told, introduced=True)
    await stage.proxy(server, pool={"proxy_protocol": "v2"})
    async with await stage.connect() as first, await stage.connect() as second:
        for _ in range(3):
            for client in (first, second):
                assert (await client.request()).body.decode() == f"v2 {own_ends(client)}"
    assert server.connections == 2


async def test_what_was_kept_for_a_client_goes_with_it(stage: Stage) -> None:
    server = await stage.server(told, introduced=True)
    proxy = await stage.proxy(server, pool={"proxy_protocol": "v1"}, admin={"bind": "127.0.0.1:0"})
    name = "vsproxy_server_idle_connections"
    async with await stage.connect() as stays:
        assert (await stays.request()).status == 200
        async with await stage.connect() as goes:
            assert (await goes.request()).status == 200
            await scrape_until(proxy, lambda found: found.value(name) == 2)
        await scrape_until(proxy, lambda found: found.value(name) == 1)
        await eventually(lambda: len(server.open) == 1, what="one connection is closed")
        assert (await stays.request()).status == 200
    await eventually(lambda: not server.open, what="all are closed")
    assert server.connections == 2
    assert (await scrape(proxy)).value(name) == 0


async def test_a_full_list_is_not_held_by_those_that_have_gone(stage: Stage) -> None:
    server = await stage.server(told, introduced=True)
    await stage.proxy(server, pool={"proxy_protocol": "v2", "keepalive": 2})
    for _ in range(20):
        async with await stage.connect() as client:
            for _ in range(2):
                assert (await client.request()).body.decode() == f"v2 {own_ends(client)}"
    assert server.connections == 20


async def test_a_new_connection_after_a_lost_one_says_the_same(stage: Stage) -> None:
    async def once(peer: Conversation, request: Request) -> None:
        await told(peer, request)
        peer.close()

    server = await stage.server(once, introduced=True)
    await stage.proxy(server, pool={"proxy_protocol": "v1"})
    async with await stage.connect() as client:
        for _ in range(3):
            assert (await client.request()).body.decode() == f"v1 {own_ends(client)}"
    assert server.connections == 3


async def test_the_next_server_is_told_too(stage: Stage) -> None:
    servers = [await stage.server(told, introduced=True) for _ in range(2)]
    await stage.proxy(stage.refused(), *servers, pool={"proxy_protocol": "v2", "max_fails": 0})
    async with await stage.connect() as client:
        for _ in range(6):
            assert (await client.request()).body.decode() == f"v2 {own_ends(client)}"
    assert {server.connections for server in servers} == {1}


async def test_a_tunnel_is_begun_with_it(stage: Stage) -> None:
    async def echo(peer: Conversation, request: Request) -> None:
        await peer.send(b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        await peer.send(peer.introduction.encode() + b"\n")
        while data := await peer.recv():
            await peer.send(data)
        peer.close()

    server = await stage.server(echo, introduced=True)
    await stage.proxy(server, pool={"proxy_protocol": "v1"})
    async with await stage.connect() as client:
        await client.send(request_bytes(fields={"Connection": "upgrade", "Upgrade": "websocket"}))
        await client.read_until(b"\r\n\r\n")
        assert await client.read_until(b"\n") == f"v1 {own_ends(client)}\n".encode()
        await client.send(b"ping")
        assert await client.read_exactly(4) == b"ping"
    await eventually(lambda: not server.open, what="the tunnel is closed")


async def test_without_the_key_nothing_is_sent(stage: Stage) -> None:
    server = await stage.server()
    await stage.proxy(server)
    assert (await stage.get()).body == b"server1"
    assert (await stage.get()).body == b"server1"
    assert server.connections == 1


async def test_a_reload_changes_what_is_said(stage: Stage) -> None:
    """No connection that began in another way is used again."""
    server = await stage.server(told, introduced=True)
    proxy = await stage.proxy(server, pool={"proxy_protocol": "v1"})
    config = proxy.config.model_dump()
    async with await stage.connect() as client:
        for version in ("v1", "v2", "v1"):
            changed = {**config, "pools": {"main": {**config["pools"]["main"], "proxy_protocol": version}}}
            await proxy.reload(Config.model_validate(changed))
            for _ in range(2):
                assert (await client.request()).body.decode() == f"{version} {own_ends(client)}"
        await eventually(lambda: len(server.open) == 1, what="the older ones are closed")
    assert server.connections == 3


# Checks


def introduced(introductions: list[str], version: str, server: Server) -> bool:
    """Whether checks have introduced themselves as they should: in nobody's name."""
    if version == "v2":
        return bool(introductions) and set(introductions) == {"v2 LOCAL"}
    words = [introduction.split(" ") for introduction in introductions]
    return bool(words) and all(
        word[:2] == ["v1", "127.0.0.1"] and word[3:] == ["127.0.0.1", str(server.port)] for word in words
    )


@VERSIONS
@pytest.mark.parametrize("kind", ["http", "tcp"])
async def test_checks_introduce_themselves(stage: Stage, version: str, kind: str) -> None:
    server = await stage.server(told, introduced=True, health=True)
    health = {"type": kind, "path": "/health", "inter": "50ms"}
    proxy = await stage.proxy(
        server, pool={"proxy_protocol": version, "health": health}, admin={"bind": "127.0.0.1:0"}
    )
    name = "vsproxy_server_checks_total"
    found = await scrape_until(proxy, lambda found: found.value(name, result="passed") >= 3)
    assert found.value(name, result="failed") == 0
    await eventually(lambda: len(server.introductions) >= 3, what="headers of checks")
    assert introduced(server.introductions, version, server)
    assert (await stage.get()).body.startswith(f"{version} 127.0.0.1 ".encode())


async def test_checks_follow_a_reload(stage: Stage) -> None:
    server = await stage.server(told, introduced=True, health=True)
    health = {"path": "/health", "inter": "50ms"}
    proxy = await stage.proxy(server, pool={"proxy_protocol": "v1", "health": health})
    await eventually(lambda: server.introductions, what="a check")
    config = proxy.config.model_dump()
    changed = {**config, "pools": {"main": {**config["pools"]["main"], "proxy_protocol": "v2"}}}
    await proxy.reload(Config.model_validate(changed))
    await eventually(lambda: server.introductions[-3:] == ["v2 LOCAL"] * 3, what="checks by the other version")


async def test_checks_of_another_port_say_nothing(stage: Stage) -> None:
    """It is another service, which may know nothing of the protocol."""
    server = await stage.server(told, introduced=True)
    other = await stage.server(health=True)
    health = {"path": "/health", "inter": "50ms", "port": other.port}
    proxy = await stage.proxy(
        server, pool={"proxy_protocol": "v1", "health": health}, admin={"bind": "127.0.0.1:0"}
    )
    await scrape_until(proxy, lambda found: found.value("vsproxy_server_checks_total", result="passed") >= 3)
    assert server.connections == 0


async def test_the_way_back_introduces_itself(stage: Stage) -> None:
    """A server that traffic has ejected is tried with the same words."""
    server = await stage.server(told, introduced=True)
    pool: dict[str, Any] = {"proxy_protocol": "v2", "max_fails": 1, "fail_window": "100ms"}
    await stage.proxy(server, pool=pool)
    assert (await stage.get()).status == 200
    await server.stop()
    assert (await stage.get()).status == 502
    server.introductions.clear()
    await server.start()
    await eventually(lambda: server.introductions == ["v2 LOCAL"], 20.0, what="a try")


# Real servers


@VERSIONS
async def test_nginx_is_told(stage: Stage, tmp_path: Path, version: str) -> None:
    async with Nginx(tmp_path / "nginx", NGINX) as nginx:
        health = {"inter": "50ms"}
        async with in_process(settings(nginx.address, pool={"proxy_protocol": version, "health": health})) as proxy:
            for source in ("127.0.0.5", "127.0.0.6"):
                async with coming_from(proxy.addresses[0], source) as client:
                    for _ in range(3):
                        assert (await client.request()).body.decode() == own_ends(client)
            (server,) = proxy.pools["main"].servers
            await eventually(lambda: server.check_successes >= 3, 20.0, what="checks pass")
            assert server.check_failures == 0


@VERSIONS
async def test_haproxy_is_told(stage: Stage, tmp_path: Path, version: str) -> None:
    async with HAProxy(tmp_path, SERVER) as haproxy:
        health = {"inter": "50ms"}
        async with in_process(settings(haproxy.address, pool={"proxy_protocol": version, "health": health})) as proxy:
            for source in ("127.0.0.5", "127.0.0.6"):
                async with coming_from(proxy.addresses[0], source) as client:
                    for _ in range(3):
                        assert (await client.request()).body.decode() == own_ends(client)
            (server,) = proxy.pools["main"].servers
            await eventually(lambda: server.check_successes >= 3, 20.0, what="checks pass")
            assert server.check_failures == 0


async def test_one_vsproxy_behind_another(stage: Stage) -> None:
    """What the first says, the second believes."""
    server = await stage.server(told, introduced=True)
    inner = await stage.proxy(
        server, pool={"proxy_protocol": "v1"}, listener={"proxy_protocol": ["127.0.0.1"]}
    )
    await stage.proxy(inner.addresses[0], pool={"proxy_protocol": "v2"})
    async with coming_from(stage.address, "127.0.0.8") as client:
        assert (await client.request()).body.decode() == f"v1 {own_ends(client)}"
    assert server.requests[0].fields.get("X-Forwarded-For") == "127.0.0.8"
