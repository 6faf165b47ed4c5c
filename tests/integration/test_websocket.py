"""WebSocket through the proxy, with a real client and a real server."""

from __future__ import annotations

import asyncio

import pytest
import websockets
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from support.proxies import in_process, settings
from vsproxy import Config


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


async def test_messages_of_all_sizes_come_back() -> None:
    async with serve(echo, "127.0.0.1", 0, max_size=None) as server:
        port = server.sockets[0].getsockname()[1]
        async with in_process(settings(f"127.0.0.1:{port}")) as proxy:
            async with connect(f"ws://{proxy.addresses[0]}/api/ws", max_size=None, compression=None) as client:
                for size in (0, 1, 125, 126, 65535, 65536, 4 << 20):
                    await client.send(b"x" * size)
                    assert len(await client.recv()) == size
                assert proxy.pools["main"].servers[0].active == 1
            for _ in range(200):
                if proxy.pools["main"].servers[0].active == 0:
                    break
                await asyncio.sleep(0.01)
            assert proxy.pools["main"].servers[0].active == 0


async def test_a_silent_tunnel_is_closed_after_its_timeout() -> None:
    async with serve(echo, "127.0.0.1", 0, ping_interval=None) as server:
        port = server.sockets[0].getsockname()[1]
        async with in_process(settings(f"127.0.0.1:{port}", route={"tunnel_timeout": "300ms"})) as proxy:
            async with connect(f"ws://{proxy.addresses[0]}/", ping_interval=None) as client:
                with pytest.raises(websockets.ConnectionClosed):
                    await asyncio.wait_for(client.recv(), 5)


async def test_an_upgrade_that_a_route_forbids_opens_no_tunnel() -> None:
    async with serve(echo, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with in_process(settings(f"127.0.0.1:{port}", route={"websocket": False})) as proxy:
            with pytest.raises(websockets.InvalidStatus):
                async with connect(f"ws://{proxy.addresses[0]}/"):
                    raise AssertionError("a tunnel was opened")


async def test_a_dead_server_end_ends_the_clients() -> None:
    async def vanish(connection: ServerConnection) -> None:
        await connection.recv()
        connection.transport.abort()

    async with serve(vanish, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with in_process(settings(f"127.0.0.1:{port}")) as proxy:
            async with connect(f"ws://{proxy.addresses[0]}/") as client:
                await client.send("bye")
                with pytest.raises(websockets.ConnectionClosedError):
                    await asyncio.wait_for(client.recv(), 5)


async def test_a_reload_keeps_a_tunnel() -> None:
    async with serve(echo, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        config = settings(f"127.0.0.1:{port}")
        async with in_process(config) as proxy, connect(f"ws://{proxy.addresses[0]}/") as client:
            await client.send("before")
            assert await client.recv() == "before"
            changed = {**config, "routes": [{"path": "/new", "pool": "main"}]}
            await proxy.reload(Config.model_validate(changed))
            await client.send("after")
            assert await client.recv() == "after"
