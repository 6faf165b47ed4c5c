"""vsproxy inside a program, on the standard loop and on uvloop: what it shows, what a reload keeps."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import pytest
from websockets.asyncio.client import connect as connect_websocket
from websockets.asyncio.server import ServerConnection, serve

from support.answering import LOOPS, strict_runner
from support.client import connect
from support.proxies import Settings, eventually, settings
from support.server import Server, refused
from vsproxy import Config, Proxy, VsproxyError

on_both_loops = pytest.mark.parametrize("loop", LOOPS)


def run(loop: str, work: Coroutine[Any, Any, None]) -> None:
    """Run `work` on this loop; an error that the loop has to report fails the test."""
    with strict_runner(loop) as runner:
        runner.run(work)


@contextlib.asynccontextmanager
async def servers(count: int) -> AsyncIterator[list[Server]]:
    started = [Server(name=f"server{number}") for number in range(1, count + 1)]
    for server in started:
        await server.start()
    try:
        yield started
    finally:
        for server in started:
            await server.stop()


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


async def names(address: str, count: int) -> Counter[bytes]:
    async with await connect(address) as client:
        return Counter([(await client.request()).body for _ in range(count)])


def proxy_of(config: Settings) -> Proxy:
    return Proxy(Config.model_validate(config))


@on_both_loops
def test_a_proxy_in_a_running_loop_balances_and_shows_its_servers(loop: str) -> None:
    async def work() -> None:
        async with servers(2) as (first, second):
            with refused() as dead:
                async with proxy_of(settings(first, second, dead)) as proxy:
                    assert proxy.ready
                    assert proxy.admin_address is None
                    (address,) = proxy.addresses
                    assert await names(address, 20) == {b"server1": 10, b"server2": 10}
                    live = proxy.pools["main"].servers
                    assert [server.address for server in live] == [first.address, second.address, dead]
                    assert [server.requests for server in live[:2]] == [10, 10]
                    await eventually(lambda: live[2].state_name == "down")
            assert proxy.draining
            with pytest.raises(ConnectionRefusedError):
                await connect(address)

    run(loop, work())


@on_both_loops
def test_addresses_are_in_the_order_of_the_listeners(loop: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("s") / "s"

    async def work() -> None:
        async with servers(1) as (server,):
            binds = ["127.0.0.1:0", f"unix:{path}", "[::1]:0"]
            config = settings(server) | {"listeners": [{"bind": bind} for bind in binds]}
            async with proxy_of(config) as proxy:
                assert proxy.addresses[1] == f"unix:{path}"
                assert proxy.addresses[0].startswith("127.0.0.1:")
                assert proxy.addresses[2].startswith("[::1]:")
                assert await names(proxy.addresses[0], 1) == await names(f"unix:{path}", 1) == {b"server1": 1}

    run(loop, work())


@on_both_loops
def test_a_reload_swaps_routes_and_pools_under_live_connections(loop: str) -> None:
    """A keepalive connection gets the new routes; a WebSocket stays with the server it is on."""

    async def work() -> None:
        async with servers(2) as (first, second), serve(echo, "127.0.0.1", 0) as websocket:
            socket_address = f"127.0.0.1:{websocket.sockets[0].getsockname()[1]}"
            config = settings(first)
            config["pools"]["sockets"] = {"servers": [{"address": socket_address}]}
            config["routes"].append({"path": "/api/ws", "pool": "sockets"})
            changed = settings(second)
            changed["pools"]["fresh"] = {"servers": [{"address": first.address}]}
            changed["routes"].append({"path": "/fresh", "pool": "fresh"})
            async with proxy_of(config) as proxy:
                url = f"ws://{proxy.addresses[0]}/api/ws"
                async with (
                    await connect(proxy.addresses[0]) as client,
                    connect_websocket(url, proxy=None) as tunnel,
                ):
                    assert (await client.request()).body == b"server1"
                    await proxy.reload(Config.model_validate(changed))
                    assert set(proxy.pools) == {"main", "fresh"}
                    assert [s.address for s in proxy.pools["main"].servers] == [second.address]
                    assert (await client.request()).body == b"server2"
                    assert (await client.request(target="/fresh/x")).body == b"server1"
                    for number in range(20):
                        await tunnel.send(str(number))
                        assert await tunnel.recv() == str(number)

    run(loop, work())


@on_both_loops
def test_a_reload_keeps_the_counters_of_servers_that_stay(loop: str) -> None:
    async def work() -> None:
        async with servers(2) as (first, second):
            async with proxy_of(settings(first)) as proxy:
                await names(proxy.addresses[0], 7)
                kept = proxy.pools["main"].servers[0]
                await proxy.reload(Config.model_validate(settings(first, second)))
                assert proxy.pools["main"].servers[0] is kept
                assert kept.requests == 7
                assert await names(proxy.addresses[0], 4) == {b"server1": 2, b"server2": 2}

    run(loop, work())


@on_both_loops
def test_reloads_under_load_cost_no_request(loop: str) -> None:
    async def work() -> None:
        async with servers(2) as (first, second):
            configs = [Config.model_validate(settings(server)) for server in (second, first)]
            async with Proxy(Config.model_validate(settings(first))) as proxy:
                asking = [asyncio.create_task(names(proxy.addresses[0], 100)) for _ in range(8)]
                for _ in range(10):
                    for config in configs:
                        await proxy.reload(config)
                        await asyncio.sleep(0.005)
                answers = sum(await asyncio.gather(*asking), Counter())
        assert answers.total() == 800
        assert set(answers) == {b"server1", b"server2"}

    run(loop, work())


@on_both_loops
def test_a_start_that_fails_leaves_nothing_open(loop: str) -> None:
    async def work() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            async with servers(1) as (server,):
                config = settings(server)
                config["listeners"].append({"bind": f"127.0.0.1:{taken.getsockname()[1]}"})
                before = descriptors()
                with pytest.raises((OSError, VsproxyError)):
                    async with proxy_of(config):
                        raise AssertionError("it started on a port that is taken")
                await eventually(lambda: descriptors() <= before)

    run(loop, work())


@on_both_loops
def test_a_closed_proxy_leaves_nothing_open_and_no_task(loop: str) -> None:
    async def work() -> None:
        async with servers(1) as (server,):
            health = {"inter": "50ms", "timeout": "5s", "path": "/"}
            config = settings(server, pool={"health": health}, admin={"bind": "127.0.0.1:0"})

            async def one_life() -> None:
                async with proxy_of(config) as proxy:
                    assert await names(proxy.addresses[0], 3) == {b"server1": 3}
                    assert signal_handlers() == handlers, "a library leaves the program's signals alone"
                await proxy.close()  # a second time does nothing

            handlers = signal_handlers()
            await one_life()  # uvloop keeps a descriptor of its own from the first connection on
            await eventually(lambda: not server.open)
            before, tasks = descriptors(), len(asyncio.all_tasks())
            for _ in range(3):
                await one_life()
            await eventually(lambda: descriptors() <= before and len(asyncio.all_tasks()) <= tasks)

    run(loop, work())


@on_both_loops
def test_two_proxies_share_a_loop(loop: str) -> None:
    async def work() -> None:
        async with servers(1) as (server,):
            async with proxy_of(settings(server)) as inner, proxy_of(settings(inner.addresses[0])) as outer:
                assert await names(outer.addresses[0], 5) == {b"server1": 5}

    run(loop, work())


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def signal_handlers() -> list[object]:
    return [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)]
