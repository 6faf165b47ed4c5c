"""Clients that come through fronts which speak the PROXY protocol: their address counts everywhere, and only theirs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from support.certificates import make_certificates
from support.client import Client, connect
from support.haproxy import FRONT, HAProxy
from support.http import Request, request_bytes
from support.introductions import LOCAL, UNKNOWN, block, line
from support.proxies import eventually
from support.scrape import scrape_until
from support.server import Conversation
from support.stage import Stage
from vsproxy import Config

Make = Callable[..., bytes]
FRONTS = {"proxy_protocol": ["127.0.0.1"]}
PARTS = pytest.mark.parametrize("make", [line, block], ids=["v1", "v2"])


async def seen(peer: Conversation, request: Request) -> None:
    """Answers with what it was told of the client."""
    names = ("X-Forwarded-For", "X-Real-IP", "Forwarded")
    await peer.respond(json.dumps([request.fields.get(name) for name in names]).encode())


@contextlib.asynccontextmanager
async def coming_from(address: str, source: str) -> AsyncIterator[Client]:
    """A client whose own address is `source`."""
    host, _, port = address.rpartition(":")
    sock = socket.create_connection((host, int(port)), source_address=(source, 0))
    async with Client(sock) as client:
        yield client


async def ask(address: str, first: bytes, source: str = "127.0.0.1", **options: object) -> list[str | None]:
    """What the server was told of a client that began with `first`."""
    async with coming_from(address, source) as client:
        response = await client.raw(first + request_bytes(**options))  # type: ignore[arg-type]
        assert response.status == 200
        told: list[str | None] = json.loads(response.body)
        return told


def clients_in(log: Path) -> list[str]:
    return [json.loads(text)["client"] for text in log.read_text().splitlines()]


@PARTS
async def test_the_client_is_who_the_front_says(stage: Stage, tmp_path: Path, make: Make) -> None:
    log = tmp_path / "access.log"
    await stage.proxy(
        await stage.server(seen),
        listener={**FRONTS, "forwarded": True},
        log={"access": "json", "access_path": str(log)},
    )
    spoof = {"X-Forwarded-For": "6.6.6.6", "X-Real-IP": "6.6.6.6", "Forwarded": "for=6.6.6.6"}
    told = await ask(stage.address, make("203.0.113.7"), fields=spoof)
    assert told == ["203.0.113.7", "203.0.113.7", 'for=203.0.113.7;proto=http;host="test.example"']
    told = await ask(stage.address, make("2001:db8::7", "2001:db8::1"), fields=spoof)
    assert told == ["2001:db8::7", "2001:db8::7", 'for="[2001:db8::7]";proto=http;host="test.example"']
    told = await ask(stage.address, make("::ffff:203.0.113.8", "::ffff:192.0.2.1"))
    assert told[:2] == ["203.0.113.8", "203.0.113.8"]
    await eventually(lambda: clients_in(log) == ["203.0.113.7", "2001:db8::7", "203.0.113.8"], what="the log")


@pytest.mark.parametrize("header", [LOCAL, UNKNOWN, b"PROXY UNKNOWN 6.6.6.6 6.6.6.6 6 6\r\n"])
async def test_where_a_front_names_nobody_it_is_the_client(stage: Stage, header: bytes) -> None:
    await stage.proxy(await stage.server(seen), listener=FRONTS)
    assert (await ask(stage.address, header))[:2] == ["127.0.0.1", "127.0.0.1"]


@PARTS
async def test_who_is_no_front_cannot_pretend(stage: Stage, tmp_path: Path, make: Make) -> None:
    log = tmp_path / "access.log"
    server = await stage.server(seen)
    await stage.proxy(server, listener=FRONTS, log={"access": "json", "access_path": str(log)})
    assert (await ask(stage.address, b"", "127.0.0.2"))[:2] == ["127.0.0.2", "127.0.0.2"]
    async with coming_from(stage.address, "127.0.0.2") as client:
        response = await client.raw(make("203.0.113.7") + request_bytes())
        assert response.status == 400
        assert await client.recv() == b""
    assert len(server.requests) == 1
    await eventually(lambda: len(clients_in(log)) == 2, what="the log")
    assert set(clients_in(log)) == {"127.0.0.2"}


async def test_a_header_counts_once_and_only_first(stage: Stage) -> None:
    """What follows it are requests: another header is a bad one."""
    server = await stage.server(seen)
    await stage.proxy(server, listener=FRONTS)
    async with await stage.connect() as client:
        response = await client.raw(line("203.0.113.7") + line("203.0.113.8") + request_bytes())
        assert response.status == 400
    async with await stage.connect() as client:
        assert (await client.raw(line("203.0.113.7") + request_bytes())).status == 200
        assert (await client.raw(line("203.0.113.8") + request_bytes())).status == 400
    assert len(server.requests) == 1


async def test_bad_fronts_are_closed_and_counted(stage: Stage) -> None:
    server = await stage.server(seen)
    proxy = await stage.proxy(server, listener=FRONTS, admin={"bind": "127.0.0.1:0"})
    for data in (request_bytes(), b"PROXY TCP4 nobody\r\n", b"\x16\x03\x01\x00\x05hello"):
        async with await stage.connect() as client:
            await client.send(data)
            assert await client.recv() == b""
    name = "vsproxy_listener_proxy_protocol_failures_total"
    await scrape_until(proxy, lambda found: found.value(name) == 3)
    assert server.requests == []


async def test_trusted_proxies_are_looked_up_by_what_the_front_says(stage: Stage) -> None:
    await stage.proxy(await stage.server(seen), listener={**FRONTS, "trusted_proxies": ["203.0.113.0/24"]})
    said = {"X-Forwarded-For": "198.51.100.9"}
    told = await ask(stage.address, line("203.0.113.7"), fields=said)
    assert told[:2] == ["198.51.100.9, 203.0.113.7", "198.51.100.9"]
    # The front is not one of them, nor is who comes through it from elsewhere.
    assert (await ask(stage.address, line("192.0.2.9"), fields=said))[:2] == ["192.0.2.9"] * 2
    assert (await ask(stage.address, LOCAL, fields=said))[:2] == ["127.0.0.1"] * 2


async def test_clients_behind_one_front_are_hashed_one_by_one(stage: Stage) -> None:
    servers = [await stage.server() for _ in range(8)]
    await stage.proxy(*servers, listener=FRONTS, pool={"balance": "hash", "hash_key": "client"})
    chosen: dict[int, set[bytes]] = {}
    for number in (*range(1, 33), *range(1, 33)):
        async with await stage.connect() as client:
            response = await client.raw(line(f"203.0.113.{number}", source_port=number) + request_bytes())
            chosen.setdefault(number, set()).add(response.body)
    assert all(len(bodies) == 1 for bodies in chosen.values())
    assert len(set.union(*chosen.values())) > 2


async def test_through_a_unix_socket(stage: Stage, tmp_path: Path) -> None:
    path = tmp_path / "front.sock"
    await stage.proxy(await stage.server(seen), listener={"bind": f"unix:{path}", "proxy_protocol": ["192.0.2.1"]})
    for first, expected in ((line("203.0.113.7"), "203.0.113.7"), (block("2001:db8::7", "::1"), "2001:db8::7")):
        async with await connect(f"unix:{path}") as client:
            response = await client.raw(first + request_bytes())
            assert json.loads(response.body)[0] == expected
    async with await connect(f"unix:{path}") as client:
        assert json.loads((await client.raw(LOCAL + request_bytes())).body)[0] == "unix"


async def test_a_body_behind_the_header_is_whole(stage: Stage) -> None:
    server = await stage.server(seen)
    await stage.proxy(server, listener=FRONTS)
    body = bytes(range(256)) * 16384
    async with await stage.connect() as client:
        await client.drip(line("203.0.113.7"), 0.0)
        response = await client.raw(request_bytes("POST", body=body), "POST")
        assert json.loads(response.body)[0] == "203.0.113.7"
    assert server.requests[0].body == body


# Real fronts and clients


async def curl(*arguments: str) -> bytes:
    """Run curl; its standard output. It fails the test when curl says that the transfer was not right."""
    process = await asyncio.create_subprocess_exec("curl", "-sS", "--max-time", "20", *arguments, stdout=-1, stderr=-1)
    out, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return out


async def test_curl_introduces_itself(stage: Stage, tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path / "certs")
    listener = {**FRONTS, "tls": certificates.tls}
    await stage.proxy(await stage.server(seen), listener=FRONTS)
    assert json.loads(await curl("--haproxy-protocol", f"http://{stage.address}/"))[0] == "127.0.0.1"
    await stage.proxy(await stage.server(seen), listener=listener)
    port = stage.address.rpartition(":")[2]
    url = f"https://localhost:{port}/"
    with_ca = ("--cacert", str(certificates.ca), "--resolve", f"localhost:{port}:127.0.0.1")
    assert json.loads(await curl("--haproxy-protocol", *with_ca, url))[0] == "127.0.0.1"
    with pytest.raises(AssertionError, match="SSL"):
        await curl(*with_ca, url)
    assert json.loads(await curl(*with_ca, "--interface", "127.0.0.2", url))[0] == "127.0.0.2"


@pytest.mark.parametrize("options", ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id"])
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
async def test_haproxy_in_front(stage: Stage, tmp_path: Path, options: str, secure: bool) -> None:
    certificates = make_certificates(tmp_path / "certs")
    listener = {**FRONTS, "tls": certificates.tls} if secure else FRONTS
    await stage.proxy(await stage.server(seen), listener=listener)
    async with HAProxy(tmp_path, FRONT, target=stage.address, options=options) as front:
        url = f"{'https' if secure else 'http'}://localhost:{front.port}/"
        arguments = ("--cacert", str(certificates.ca), "--resolve", f"localhost:{front.port}:127.0.0.1")
        for source in ("127.0.0.3", "127.0.0.4"):
            assert json.loads(await curl(*arguments, "--interface", source, url))[:2] == [source, source]


async def test_many_at_once_through_processes(stage: Stage, tmp_path: Path) -> None:
    """As it is run: several workers, each client with an address of its own, TLS and a header in single bytes."""
    certificates = make_certificates(tmp_path / "certs")
    tls = {"cert": str(certificates.cert), "key": str(certificates.key)}
    await stage.process(
        await stage.server(seen),
        listener={**FRONTS, "tls": tls},
        proxy={"workers": 2, "shutdown_timeout": "1s"},
    )
    context = certificates.client_context()
    context.check_hostname = False
    host, _, port = stage.address.rpartition(":")

    async def one(number: int) -> tuple[str, str]:
        address = f"203.0.113.{number}"
        reader, writer = await asyncio.open_connection(host, int(port))
        header = (line, block)[number % 2](address)
        for at in range(len(header)):
            writer.write(header[at : at + 1])
            if number % 3 == 0:
                await writer.drain()
                await asyncio.sleep(0)
        await writer.start_tls(context)
        writer.write(request_bytes(fields={"Connection": "close"}))
        answer = await reader.read()
        writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()
        return address, json.loads(answer.partition(b"\r\n\r\n")[2])[0]

    async with asyncio.timeout(60):
        for address, told in await asyncio.gather(*(one(number) for number in range(1, 61))):
            assert address == told


async def test_fronts_come_and_go_with_a_reload(stage: Stage) -> None:
    server = await stage.server(seen)
    proxy = await stage.proxy(server)
    config = proxy.config.model_dump()
    async with await stage.connect() as old:
        assert (await old.request()).status == 200
        with_fronts = {**config, "listeners": [{**config["listeners"][0], **FRONTS}]}
        await proxy.reload(Config.model_validate(with_fronts))
        # The old connection ends with its next answer; new ones have to say whose they are.
        assert json.loads((await old.request()).body)[0] == "127.0.0.1"
    assert (await ask(stage.address, line("203.0.113.7")))[0] == "203.0.113.7"
    await proxy.reload(Config.model_validate(config))
    assert (await ask(stage.address, b""))[0] == "127.0.0.1"
