"""Large bodies and tunnels through TLS to servers: they arrive whole, and who reads slowly slows down whoever sends."""

from __future__ import annotations

import asyncio
import hashlib
import random
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect as websocket
from websockets.asyncio.server import ServerConnection, serve

from support.certificates import make_certificates
from support.client import connect
from support.http import request_bytes
from support.nginx import Nginx
from support.proxies import eventually, in_process, settings
from support.stage import Stage
from support.tls_servers import Authority, ThreadedTls, read_head, server_context

MIB = 1 << 20
SIZE = 48 * MIB
BODY = random.Random(5).randbytes(MIB) * 16
MAX_GROWTH = 16 * MIB
SMALL_BUFFER = 64 * 1024

NGINX_TLS = """
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log stderr crit;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    ssl_certificate CERT;
    ssl_certificate_key KEY;
    ssl_protocols VERSION;
    client_max_body_size 0;
    server {{
        listen 127.0.0.1:{port} ssl;
        location / {{ root {directory}; try_files $uri @name; }}
        location @name {{ return 200 "nginx"; }}
    }}
}}
"""


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca")


def digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


async def curl(*arguments: str) -> tuple[int, bytes]:
    process = await asyncio.create_subprocess_exec("curl", "-sS", *arguments, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
async def test_bodies_of_nginx_arrive_whole(authority: Authority, tmp_path: Path, version: str) -> None:
    """Many at once, by plain clients and by such with TLS; never by a splice, which would pass on the records."""
    pair = authority.issue("127.0.0.1")
    text = NGINX_TLS.replace("CERT", str(pair.cert)).replace("KEY", str(pair.key)).replace("VERSION", version)
    own = make_certificates(tmp_path / "own")
    async with Nginx(tmp_path / "nginx", text) as nginx:
        (nginx.directory / "file").write_bytes(BODY)
        listeners = [{"bind": "127.0.0.1:0"}, {"bind": "127.0.0.1:0", "tls": own.tls.model_dump()}]
        config = {**settings(nginx.address, pool={"tls": {"ca": str(authority.ca)}}), "listeners": listeners}
        async with in_process(config) as proxy:
            urls = [f"http://{proxy.addresses[0]}/file", f"https://{proxy.addresses[1]}/file"]
            found = await asyncio.gather(*(curl("--cacert", str(own.ca), url) for url in urls * 3))
            assert {(status, digest(body)) for status, body in found} == {(0, digest(BODY))}
            assert 1 <= len(proxy.pools["main"].servers[0].idle) <= 6


def digesting(pause: float) -> Callable[[ssl.SSLSocket], None]:
    """Answers an upload with its SHA-256, after reading it in bursts with pauses (seconds) in between."""

    def script(tls: ssl.SSLSocket) -> None:
        while True:
            head = read_head(tls)
            left = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
            sha = hashlib.sha256()
            burst = 0
            while left:
                data = tls.recv(min(left, 65536))
                if not data:
                    raise EOFError
                sha.update(data)
                left -= len(data)
                burst += len(data)
                if burst > 2 * MIB:
                    burst = 0
                    time.sleep(pause)
            tls.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 64\r\n\r\n" + sha.hexdigest().encode())

    return script


async def test_uploads_at_once_are_not_mixed_up(stage: Stage, authority: Authority, tmp_path: Path) -> None:
    """By servers that read in bursts, so that writing stops and goes on many times; all are read into one buffer."""
    context = server_context(authority.issue("127.0.0.1"))
    own = make_certificates(tmp_path / "own")
    bodies = [random.Random(number).randbytes(6 * MIB + number) for number in range(6)]
    for number, body in enumerate(bodies):
        (tmp_path / str(number)).write_bytes(body)
    listeners = [{"bind": "127.0.0.1:0"}, {"bind": "127.0.0.1:0", "tls": own.tls.model_dump()}]
    with ThreadedTls(context, digesting(0.02), SMALL_BUFFER) as server:
        config = {**settings(server.address, pool={"tls": {"ca": str(authority.ca)}}), "listeners": listeners}
        async with in_process(config) as proxy:
            urls = [f"http://{proxy.addresses[0]}/x", f"https://{proxy.addresses[1]}/x"]
            found = await asyncio.gather(
                *(
                    curl("--cacert", str(own.ca), "-T", str(tmp_path / str(number)), urls[number % 2])
                    for number in range(len(bodies))
                )
            )
    assert found == [(0, hashlib.sha256(body).hexdigest().encode()) for body in bodies]


def sending(tls: ssl.SSLSocket) -> None:
    """Answers with SIZE bytes."""
    read_head(tls)
    tls.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)
    for _ in range(SIZE // len(BODY)):
        tls.sendall(BODY)


async def test_a_client_that_reads_slowly_slows_the_server_down(stage: Stage, authority: Authority) -> None:
    """What it has not read does not pile up in the proxy, and nothing of it gets lost."""
    context = server_context(authority.issue("127.0.0.1"))
    with ThreadedTls(context, sending) as server:
        process = await stage.process(server.address, pool={"tls": {"ca": str(authority.ca)}})
        async with await connect(process.address) as warm:
            assert len((await warm.request()).body) == SIZE
        before = process.rss()
        clients = [await stage.connect(receive_buffer=SMALL_BUFFER) for _ in range(4)]
        for client in clients:
            await client.send(request_bytes())
            assert await client.read_until(b"\r\n\r\n")
        # The servers have sent what they can.
        await settled(process.rss)
        assert process.rss() - before < MAX_GROWTH
        wanted = digest(BODY * (SIZE // len(BODY)))
        for client in clients:
            client.patience = 60.0
        bodies = await asyncio.gather(*(client.read_exactly(SIZE) for client in clients))
        assert {digest(body) for body in bodies} == {wanted}


async def test_a_server_that_reads_slowly_slows_the_client_down(stage: Stage, authority: Authority) -> None:
    context = server_context(authority.issue("127.0.0.1"))
    go = asyncio.Event()
    loop = asyncio.get_running_loop()

    def script(tls: ssl.SSLSocket) -> None:
        waiting = asyncio.run_coroutine_threadsafe(go.wait(), loop)
        tls.setblocking(True)
        waiting.result(60.0)
        digesting(0.0)(tls)

    with ThreadedTls(context, script, SMALL_BUFFER) as server:
        process = await stage.process(server.address, pool={"tls": {"ca": str(authority.ca)}})
        assert (await stage.connect()).sock is not None
        before = process.rss()
        client = await stage.connect()
        sent = 0

        async def upload() -> None:
            nonlocal sent
            client.patience = 60.0
            await client.send(request_bytes("POST", fields={"Content-Length": str(SIZE)}))
            for _ in range(SIZE // MIB):
                await client.send(BODY[:MIB])
                sent += MIB

        uploading = asyncio.create_task(upload())
        stopped = await settled(lambda: sent)
        assert stopped < SIZE
        assert process.rss() - before < MAX_GROWTH
        go.set()
        await uploading
        response = await client.response()
        assert response.body == hashlib.sha256(BODY[:MIB] * (SIZE // MIB)).hexdigest().encode()


async def settled(value: Callable[[], int]) -> int:
    """What `value` comes to once it has stood still for half a second."""
    last, since = value(), time.monotonic()
    deadline = since + 30.0
    while time.monotonic() - since < 0.5:
        assert time.monotonic() < deadline, "it never stands still"
        await asyncio.sleep(0.02)
        if value() != last:
            last, since = value(), time.monotonic()
    return last


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


@pytest.mark.parametrize("secure", [False, True])
async def test_websocket_messages_come_back(authority: Authority, tmp_path: Path, secure: bool) -> None:
    """To clients with TLS and without."""
    own = make_certificates(tmp_path / "own")
    pair = authority.issue("127.0.0.1")
    listener: dict[str, Any] = {"tls": own.tls.model_dump()} if secure else {}
    async with serve(echo, "127.0.0.1", 0, max_size=None, ssl=server_context(pair)) as server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        config = settings(address, pool={"tls": {"ca": str(authority.ca)}}, listener=listener)
        async with in_process(config) as proxy:
            url = f"{'wss' if secure else 'ws'}://{proxy.addresses[0]}/"
            context = ssl.create_default_context(cafile=str(own.ca)) if secure else None
            async with websocket(url, ssl=context, max_size=None, compression=None) as client:
                for size in (0, 1, 125, 65536, 200_000, 8 * MIB):
                    message = BODY[:size]
                    await client.send(message)
                    assert digest(await client.recv()) == digest(message)
                # A second one while both directions are full.
                sends = [asyncio.create_task(client.send(BODY[number : number + 4 * MIB])) for number in range(4)]
                for number in range(4):
                    assert digest(await client.recv()) == digest(BODY[number : number + 4 * MIB])
                await asyncio.gather(*sends)
                found = proxy.pools["main"].servers[0]
                assert found.active == 1
            await eventually(lambda: found.active == 0)


async def test_what_was_written_last_in_a_tunnel_arrives(stage: Stage, authority: Authority) -> None:
    """The client sends much and closes at once: the server reads all of it, slowly, and then the end."""
    read: list[int] = []
    done = asyncio.Event()
    loop = asyncio.get_running_loop()

    def script(tls: ssl.SSLSocket) -> None:
        read_head(tls)
        tls.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n")
        count = 0
        while data := tls.recv(65536):
            count += len(data)
            if count % (16 * 65536) < 65536:
                time.sleep(0.005)
        read.append(count)
        loop.call_soon_threadsafe(done.set)

    with ThreadedTls(server_context(authority.issue("127.0.0.1")), script, SMALL_BUFFER) as server:
        await stage.proxy(server.address, pool={"tls": {"ca": str(authority.ca)}})
        client = await stage.connect()
        await client.send(request_bytes(fields={"Upgrade": "websocket", "Connection": "upgrade"}))
        assert b"101" in await client.read_until(b"\r\n\r\n")
        await client.send(BODY)
        await client.arrive()
        client.half_close()
        async with asyncio.timeout(30.0):
            await done.wait()
    assert read == [len(BODY)]
