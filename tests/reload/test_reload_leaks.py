"""A hundred reloads in a row leave nothing behind: no descriptor, thread, task, memory or process."""

from __future__ import annotations

import asyncio
import gc
import os
from collections import Counter
from pathlib import Path

from support.certificates import make_certificates
from support.family import connect_to, held, rss
from support.proxies import Settings, entry, eventually, settings
from support.server import Server
from support.stage import Stage
from vsproxy import Config, Proxy
from vsproxy.listener import Listener
from vsproxy.upstream.pool import Pool
from vsproxy.upstream.server import Server as LiveServer

RELOADS = 100
#: After so many, caches and pools of memory have their size.
WARM = 30
#: Descriptors and threads that one may have more at the end: a check under way, a thread pool that grows.
LEEWAY = 3
#: Bytes of memory that it may have more at the end: malloc gets it from the kernel in pieces of this order, and
#: after hundreds of reloads more it is no more than that. Routes of a hundred, were they kept, would be.
GROWTH = 2 << 20


def variants(servers: list[Server], directory: Path) -> list[Settings]:
    """Three configurations that have little in common."""
    certificates = [make_certificates(directory / name) for name in ("first", "second")]
    secured = [{"cert": str(one.cert), "key": str(one.key)} for one in certificates]
    plain = {"servers": [entry(servers[0])]}
    checked = {
        "servers": [entry(server) for server in servers],
        "health": {"path": "/health", "inter": "50ms", "timeout": "5s"},
        "balance": "least_conn",
    }
    fixed = settings(
        servers[0], proxy={"workers": 2, "shutdown_timeout": "1s"}, admin={"bind": "127.0.0.1:0"}
    )
    listener = fixed["listeners"][0]
    return [
        fixed,
        fixed
        | {
            "listeners": [
                listener,
                {"bind": "127.0.0.2:0", "tls": secured[0]},
                {"bind": f"unix:{directory}/a"},
            ],
            "pools": {"main": checked, "extra": plain},
            "log": {"access": "json", "access_path": str(directory / "access.log")},
        },
        fixed
        | {
            "listeners": [listener | {"via": True}, {"bind": "127.0.0.2:0", "tls": secured[1]}],
            "routes": [{"host": f"host{number}", "pool": "main"} for number in range(200)]
            + [{"pool": "main"}],
            "pools": {"main": plain | {"balance": "hash", "hash_key": "uri"}, "other": checked},
            "admin": {"bind": "127.0.0.2:0"},
        },
    ]


async def test_a_hundred_reloads_of_all_processes(stage: Stage, tmp_path: Path) -> None:
    servers = [await stage.server(health=True) for _ in range(4)]
    configs = variants(servers, tmp_path)
    process = await stage.run(configs[0])
    family = process.family

    async def reload(count: int) -> None:
        for number in range(count):
            # In the end it is the first again.
            await process.put_into_force(configs[(number + 1 - count) % 3])
            if number % 10 == 0:
                for worker in process.workers:
                    async with await connect_to(stage, process, worker) as client:
                        assert (await client.request()).status == 200

    await reload(WARM)
    before, memory = held(process), {pid: rss(pid) for pid in family}
    await reload(RELOADS)
    assert process.family == family
    await eventually(lambda: no_more(held(process), before), 10, what=f"{before} again")
    growth = {pid: rss(pid) - memory[pid] for pid in family}
    print(f"descriptors and threads: {before}, in the end {held(process)}")
    print("memory: " + ", ".join(f"{memory[pid] >> 10} + {growth[pid] >> 10} KiB" for pid in family))
    assert max(growth.values()) < GROWTH


def no_more(now: dict[str, tuple[int, int]], before: dict[str, tuple[int, int]]) -> bool:
    """Whether no process has noticeably more than before, of descriptors or of threads."""
    return now.keys() == before.keys() and all(
        count <= earlier + LEEWAY
        for name in now
        for count, earlier in zip(now[name], before[name], strict=True)
    )


async def test_a_hundred_reloads_inside_a_program(stage: Stage, tmp_path: Path) -> None:
    servers = [await stage.server(health=True) for _ in range(4)]
    configs = [Config.model_validate(config) for config in variants(servers, tmp_path)]
    async with Proxy(configs[0]) as proxy:

        async def reload(count: int) -> None:
            for number in range(count):
                await proxy.reload(configs[(number + 1 - count) % 3])
                if number % 10 == 0:
                    stage.address = proxy.addresses[0]
                    assert (await stage.get()).status == 200

        def present() -> tuple[object, ...]:
            gc.collect()
            kinds = Counter(
                type(thing) for thing in gc.get_objects() if type(thing) in (Pool, LiveServer, Listener)
            )
            return len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks()), kinds

        await reload(3)
        await asyncio.sleep(0.1)
        before = present()
        await reload(RELOADS - RELOADS % 3)
        await eventually(lambda: present() <= before, 10, what=f"{before} again, now {present()}")
