"""The guide's configuration, `examples/guide.toml`, with real servers: nginx from Debian, aiohttp, websockets."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import tomllib
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import WSMsgType, web
from websockets.asyncio.client import connect

from support.certificates import Certificates, make_certificates
from support.killable import Killable
from support.load import Load
from support.nginx import NGINX, Nginx
from support.proxies import eventually, in_subprocess
from support.stage import Stage
from vsproxy import Config, Proxy
from vsproxy.upstream.server import Server

GUIDE = Path(__file__).parents[2] / "examples" / "guide.toml"
INTER = "150ms"

needs_nginx = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")


@dataclass
class Backend:
    """VaultStadio as far as a balancer sees it: pages, a health page, a WebSocket that echoes."""

    name: str
    healthy: bool = True
    hold: asyncio.Event | None = None
    address: str = ""
    requests: list[web.Request] = field(default_factory=list)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Backend]:
        app = web.Application()
        app.router.add_get("/api/health", self._health)
        app.router.add_get("/api/ws", self._websocket)
        app.router.add_route("*", "/{path:.*}", self._page)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, shutdown_timeout=0.1).start()
        host, port = runner.addresses[0][:2]
        self.address = f"{host}:{port}"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _health(self, request: web.Request) -> web.Response:
        return web.Response(status=200 if self.healthy else 503)

    async def _page(self, request: web.Request) -> web.Response:
        self.requests.append(request)
        if self.hold is not None:
            await self.hold.wait()
        return web.Response(text=self.name)

    async def _websocket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                await socket.send_str(f"{self.name}: {message.data}")
        return socket


def guide_file(directory: Path) -> Path:
    """The guide's file with faster checks and without the access log; nothing else is changed."""
    text = GUIDE.read_text()
    assert text.count('inter = "5s"') == 1
    file = directory / "guide.toml"
    # A check may take longer than that: what is down in these tests refuses or says so.
    faster = text.replace('inter = "5s"', f'inter = "{INTER}"\ntimeout = "5s"')
    file.write_text(faster + '\n[log]\naccess = "off"\n')
    return file


def environment(certificates: Certificates, addresses: Iterable[str]) -> dict[str, str]:
    """What the guide's file reads from the environment."""
    variables = {f"BACKEND{number}": address for number, address in enumerate(addresses, 1)}
    files = {"CERT": str(certificates.cert), "KEY": str(certificates.key)}
    return {"HTTP": "127.0.0.1:0", "HTTPS": "127.0.0.1:0", **files, **variables}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certs"))


@contextlib.asynccontextmanager
async def guide_proxy(stage: Stage, certificates: Certificates, *addresses: str) -> AsyncIterator[Proxy]:
    config = Config.load(guide_file(stage.directory), environment(certificates, addresses))
    async with Proxy(config) as proxy:
        stage.address = proxy.addresses[0]
        await eventually(lambda: states(proxy) == ["up"] * 3, 10.0, what="all servers up")
        yield proxy


def live(proxy: Proxy) -> list[Server]:
    """The live servers in the order of the guide: two primaries, the backup."""
    return proxy.pools["vaultstadio"].servers


def states(proxy: Proxy) -> list[str]:
    return [server.state_name for server in live(proxy)]


@contextlib.asynccontextmanager
async def three_backends() -> AsyncIterator[list[Backend]]:
    async with contextlib.AsyncExitStack() as stack:
        yield [await stack.enter_async_context(Backend(f"backend{n}").running()) for n in (1, 2, 3)]


async def names(stage: Stage, count: int) -> Counter[str]:
    return Counter([(await stage.get("/files")).body.decode() for _ in range(count)])


async def test_equal_weights_share_and_the_backup_rests(stage: Stage, certificates: Certificates) -> None:
    async with three_backends() as backends, guide_proxy(stage, certificates, *(b.address for b in backends)):
        assert await names(stage, 20) == {"backend1": 10, "backend2": 10}


async def test_least_conn_avoids_the_server_that_is_busy(stage: Stage, certificates: Certificates) -> None:
    async with (
        three_backends() as backends,
        guide_proxy(stage, certificates, *(b.address for b in backends)) as proxy,
    ):
        held = backends[0].hold, backends[1].hold = asyncio.Event(), asyncio.Event()
        asked = [asyncio.create_task(stage.get()) for _ in range(6)]
        await eventually(lambda: [server.active for server in live(proxy)] == [3, 3, 0])
        held[1].set()
        await eventually(lambda: [server.active for server in live(proxy)] == [3, 0, 0])
        assert await names(stage, 4) == {"backend2": 4}
        held[0].set()
        assert {response.status for response in await asyncio.gather(*asked)} == {200}


