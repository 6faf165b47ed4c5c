"""Killed servers, stops in the middle, and descriptors that run out."""

from __future__ import annotations

import asyncio
import signal
import sys

from support.http import request_bytes
from support.server import Conversation, Request
from support.stage import Stage

SERVER = """
import asyncio, uvloop
async def serve(reader, writer):
    try:
        while await reader.readuntil(b"\\r\\n\\r\\n"):
            writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok")
    except Exception:
        writer.close()
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
uvloop.run(main())
"""
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def ask(stage: Stage, method: str, clients: int, each: int) -> list[int]:
    async def one(number: int) -> list[int]:
        client = await stage.connect()
        statuses = []
        for turn in range(each):
            body = b"x" if method == "POST" else None
            response = await client.request(method, f"/{number}/{turn}", body=body)
            statuses.append(response.status)
        return statuses

    rows = await asyncio.gather(*(one(number) for number in range(clients)))
    return [status for row in rows for status in row]


async def until_refused(stage: Stage) -> None:
    """Nobody is accepted any more: the stop has begun."""
    while True:
        try:
            probe = await stage.connect()
        except ConnectionRefusedError:
            return
        probe.close()


async def test_a_killed_server_costs_no_client_of_64_an_error(stage: Stage) -> None:
    processes = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", SERVER, stdout=asyncio.subprocess.PIPE)
        for _ in range(3)
    ]
    try:
        ports = [int(await process.stdout.readline()) for process in processes if process.stdout]
        proxy = await stage.proxy(*[f"127.0.0.1:{port}" for port in ports])
        load = asyncio.create_task(ask(stage, "GET", 64, 60))
        victim = proxy.pools["main"].servers[0]
        while victim.requests < 300:
            await asyncio.sleep(0.005)
        processes[0].send_signal(signal.SIGKILL)
        assert set(await load) == {200}
        assert victim.state_name == "down"
    finally:
        for process in processes:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def test_sigterm_lets_a_download_finish(stage: Stage) -> None:
    release = asyncio.Event()

    async def half(peer: Conversation, request: Request) -> None:
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
        await release.wait()
        await peer.send(b"world")

    process = await stage.process(await stage.server(half), proxy={"shutdown_timeout": "5s"})
    client = await stage.connect()
    await client.send(request_bytes())
    while b"hello" not in client.buffer:
        await client.fill()
    process.process.send_signal(signal.SIGTERM)
    await until_refused(stage)
    release.set()
    response = await client.response()
    assert (response.body, response.complete) == (b"helloworld", True)
    assert await process.process.wait() == 0


async def test_a_second_sigterm_ends_it_at_once(stage: Stage) -> None:
    async def never(peer: Conversation, request: Request) -> None:
        await asyncio.Event().wait()

    process = await stage.process(await stage.server(never), proxy={"shutdown_timeout": "60s"})
    client = await stage.connect()
    await client.send(request_bytes())
    process.process.send_signal(signal.SIGTERM)
    await until_refused(stage)
    process.process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(process.process.wait(), 5) != 0


async def test_out_of_descriptors_clients_wait_and_none_gets_an_error(stage: Stage) -> None:
    async def slow(peer: Conversation, request: Request) -> None:
        await asyncio.sleep(0.02)
        await peer.send(OK)

    await stage.process(await stage.server(slow), descriptors=128)

    async def one() -> int:
        return (await stage.get()).status

    assert set(await asyncio.gather(*(one() for _ in range(200)))) == {200}
