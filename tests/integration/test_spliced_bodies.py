"""Large plain bodies through the kernel: the same bytes, counts and connections as through the process."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections import Counter
from pathlib import Path

import pytest

from support.certificates import make_certificates
from support.client import Client
from support.http import Request, read_response_head, request_bytes
from support.proxies import eventually, settings
from support.server import Conversation
from support.splices import Watched
from support.stage import Stage
from vsproxy import Config
from vsproxy.pipes import MAX_IDLE

MIB = 1 << 20
# No power of two, and longer than any buffer: what is lost, doubled or moved changes the digest.
BODY = hashlib.shake_256(b"splice").digest(1_000_003) * 41
SMALL = 200_000
KINDS = ("socket", "pipe", "anon_inode")


@pytest.fixture
def splices(monkeypatch: pytest.MonkeyPatch) -> Watched:
    return Watched(monkeypatch)


async def script(peer: Conversation, request: Request) -> None:
    """The body that /LENGTH asks for; a body is answered with its digest."""
    if request.body:
        await peer.respond(digest(request.body))
    else:
        await peer.respond(BODY[: int(request.target[1:])])


def digest(data: bytes) -> bytes:
    return hashlib.sha256(data).hexdigest().encode()


def files_of(pid: int) -> Counter[str]:
    """How many open files of each kind (`socket`, `pipe`, `anon_inode`) a process has."""
    kinds: Counter[str] = Counter()
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            kinds[os.readlink(f"/proc/{pid}/fd/{name}").partition(":")[0]] += 1
        except FileNotFoundError:
            # Closed since, as the one that lists them is.
            continue
    return kinds


async def download(client: Client, size: int = len(BODY)) -> None:
    response = await client.request(target=f"/{size}")
    assert response.complete
    assert digest(response.body) == digest(BODY[:size])


async def upload(client: Client, size: int = len(BODY)) -> None:
    response = await client.request("POST", "/up", body=BODY[:size])
    assert response.body == digest(BODY[:size])


async def test_downloads_and_uploads_on_the_same_connections(stage: Stage, splices: Watched) -> None:
    server = await stage.server(script)
    await stage.proxy(server)
    client = await stage.connect()
    for _ in range(3):
        await download(client)
        await upload(client)
        await download(client, SMALL)
    assert splices.kinds() == ["Download", "Upload"] * 3
    assert splices.all_over()
    # Uploads may need a new one: a connection that has hardly been used is not trusted with a POST.
    assert server.connections <= 4


async def test_small_bodies_are_not_spliced(stage: Stage, splices: Watched) -> None:
    await stage.proxy(await stage.server(script))
    client = await stage.connect()
    await download(client, SMALL)
    await upload(client, SMALL)
    assert not splices.begun


async def test_chunked_bodies_are_not_spliced(stage: Stage, splices: Watched) -> None:
    async def chunks(peer: Conversation, request: Request) -> None:
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        await peer.send(b"%x\r\n" % len(BODY) + BODY + b"\r\n0\r\n\r\n")

    await stage.proxy(await stage.server(chunks))
    assert digest((await stage.get()).body) == digest(BODY)
    assert not splices.begun


async def test_a_reload_turns_it_off_and_on(stage: Stage, splices: Watched) -> None:
    server = await stage.server(script)
    proxy = await stage.proxy(server, **splices.option(False))
    client = await stage.connect()
    await download(client)
    await upload(client)
    assert not splices.begun
    await proxy.reload(Config.model_validate(settings(server, **splices.option(True))))
    await download(client)
    assert splices.kinds() == ["Download"]


async def test_a_system_without_it_is_named_once_and_serves(
    stage: Stage, splices: Watched, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("vsproxy.traffic.is_available", lambda: False)
    caplog.set_level("INFO", "vsproxy.traffic")
    server = await stage.server(script)
    proxy = await stage.proxy(server)
    await proxy.reload(Config.model_validate(settings(server)))
    client = await stage.connect()
    await download(client)
    assert not splices.begun
    assert caplog.text.count("no splice") == 1


async def test_not_through_tls(stage: Stage, splices: Watched) -> None:
    certificates = make_certificates(stage.directory)
    tls = {"cert": str(certificates.cert), "key": str(certificates.key)}
    await stage.proxy(await stage.server(script), listener={"tls": tls})
    host, _, port = stage.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), ssl=certificates.client_context())
    writer.write(request_bytes(target=f"/{len(BODY)}"))
    await reader.readuntil(b"\r\n\r\n")
    assert digest(await reader.readexactly(len(BODY))) == digest(BODY)
    writer.close()
    assert not splices.begun


async def test_pipelined_requests_behind_an_upload_are_served(stage: Stage, splices: Watched) -> None:
    server = await stage.server(script)
    await stage.proxy(server)
    client = await stage.connect()
    client.patience = 60
    both = request_bytes("POST", "/up", body=BODY) + request_bytes(target="/5") + request_bytes("POST", body=BODY)
    sending = asyncio.create_task(client.send(both))
    assert (await client.response()).body == digest(BODY)
    assert (await client.response()).body == BODY[:5]
    assert (await client.response()).body == digest(BODY)
    await sending
    assert splices.kinds() == ["Upload", "Upload"]


async def test_pipelined_requests_behind_a_download_are_served(stage: Stage, splices: Watched) -> None:
    await stage.proxy(await stage.server(script))
    client = await stage.connect()
    await client.send(request_bytes(target=f"/{len(BODY)}") * 2 + request_bytes(target="/7"))
    for size in (len(BODY), len(BODY), 7):
        assert digest((await client.response()).body) == digest(BODY[:size])
    assert splices.kinds() == ["Download", "Download"]


async def test_both_directions_of_one_exchange(stage: Stage, splices: Watched) -> None:
    """An echo, both ways by splice over the same two sockets."""

    async def echo(peer: Conversation, request: Request) -> None:
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY))
        left = len(BODY)
        while left:
            data = await peer.recv()
            assert data
            left -= len(data)
            await peer.send(data)

    await stage.proxy(await stage.server(echo, read_body=False))
    client = await stage.connect()
    client.patience = 60
    sending = asyncio.create_task(client.send(request_bytes("POST", body=BODY)))
    assert digest((await client.response()).body) == digest(BODY)
    await sending
    assert sorted(splices.kinds()) == ["Download", "Upload"]
    assert splices.all_over()


async def test_unix_sockets(stage: Stage, splices: Watched, tmp_path: Path) -> None:
    path = tmp_path / "server.sock"
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY)
        await writer.drain()

    server = await asyncio.start_unix_server(serve, path)
    listener = tmp_path / "proxy.sock"
    await stage.proxy(f"unix:{path}", listener={"bind": f"unix:{listener}"})
    stage.address = f"unix:{listener}"
    assert digest((await stage.get()).body) == digest(BODY)
    assert splices.kinds() == ["Download"]
    server.close()


@pytest.mark.parametrize("on", [True, False])
async def test_the_same_is_counted_and_logged(stage: Stage, splices: Watched, tmp_path: Path, on: bool) -> None:
    log = tmp_path / "access.log"
    sections = {**splices.option(on), "log": {"access": "json", "access_path": str(log)}}
    proxy = await stage.proxy(await stage.server(script), **sections)
    client = await stage.connect()
    await download(client)
    await upload(client)
    (server,) = proxy.pools["main"].servers
    assert server.bytes_received == len(BODY) + 64
    assert server.bytes_sent == len(BODY)
    await proxy.close()
    down, up = [json.loads(line) for line in log.read_text().splitlines()]
    assert (down["bytes_in"], down["bytes_out"], down["outcome"]) == (0, len(BODY), "ok")
    assert (up["bytes_in"], up["bytes_out"], up["outcome"]) == (len(BODY), 64, "ok")
    assert len(splices.begun) == (2 if on else 0)


async def test_many_at_once_and_small_ones_in_between(stage: Stage, splices: Watched) -> None:
    """More than one worker has pipes for: the others take the ordinary way, and all arrive whole."""
    await stage.proxy(await stage.server(script))

    async def one(number: int) -> None:
        client = await stage.connect()
        client.patience = 60
        size = len(BODY) // 10 + number
        await (download if number % 2 else upload)(client, size)

    transfers = [asyncio.create_task(one(number)) for number in range(100)]
    for _ in range(20):
        assert (await stage.get("/3")).body == BODY[:3]
    await asyncio.gather(*transfers)
    assert splices.begun
    assert splices.all_over()


async def test_nothing_stays_open(stage: Stage) -> None:
    process = await stage.process(await stage.server(script))
    (worker,) = process.workers

    async def everything() -> None:
        client = await stage.connect()
        await download(client, 5 * MIB)
        await upload(client, 5 * MIB)
        gone = await stage.connect()
        await gone.send(request_bytes(target=f"/{len(BODY)}"))
        await read_response_head(gone)
        gone.reset()
        client.close()

    await everything()
    before = files_of(worker)
    for _ in range(20):
        await everything()
    await eventually(lambda: files_of(worker)["socket"] <= before["socket"], what="all is closed")
    assert files_of(worker)["pipe"] <= before["pipe"] + 2 * MAX_IDLE


async def test_an_embedder_gets_everything_back(stage: Stage, splices: Watched) -> None:
    server = await stage.server(script)
    before = files_of(os.getpid())
    proxy = await stage.proxy(server)
    async with await stage.connect() as client:
        await download(client)
    await proxy.close()
    await eventually(lambda: not server.open)
    assert splices.begun
    now = files_of(os.getpid())
    assert [now[kind] for kind in KINDS] == [before[kind] for kind in KINDS]