async def test_the_server_is_told_who_asked_and_how(stage: Stage, certificates: Certificates) -> None:
    """`proxy_set_header` Host, X-Real-IP, X-Forwarded-For and X-Forwarded-Proto, on both listeners."""
    async with (
        three_backends() as backends,
        guide_proxy(stage, certificates, *(b.address for b in backends)) as proxy,
    ):
        await stage.get("/plain", host="storage.example.com", fields={"X-Forwarded-For": "6.6.6.6"})
        context = certificates.client_context()
        host, port = proxy.addresses[1].split(":")
        reader, writer = await asyncio.open_connection(host, int(port), ssl=context, server_hostname="localhost")
        writer.write(b"GET /secret HTTP/1.1\r\nHost: storage.example.com\r\nConnection: close\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        writer.close()
        seen = {request.path: request.headers for backend in backends for request in backend.requests}
    for path, scheme in (("/plain", "http"), ("/secret", "https")):
        assert seen[path]["Host"] == "storage.example.com"
        assert seen[path]["X-Real-IP"] == seen[path]["X-Forwarded-For"] == "127.0.0.1"
        assert seen[path]["X-Forwarded-Proto"] == scheme


def websocket(certificates: Certificates, address: str, scheme: str) -> connect:
    """A client of `/api/ws`, to be entered."""
    context = certificates.client_context() if scheme == "wss" else None
    return connect(f"{scheme}://localhost:{address.rpartition(':')[2]}/api/ws", ssl=context, proxy=None)


@pytest.mark.parametrize("scheme", ["ws", "wss"])
async def test_a_websocket_on_api_ws(stage: Stage, certificates: Certificates, scheme: str) -> None:
    async with (
        three_backends() as backends,
        guide_proxy(stage, certificates, *(b.address for b in backends)) as proxy,
    ):
        async with websocket(certificates, proxy.addresses[scheme == "wss"], scheme) as client:
            for number in range(50):
                await client.send(f"hello {number}")
                assert re.fullmatch(rf"backend[12]: hello {number}", str(await client.recv()))
            assert sum(server.active for server in live(proxy)) == 1
        await eventually(lambda: sum(server.active for server in live(proxy)) == 0)


async def test_a_server_that_reports_itself_ill_gets_nothing(stage: Stage, certificates: Certificates) -> None:
    async with (
        three_backends() as backends,
        guide_proxy(stage, certificates, *(b.address for b in backends)) as proxy,
    ):
        backends[0].healthy = False
        await eventually(lambda: states(proxy) == ["down", "up", "up"])
        assert await names(stage, 6) == {"backend2": 6}
        backends[0].healthy = True
        await eventually(lambda: states(proxy) == ["up"] * 3)
        assert await names(stage, 6) == {"backend1": 3, "backend2": 3}


@needs_nginx
async def test_killed_servers_cost_no_client_an_error_and_the_backup_steps_in_and_back(
    stage: Stage, certificates: Certificates, tmp_path: Path
) -> None:
    """nginx is killed under load, then the other primary, then nginx comes back."""
    async with (
        Nginx(tmp_path / "nginx") as nginx,
        Killable() as second,
        Backend("backend3").running() as backup,
        guide_proxy(stage, certificates, nginx.address, second.address, backup.address) as proxy,
    ):
        done = asyncio.Event()
        load = Load(stage.address, clients=16, requests=10**9, stop=done.is_set)
        running = asyncio.create_task(load.run())
        bodies = load.tally.bodies
        try:
            await eventually(lambda: min(bodies[b"nginx"], bodies[b"ok"]) > 100, 20)
            assert bodies[b"backend3"] == 0
            await nginx.kill()
            await eventually(lambda: states(proxy) == ["down", "up", "up"])
            assert bodies[b"backend3"] == 0
            await second.kill()
            await eventually(lambda: bodies[b"backend3"] > 100, 20)
            assert states(proxy)[1:] == ["down", "up"]
            await nginx.start()
            await eventually(lambda: states(proxy) == ["up", "down", "up"])
            await eventually(lambda: live(proxy)[2].active == 0, what="the backup finishes what it has")
            given_back = bodies[b"backend3"]
            since = bodies[b"nginx"]
            await eventually(lambda: bodies[b"nginx"] > since + 100, 20)
            # At most one answer for each client may still have been on its way.
            assert bodies[b"backend3"] <= given_back + load.clients
        finally:
            done.set()
            tally = await running
    assert tally.faultless, (tally.statuses, tally.errors[:3])


@needs_nginx
async def test_a_file_from_nginx_arrives_as_it_is(stage: Stage, certificates: Certificates, tmp_path: Path) -> None:
    async with (
        Nginx(tmp_path / "nginx") as nginx,
        Nginx(tmp_path / "nginx2") as twin,
        Backend("backend3").running() as backup,
        guide_proxy(stage, certificates, nginx.address, twin.address, backup.address),
    ):
        content = bytes(range(256)) * 16384  # 4 MiB
        for server in (nginx, twin):
            (server.directory / "file").write_bytes(content)
        whole = await stage.get("/file")
        assert (whole.status, whole.complete, whole.body) == (200, True, content)
        part = await stage.get("/file", fields={"Range": "bytes=1000-1999"})
        assert (part.status, part.body) == (206, content[1000:2000])
        head = await stage.ask("HEAD", "/file")
        assert (head.fields.get("Content-Length"), head.body) == (str(len(content)), b"")
        etag = whole.fields.get("ETag")
        assert etag
        assert (await stage.get("/file", fields={"If-None-Match": etag})).status == 304


async def test_the_command_serves_the_guide(stage: Stage, certificates: Certificates, tmp_path: Path) -> None:
    """`vsproxy --config` in a process of its own, and its stop."""
    async with three_backends() as backends:
        variables = environment(certificates, [backend.address for backend in backends])
        text = re.sub(r"\$\{(\w+):-[^}]*\}", lambda match: variables[match[1]], guide_file(tmp_path).read_text())
        config = {"proxy": {"shutdown_timeout": "30s"}, **tomllib.loads(text)}
        async with in_subprocess(config, tmp_path) as process:
            stage.address = process.address
            assert set(await names(stage, 4)) <= {"backend1", "backend2", "backend3"}
            async with websocket(certificates, process.addresses[1], "wss") as client:
                await client.send("hello")
                assert str(await client.recv()).endswith(": hello")
            process.signal(signal.SIGTERM)
            assert await process.wait(5) == 0
