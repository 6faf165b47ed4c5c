"""Keepalive races, killed servers and stops, at full speed."""

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


class OnceOnly:
    """Answers the first request of each connection and cuts the connection on the second."""

    def __init__(self) -> None:
        self.served = 0
        self.bodies: list[str] = []
        self._known: set[int] = set()

    async def __call__(self, peer: Conversation, request: Request) -> None:
        if peer.number in self._known:
            peer.reset()
            return
        self._known.add(peer.number)
        self.served += 1
        self.bodies.append(request.target)
        await peer.send(OK)


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


async def test_servers_that_cut_every_reused_connection_cost_gets_nothing(stage: Stage) -> None:
    scripts = [OnceOnly(), OnceOnly(), OnceOnly()]
    await stage.proxy(*[await stage.server(script) for script in scripts])
    assert set(await ask(stage, "GET", 16, 20)) == {200}


async def test_servers_that_cut_every_reused_connection_get_each_post_once(stage: Stage) -> None:
    scripts = [OnceOnly(), OnceOnly(), OnceOnly()]
    await stage.proxy(*[await stage.server(script) for script in scripts])
    assert set(await ask(stage, "POST", 16, 20)) == {200}
    targets = [target for script in scripts for target in script.bodies]
    assert len(targets) == len(set(targets)) == 16 * 20


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
    while True:
        # Nobody is accepted any more: the stop has begun.
        try:
            probe = await stage.connect()
        except ConnectionRefusedError:
            break
        probe.close()
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
    while True:
        try:
            probe = await stage.connect()
        except ConnectionRefusedError:
            break
        probe.close()
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
