"""A reload inside a program: of listeners, certificates, admin port and log; and one that cannot be."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.answering import LOOPS, strict_runner
from support.certificates import Certificates, make_certificates
from support.client import Client, connect, refuses
from support.http import read_response, request_bytes
from support.peer import Peer
from support.ports import Ports
from support.proxies import Settings, eventually, settings
from support.server import Server
from vsproxy import Config, Proxy, VsproxyError

on_both_loops = pytest.mark.parametrize("loop", LOOPS)


def run(loop: str, work: Coroutine[Any, Any, None]) -> None:
    """Run `work` on this loop; an error that the loop has to report fails the test."""
    with strict_runner(loop) as runner:
        runner.run(work)


@contextlib.asynccontextmanager
async def serving(**sections: Any) -> AsyncIterator[tuple[Proxy, Settings]]:
    """A proxy in front of one server, and its configuration."""
    server = Server()
    await server.start()
    config = settings(server, **sections)
    try:
        async with Proxy(Config.model_validate(config)) as proxy:
            yield proxy, config
    finally:
        await server.stop()


async def reload(proxy: Proxy, config: Settings) -> None:
    await proxy.reload(Config.model_validate(config))


@pytest.fixture
def ports() -> Iterator[Ports]:
    with Ports() as ports:
        yield ports


async def is_last_answer(client: Client) -> bool:
    """Whether the next answer on this connection says that it is the last, and then is."""
    response = await client.request()
    assert response.status == 200
    return response.fields.has_token("Connection", "close") and await client.wait_closed() == "fin"


@on_both_loops
def test_a_listener_is_added(loop: str, ports: Ports) -> None:
    async def work() -> None:
        async with serving() as (proxy, config):
            async with await connect(proxy.addresses[0]) as client:
                assert (await client.request()).status == 200
                old = proxy.addresses[0]
                port = ports.take()
                await reload(
                    proxy, config | {"listeners": [{"bind": f"127.0.0.1:{port}"}, *config["listeners"]]}
                )
                assert proxy.addresses == [f"127.0.0.1:{port}", old]
                for address in proxy.addresses:
                    async with await connect(address) as another:
                        assert (await another.request()).status == 200
                response = await client.request()
                assert not response.fields.has_token("Connection", "close")

    run(loop, work())


@on_both_loops
def test_a_listener_that_goes_serves_those_in_its_queue_and_tells_those_it_has(loop: str, ports: Ports) -> None:
    async def work() -> None:
        port = ports.take()
        async with serving(listeners=[{"bind": f"127.0.0.1:{port}"}, {"bind": "127.0.0.1:0"}]) as (
            proxy,
            config,
        ):
            async with await connect(f"127.0.0.1:{port}") as idle:
                assert (await idle.request()).status == 200
                # Blocking, so that the loop has no turn in which to accept.
                queued = [socket.create_connection(("127.0.0.1", port)) for _ in range(20)]
                for sock in queued:
                    sock.sendall(request_bytes())
                await reload(proxy, config | {"listeners": config["listeners"][1:]})
                assert await refuses(f"127.0.0.1:{port}")
                for sock in queued:
                    async with Peer(sock) as peer:
                        response = await read_response(peer)
                        assert (response.status, response.fields.has_token("Connection", "close")) == (
                            200,
                            True,
                        )
                assert await is_last_answer(idle)
            async with await connect(proxy.addresses[0]) as client:
                assert (await client.request()).status == 200

    run(loop, work())


@on_both_loops
def test_a_listener_with_new_settings_serves_its_clients_until_their_next_answer(loop: str) -> None:
    async def work() -> None:
        async with serving() as (proxy, config):
            async with await connect(proxy.addresses[0]) as idle:
                assert (await idle.request()).status == 200
                address = proxy.addresses[0]
                await reload(proxy, config | {"listeners": [{"bind": "127.0.0.1:0", "max_target": 64}]})
                assert proxy.addresses == [address]
                assert await is_last_answer(idle)
            async with await connect(address) as client:
                assert (await client.request(target="/" + 100 * "x")).status == 414

    run(loop, work())


@on_both_loops
def test_a_new_certificate_is_for_new_clients(loop: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = tmp_path_factory.mktemp("certs")
    old, new = (make_certificates(directory / name) for name in ("old", "new"))

    def secured(certificates: Certificates) -> list[Settings]:
        return [
            {"bind": "127.0.0.1:0", "tls": {"cert": str(certificates.cert), "key": str(certificates.key)}}
        ]

    async def dial(address: str, trusted: Certificates) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, port = address.split(":")
        return await asyncio.open_connection(
            host, int(port), ssl=trusted.client_context(), server_hostname="localhost"
        )

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(request_bytes())
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(len("server"))
        return head

    async def work() -> None:
        async with serving(listeners=secured(old)) as (proxy, config):
            address = proxy.addresses[0]
            reader, writer = await dial(address, old)
            assert b" 200 " in await answer(reader, writer)
            await reload(proxy, config | {"listeners": secured(new)})
            with pytest.raises(ssl.SSLError):
                await dial(address, old)
            another = await dial(address, new)
            assert b" 200 " in await answer(*another)
            assert b" 200 " in await answer(reader, writer)
            for stream in (writer, another[1]):
                stream.close()

    run(loop, work())


@on_both_loops
def test_the_admin_port_is_opened_moved_and_closed(loop: str, ports: Ports) -> None:
    async def healthy(address: str) -> bool:
        async with await connect(address) as client:
            return (await client.request(target="/healthz", host=address)).status == 200

    async def work() -> None:
        async with serving() as (proxy, config):
            assert proxy.admin_address is None
            first, moved = (f"127.0.0.1:{ports.take()}" for _ in range(2))
            await reload(proxy, config | {"admin": {"bind": first}})
            assert await healthy(first)
            await reload(proxy, config | {"admin": {"bind": moved}})
            assert proxy.admin_address == moved
            assert await healthy(moved)
            assert await refuses(first)
            await reload(proxy, config)
            assert proxy.admin_address is None
            assert await refuses(moved)

    run(loop, work())


@on_both_loops
def test_the_access_log_is_opened_moved_and_closed(
    loop: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    first, second = (tmp_path_factory.mktemp("logs") / name for name in ("first.log", "second.log"))

    async def work() -> None:
        async with serving() as (proxy, config):
            async with await connect(proxy.addresses[0]) as client:
                logs = [
                    ("/none", {"access": "off"}),
                    ("/first", {"access": "json", "access_path": str(first)}),
                    ("/second", {"access": "combined", "access_path": str(second)}),
                    ("/off", {"access": "off"}),
                ]
                for target, section in logs:
                    await reload(proxy, config | {"log": section})
                    assert (await client.request(target=target)).status == 200
            await reload(proxy, config | {"log": {"access": "off"}})
            await eventually(lambda: second.read_text())
        assert [json.loads(line)["path"] for line in first.read_text().splitlines()] == ["/first"]
        assert [line.split()[6] for line in second.read_text().splitlines()] == ["/second"]

    run(loop, work())


# Each makes a configuration impossible: given its listeners, an address that is taken, and a directory.


def taken_address(listeners: list[Settings], taken: str, directory: Path) -> Settings:
    return {"listeners": [*listeners, {"bind": taken}]}


def taken_admin_address(listeners: list[Settings], taken: str, directory: Path) -> Settings:
    return {"admin": {"bind": taken}}


def no_certificate(listeners: list[Settings], taken: str, directory: Path) -> Settings:
    return {"listeners": [*listeners, {"bind": "127.0.0.1:0", "tls": {"cert": str(directory / "gone.pem")}}]}


def no_directory(listeners: list[Settings], taken: str, directory: Path) -> Settings:
    return {"log": {"access": "json", "access_path": str(directory / "gone" / "access.log")}}


def path_of_a_file(listeners: list[Settings], taken: str, directory: Path) -> Settings:
    (directory / "file").write_text("not a socket")
    return {"listeners": [*listeners, {"bind": f"unix:{directory}/file"}]}


@pytest.mark.parametrize(
    "spoil", [taken_address, taken_admin_address, no_certificate, no_directory, path_of_a_file]
)
@on_both_loops
def test_a_reload_that_cannot_be_changes_nothing_and_leaves_nothing_open(
    loop: str,
    spoil: Callable[[list[Settings], str, Path], Settings],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    directory = tmp_path_factory.mktemp("impossible")

    async def work() -> None:
        async with serving() as (proxy, config):
            async with await connect(proxy.addresses[0]) as client:
                with socket.create_server(("127.0.0.1", 0)) as taker:
                    await attempt(proxy, config, client, taker)

    async def attempt(proxy: Proxy, config: Settings, client: Client, taker: socket.socket) -> None:
        assert (await client.request()).status == 200
        listeners = [*config["listeners"], {"bind": f"unix:{directory}/fresh"}]
        changed = config | {
            "listeners": listeners,
            "admin": {"bind": "127.0.0.1:0"},
            "log": {"access": "json", "access_path": str(directory / "log")},
            "pools": {"main": {"servers": [{"address": "127.0.0.1:1"}]}, "fresh": config["pools"]["main"]},
        }
        wanted = Config.model_validate(changed | spoil(listeners, address_of(taker), directory))
        before = proxy.config, proxy.pools["main"].servers[:], proxy.addresses, set(proxy.pools)
        tasks, open_files = len(asyncio.all_tasks()), descriptors()
        for _ in range(3):
            with pytest.raises((OSError, VsproxyError)):
                await proxy.reload(wanted)
        assert (proxy.config, proxy.pools["main"].servers, proxy.addresses, set(proxy.pools)) == before
        await eventually(lambda: (descriptors(), len(asyncio.all_tasks())) == (open_files, tasks))
        assert not (directory / "fresh").exists()
        response = await client.request()
        assert (response.body, response.fields.get("Connection")) == (b"server", None)

    run(loop, work())


def address_of(sock: socket.socket) -> str:
    return "{}:{}".format(*sock.getsockname())


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))
