"""What the admin port of a running vsproxy says."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from support.client import connect
from support.http import Response
from support.proxies import ProxyProcess

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]
#: Endings of samples that only grow.
GROWING = ("_total", "_count", "_bucket", "_sum")


async def fetch(process: ProxyProcess, target: str) -> Response:
    """One GET of the admin port."""
    async with await connect(process.admin_address) as client:
        return await client.request(target=target, host=process.admin_address)


async def pools(process: ProxyProcess) -> dict[str, Any]:
    """`/api/pools`: the pools by name."""
    response = await fetch(process, "/api/pools")
    assert response.status == 200, response
    found: dict[str, Any] = json.loads(response.body)["pools"]
    return found


async def servers(process: ProxyProcess, pool: str = "main") -> list[dict[str, Any]]:
    """The servers of one pool."""
    found: list[dict[str, Any]] = (await pools(process))[pool]["servers"]
    return found


async def states(process: ProxyProcess, pool: str = "main") -> list[str]:
    """The states of the servers of one pool."""
    return [server["state"] for server in await servers(process, pool)]


async def reach(process: ProxyProcess, key: str, wanted: list[Any], pool: str = "main") -> None:
    """Wait until `key` of the servers of a pool, in their order, is as wanted."""
    found: list[Any] = []
    try:
        async with asyncio.timeout(10):
            while (found := [server[key] for server in await servers(process, pool)]) != wanted:
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"{key}: {found}, not {wanted}") from None


async def samples(process: ProxyProcess) -> Samples:
    """`/metrics`: every sample by its name and labels."""
    response = await fetch(process, "/metrics")
    assert response.status == 200, response
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(response.body.decode())
        for sample in family.samples
    }


def shrunk(before: Samples, now: Samples) -> set[object]:
    """The names and labels of samples that have become less, or have gone."""
    return {key for key, value in before.items() if now.get(key, -1.0) < value}


def growing(found: Samples) -> Samples:
    """The counters among samples, without those of a process, which end with it."""
    return {
        key: value
        for key, value in found.items()
        if key[0].endswith(GROWING)
        and not key[0].startswith(("vsproxy_process", "process_"))
        and "process" not in dict(key[1])
    }
