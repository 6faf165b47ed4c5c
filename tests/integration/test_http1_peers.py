"""Real clients and servers on both sides: curl, aiohttp, http.client, nginx."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from support.load import Load
from support.nginx import CONFIG, Nginx
from support.proxies import settings
from support.server import Server
from support.stage import Stage
from vsproxy import Config, Proxy

BIG = bytes(range(256)) * 40_000
# nginx as a file server that takes uploads of up to 1 MB (its default) and closes every so often.
FILES = CONFIG.replace(
    "location / {{",
    """root {directory};
        location /echo {{
            return 200 "$request_method $host $http_x_forwarded_for $http_x_forwarded_proto";
        }}
        location /upload {{ dav_methods PUT; create_full_put_path on; }}
        location /missing {{ return 404; }}
        location / {{""",
)


async def curl(*arguments: str) -> bytes:
    """Run curl; its standard output. It fails the test when curl says that the transfer was not right."""
    process = await asyncio.create_subprocess_exec("curl", "-sS", "--max-time", "20", *arguments, stdout=-1, stderr=-1)
    out, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return out


@pytest.fixture
async def app_address() -> AsyncIterator[str]:
    """An aiohttp application, as VaultStadio's servers are one."""

    async def echo(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"X-Method": request.method})
        await response.prepare(request)
        async for data in request.content.iter_any():
            await response.write(data)
        await response.write_eof()
        return response

    async def whole(request: web.Request) -> web.Response:
        return web.Response(body=hashlib.sha256(await request.read()).hexdigest().encode())

    async def refuse(request: web.Request) -> web.Response:
        raise web.HTTPRequestEntityTooLarge(max_size=1, actual_size=2)

    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/echo", echo)
    app.router.add_route("*", "/sum", whole)
    app.router.add_route("*", "/refuse", refuse)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    yield f"{host}:{port}"
    await runner.cleanup()


async def test_curl_get_and_head(stage: Stage, app_address: str) -> None:
    await stage.proxy(app_address)
    assert b"X-Method: GET\r\n" in await curl("-i", f"http://{stage.address}/echo")
    assert (await curl("-I", f"http://{stage.address}/sum")).startswith(b"HTTP/1.1 200")


async def test_curl_uploads_with_and_without_a_length(stage: Stage, app_address: str) -> None:
    """curl sends `Expect: 100-continue` for a body of this size."""
    file = stage.directory / "big"
    file.write_bytes(BIG)
    await stage.proxy(app_address)
    wanted = hashlib.sha256(BIG).hexdigest().encode()
    url = f"http://{stage.address}/sum"
    assert await curl("--data-binary", f"@{file}", "-H", "Expect: 100-continue", url) == wanted
    assert await curl("-T", str(file), "-H", "Transfer-Encoding: chunked", url) == wanted
    assert await curl("--http1.0", "--data-binary", f"@{file}", url) == wanted


async def test_curl_hears_an_early_refusal(stage: Stage, app_address: str) -> None:
    file = stage.directory / "big"
    file.write_bytes(BIG)
    await stage.proxy(app_address)
    answer = await curl("-o", "/dev/null", "-w", "%{http_code}", "-T", str(file), f"http://{stage.address}/refuse")
    assert answer == b"413"


async def test_curl_echoes_a_stream(stage: Stage, app_address: str) -> None:
    """Both directions at once: the answer begins before the upload has ended."""
    file = stage.directory / "big"
    file.write_bytes(BIG)
    await stage.proxy(app_address)
    assert await curl("-T", str(file), "-H", "Expect:", f"http://{stage.address}/echo") == BIG


async def test_curl_reuses_its_connection(stage: Stage, app_address: str) -> None:
    await stage.proxy(app_address)
    url = f"http://{stage.address}/sum"
    out = await curl("-w", "\n%{num_connects}\n", *[url] * 5)
    assert [int(line) for line in out.splitlines()[1::2]] == [1, 0, 0, 0, 0]


async def test_http_client_of_the_standard_library(stage: Stage, app_address: str) -> None:
    await stage.proxy(app_address)

    def ask() -> list[bytes]:
        connection = http.client.HTTPConnection(stage.address, timeout=10)
        bodies = []
        for number in range(5):
            connection.request("POST", "/echo", body=b"%d" % number)
            bodies.append(connection.getresponse().read())
        connection.close()
        return bodies

    assert await asyncio.to_thread(ask) == [b"%d" % number for number in range(5)]


async def test_aiohttp_as_client(stage: Stage, app_address: str) -> None:
    await stage.proxy(app_address)

    async def one(session: aiohttp.ClientSession, number: int) -> bytes:
        body = b"%d" % number * 1000
        async with session.post(f"http://{stage.address}/echo", data=body) as response:
            assert await response.read() == body
        return body

    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(one(session, number) for number in range(100)))


