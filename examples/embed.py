"""vsproxy inside a program of yours: two servers and the proxy in front of them, in one event loop.

Run it with a Python that has vsproxy installed. It asks a few times, stops one server, asks again, and
prints who answered and what the proxy knows.
"""

from __future__ import annotations

import asyncio
from collections import Counter

import aiohttp
from aiohttp import web

from vsproxy import Config, Proxy


async def start_server(name: str) -> tuple[web.AppRunner, str]:
    """A server on a free port of loopback that answers with its name."""

    async def answer(request: web.Request) -> web.Response:
        return web.Response(text=name)

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    return runner, f"{host}:{port}"


async def ask(url: str, times: int) -> Counter[str]:
    """Who answered how often."""
    answers: Counter[str] = Counter()
    async with aiohttp.ClientSession(raise_for_status=True) as session:
        for _ in range(times):
            async with session.get(url) as response:
                answers[await response.text()] += 1
    return answers


async def main() -> None:
    first, first_address = await start_server("first")
    second, second_address = await start_server("second")
    # The same shape as an lb.toml; Config.load("lb.toml") reads one.
    config = Config.model_validate(
        {
            "log": {"access": "off"},
            "listeners": [{"bind": "127.0.0.1:0"}],
            "routes": [{"path": "/", "pool": "example"}],
            "pools": {"example": {"servers": [{"address": first_address}, {"address": second_address}]}},
        }
    )
    async with Proxy(config) as proxy:
        url = f"http://{proxy.addresses[0]}/"
        print("both servers:", dict(sorted((await ask(url, 10)).items())))
        await first.cleanup()
        print("first stopped:", dict(await ask(url, 10)))
        for server in proxy.pools["example"].servers:
            print(f"{server.address}: {server.state_name}, {server.requests} requests, failures {server.failures}")
    await second.cleanup()


if __name__ == "__main__":
    asyncio.run(main())
