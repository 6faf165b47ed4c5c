"""`Proxy.reload` and `Proxy.close` that meet: each is whole, and the last word is that it is closed."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest

from support.http import request_bytes
from support.proxies import settings
from support.scripts import Held
from support.server import Server
from support.stage import Stage
from vsproxy import Config, Proxy
from vsproxy.errors import VsproxyError


def config_of(server: Server, *pools: str, health: str = "20ms") -> Config:
    config = settings(server, pool={"health": {"inter": health}})
    for name in pools:
        config["pools"][name] = config["pools"]["main"]
    return Config.model_validate(config)


async def test_reloads_at_once_come_one_after_the_other(stage: Stage) -> None:
    server = await stage.server()
    before = asyncio.all_tasks()
    async with Proxy(config_of(server)) as proxy:
        configs = [config_of(server, "extra", health=f"{20 + number}ms") for number in range(4)]
        configs += [config_of(server)]
        await asyncio.gather(*(proxy.reload(config) for config in configs))
        assert proxy.config == configs[-1]
        assert set(proxy.pools) == {"main"}
    assert {task for task in asyncio.all_tasks() - before if not task.done()} == set()


async def test_a_reload_is_refused_before_the_start_and_from_the_close_on(stage: Stage) -> None:
    server = await stage.server()
    proxy = Proxy(config_of(server))
    with pytest.raises(VsproxyError, match="not running"):
        await proxy.reload(config_of(server))
    await proxy.start()
    closing = asyncio.create_task(proxy.close())
    await asyncio.sleep(0)
    with pytest.raises(VsproxyError, match="not running"):
        await proxy.reload(config_of(server, "extra"))
    await closing
    assert set(proxy.pools) == {"main"}


async def test_a_cancelled_reload_changes_nothing(stage: Stage) -> None:
    server = await stage.server()
    proxy = await stage.proxy(server)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mute:
        # A nameserver that does not answer keeps the preparation waiting.
        mute.bind(("127.0.0.1", 0))
        slow = settings("nowhere.test:80", resolver={"nameservers": [f"127.0.0.1:{mute.getsockname()[1]}"]})
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await proxy.reload(Config.model_validate(slow))
    assert (await stage.get()).status == 200
    assert len(proxy.pools["main"].servers) == 1
    await proxy.reload(proxy.config)


@pytest.mark.parametrize("cancel", [False, True])
async def test_every_close_waits_for_the_same_end(stage: Stage, cancel: bool) -> None:
    held = Held()
    config = settings(await stage.server(held)) | {"proxy": {"shutdown_timeout": "10s"}}
    proxy = Proxy(Config.model_validate(config))
    await proxy.start()
    stage.address = proxy.addresses[0]
    client = await stage.connect()
    await client.send(request_bytes())
    async with asyncio.timeout(5):
        while not held.waiting:
            await asyncio.sleep(0.005)
    first = asyncio.create_task(proxy.close())
    await asyncio.sleep(0)
    second = asyncio.create_task(proxy.close())
    await asyncio.sleep(0.05)
    if cancel:
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
    assert not second.done()
    held.release()
    assert (await client.response()).status == 200
    await second


async def test_what_follows_a_refused_head_is_no_request_at_a_stop_either(stage: Stage) -> None:
    server = await stage.server()
    proxy = await stage.proxy(server, route={"max_body": 10})
    client = await stage.connect()
    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n")
    assert (await client.response()).status == 413
    closing = asyncio.create_task(proxy.close())
    while not proxy.draining:
        await asyncio.sleep(0)
    await asyncio.sleep(0.05)
    with contextlib.suppress(ConnectionError):
        await client.send(b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
    await closing
    assert server.requests == []