async def test_nginx_as_a_server(stage: Stage, tmp_path: Path) -> None:
    async with Nginx(tmp_path / "nginx", FILES) as server:
        (server.directory / "file").write_bytes(BIG)
        await stage.proxy(server.address)
        response = await stage.get("/file")
        assert (response.body == BIG, response.framing) == (True, "length")
        etag = response.fields.get("ETag") or ""
        assert (await stage.get("/file", fields={"If-None-Match": etag})).status == 304
        part = await stage.get("/file", fields={"Range": "bytes=10-19"})
        assert (part.status, part.body) == (206, BIG[10:20])
        head = await stage.ask("HEAD", "/file")
        assert head.fields.get("Content-Length") == str(len(BIG))
        assert (await stage.get("/missing")).status == 404
        echo = (await stage.get("/echo", host="storage.example.com")).body
        assert echo == b"GET storage.example.com 127.0.0.1 http"


async def test_nginx_answers_413_before_it_reads(stage: Stage, tmp_path: Path) -> None:
    async with Nginx(tmp_path / "nginx", FILES) as server:
        await stage.proxy(server.address)
        file = tmp_path / "big"
        file.write_bytes(BIG)
        url = f"http://{stage.address}/upload/x"
        for _ in range(5):
            answer = await curl("-o", "/dev/null", "-w", "%{http_code}", "-T", str(file), "-H", "Expect:", url)
            assert answer == b"413"


async def test_nginx_stores_an_upload(stage: Stage, tmp_path: Path) -> None:
    async with Nginx(tmp_path / "nginx", FILES) as server:
        await stage.proxy(server.address)
        assert (await stage.ask("PUT", "/upload/x", body=b"stored")).status == 201
        assert (server.directory / "upload" / "x").read_bytes() == b"stored"


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_nginx_that_closes_after_every_third_request(stage: Stage, tmp_path: Path, method: str) -> None:
    """nginx announces it, and the proxy heeds it, at full speed."""
    config = FILES.replace("keepalive_requests 1000000", "keepalive_requests 3")
    async with Nginx(tmp_path / "nginx", config) as server:
        await stage.proxy(server.address)
        tally = await Load(stage.address, clients=8, requests=30, method=method).run()
        assert not tally.errors
        assert tally.statuses == {200: 240}


async def test_nginx_and_others_in_one_pool(stage: Stage, tmp_path: Path, app_address: str) -> None:
    async with Nginx(tmp_path / "nginx", FILES) as server:
        await stage.proxy(server.address, app_address)
        statuses = sorted([(await stage.get("/echo")).status for _ in range(6)])
        assert statuses == [200] * 6


def test_the_standard_loop_serves_as_well(tmp_path: Path) -> None:
    """A library user may run on asyncio's own loop."""

    async def main() -> bytes:
        server = Server()
        await server.start()
        async with Proxy(Config.model_validate(settings(server))) as proxy:
            out = await curl("--data-binary", "x" * 100_000, f"http://{proxy.addresses[0]}/")
        await server.stop()
        assert [len(request.body) for request in server.requests] == [100_000]
        return out

    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        assert runner.run(main()) == b"server"
