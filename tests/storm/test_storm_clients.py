"""The storm's clients see every fault that a proxy could have, by its name: tried on servers that have it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request as Handshake
from websockets.http11 import Response as Accepted

from storm.broken import Broken
from storm.clients import Client
from storm.content import Expected, content
from storm.curl_clients import CurlClient, check
from storm.http_client import Listener, Request
from storm.ledger import Failure
from storm.scene import Scene
from storm.websockets_clients import WebSocketClient
from support.http import Request as Asked
from support.proxies import eventually
from support.server import Conversation, Script
from support.stage import Stage

BODY = content(3, 100_000)
SIGNED = [("X-Server", "s1.1")]


async def whole(peer: Conversation, asked: Asked) -> None:
    await peer.respond(BODY, fields=SIGNED)


async def announced_close(peer: Conversation, asked: Asked) -> None:
    await peer.respond(BODY, fields=[*SIGNED, ("Connection", "close")])


async def close_when_idle(peer: Conversation, asked: Asked) -> None:
    await peer.respond(BODY, fields=SIGNED)
    await asyncio.sleep(0.01)
    peer.close()


async def reset_when_idle(peer: Conversation, asked: Asked) -> None:
    await peer.respond(BODY, fields=SIGNED)
    await asyncio.sleep(0.01)
    peer.reset()


async def unasked_bytes(peer: Conversation, asked: Asked) -> None:
    await peer.respond(BODY, fields=SIGNED)
    await asyncio.sleep(0.01)
    await peer.send(b"HTTP/1.1 408 Request Timeout\r\n\r\n")


async def no_answer(peer: Conversation, asked: Asked) -> None:
    peer.close()


async def no_answer_but_a_reset(peer: Conversation, asked: Asked) -> None:
    peer.reset()


async def half_a_head(peer: Conversation, asked: Asked) -> None:
    await peer.send(b"HTTP/1.1 200 OK\r\nX-Server")
    peer.close()


async def half_a_body(peer: Conversation, asked: Asked) -> None:
    await peer.send(b"HTTP/1.1 200 OK\r\nX-Server: s1.1\r\nContent-Length: 100000\r\n\r\n" + BODY[:50_000])
    peer.close()


async def half_a_chunk(peer: Conversation, asked: Asked) -> None:
    await peer.send(b"HTTP/1.1 200 OK\r\nX-Server: s1.1\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n1234")
    peer.close()


async def no_last_chunk(peer: Conversation, asked: Asked) -> None:
    head = b"HTTP/1.1 200 OK\r\nX-Server: s1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    await peer.send(head + b"%x\r\n%b\r\n" % (len(BODY), BODY))
    peer.close()


async def bad_gateway(peer: Conversation, asked: Asked) -> None:
    await peer.respond(b"nobody there", status=502)


async def short_body(peer: Conversation, asked: Asked) -> None:
    await peer.respond(BODY[:-1], fields=SIGNED)


async def changed_body(peer: Conversation, asked: Asked) -> None:
    await peer.respond(BODY[:-1] + bytes([BODY[-1] ^ 1]), fields=SIGNED)


async def body_until_close(peer: Conversation, asked: Asked) -> None:
    await peer.send(b"HTTP/1.1 200 OK\r\n\r\n" + BODY)
    peer.close()


FAULTS: list[tuple[Script, str, bool]] = [
    (close_when_idle, "closed while idle", True),
    (reset_when_idle, "closed while idle", True),
    (unasked_bytes, "closed while idle", True),
    (no_answer, "unanswered", True),
    (no_answer_but_a_reset, "unanswered", True),
    (half_a_head, "broken head", True),
    (half_a_body, "truncated", True),
    (half_a_chunk, "truncated", True),
    (no_last_chunk, "truncated", True),
    (bad_gateway, "status 502", True),
    (short_body, "corrupt", False),
    (changed_body, "corrupt", False),
    (body_until_close, "corrupt", False),
]


async def until(
    scene: Scene, run: Callable[[], Coroutine[None, None, None]], condition: Callable[[], object]
) -> None:
    """Run a client until `condition` is met, then let it finish."""
    running = asyncio.create_task(run())
    await eventually(condition)
    scene.stop.set()
    await running


def get(exchange: str) -> Request:
    return Request("/", Expected.of(BODY), exchange=exchange)


def post(exchange: str) -> Request:
    return Request("/", Expected.of(BODY), "POST", exchange, content(1, 300_000))


def client(scene: Scene, port: int, make: Callable[[str], Request], pause: float = 0.1) -> Client:
    return Client("test", scene, listener(port), make, pause)


def listener(port: int) -> Listener:
    found = Listener("test", port)
    found.serving.set()
    return found


@pytest.mark.parametrize("make", [get, post])
@pytest.mark.parametrize(("fault", "cause", "visible"), FAULTS)
async def test_every_fault_is_seen(
    stage: Stage, fault: Script, cause: str, visible: bool, make: Callable[[str], Request]
) -> None:
    server = await stage.server(fault)
    scene = Scene()
    failures = scene.ledger.failures
    # At rest for so long that what a server does then is not mistaken for its answer to the next request.
    await until(scene, client(scene, server.port, make, pause=2.0).run, lambda: failures)
    assert {(failure.cause, failure.visible) for failure in failures} == {(cause, visible)}
    assert failures[0].wire.listener == server.port
    assert failures[0].wire.port > 0


@pytest.mark.parametrize("script", [whole, announced_close])
async def test_what_http_allows_is_no_failure(stage: Stage, script: Script) -> None:
    server = await stage.server(script)
    scene = Scene()
    ledger = scene.ledger
    await until(scene, client(scene, server.port, get).run, lambda: ledger.answered["test"] >= 5)
    assert ledger.failures == []
    assert ledger.servers == {"s1.1": ledger.answered["test"]}
    assert ledger.bytes_down == len(BODY) * ledger.answered["test"]
    assert (server.connections > 4) == (script is announced_close)


async def test_nobody_listens(stage: Stage) -> None:
    scene = Scene()
    port = int(stage.refused().rpartition(":")[2])
    await until(scene, client(scene, port, get).run, lambda: scene.ledger.failures)
    assert scene.ledger.failures[0].cause == "no connection"


def sign(connection: ServerConnection, request: Handshake, response: Accepted) -> None:
    response.headers["X-Server"] = "s1.1"


async def closes(connection: ServerConnection) -> None:
    await connection.recv()


async def breaks_off(connection: ServerConnection) -> None:
    await connection.recv()
    connection.transport.abort()


async def says_something_else(connection: ServerConnection) -> None:
    async for _ in connection:
        await connection.send("s1.1: what?")


async def says_it_twice(connection: ServerConnection) -> None:
    async for message in connection:
        for _ in range(2):
            await connection.send(f"s1.1: {message!s}")


async def echoes(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(f"s1.1: {message!s}")


@contextlib.asynccontextmanager
async def websockets(handler: Callable[[ServerConnection], object]) -> AsyncIterator[Listener]:
    async with serve(handler, "127.0.0.1", 0, process_response=sign) as server:  # type: ignore[arg-type]
        yield listener(next(iter(server.sockets)).getsockname()[1])


@pytest.mark.parametrize(
    ("handler", "cause"),
    [
        (closes, "websocket closed"),
        (breaks_off, "websocket closed"),
        (says_something_else, "corrupt"),
        (says_it_twice, "corrupt"),
    ],
)
async def test_every_fault_of_a_websocket_is_seen(
    handler: Callable[[ServerConnection], object], cause: str
) -> None:
    scene = Scene()
    async with websockets(handler) as found:
        await until(scene, WebSocketClient("test", scene, found, 0.1).run, lambda: scene.ledger.failures)
    failure = scene.ledger.failures[0]
    assert (failure.cause, failure.server) == (cause, "s1.1")
    assert failure.wire.port > 0


async def test_a_websocket_that_is_refused(stage: Stage) -> None:
    server = await stage.server(bad_gateway)
    scene = Scene()
    refused = WebSocketClient("test", scene, listener(server.port))
    await until(scene, refused.run, lambda: scene.ledger.failures)
    assert scene.ledger.failures[0].cause == "no websocket"


async def test_a_websocket_that_lives() -> None:
    scene = Scene()
    ledger = scene.ledger
    async with websockets(echoes) as found:
        kept = WebSocketClient("kept", scene, found, 0.01)
        short = WebSocketClient("short", scene, found, 0.01, lasts=2)
        running = asyncio.gather(kept.run(), short.run())
        await eventually(lambda: ledger.answered["kept"] >= 10 and ledger.answered["short"] >= 5)
        assert ledger.websockets_open["kept"] == 1
        scene.stop.set()
        await running
    assert ledger.failures == []
    assert ledger.websockets_open.total() == 0
    assert ledger.websockets_opened >= 4


@pytest.mark.parametrize(
    ("status", "body", "exit_status", "cause"),
    [
        ("000", b"", 56, "unanswered"),
        ("502", b"", 0, "status 502"),
        ("200", BODY[:-1], 18, "truncated"),
        ("200", BODY[:-1], 0, "corrupt"),
    ],
)
def test_what_curl_reports(status: str, body: bytes, exit_status: int, cause: str) -> None:
    request = Request("/", body=BODY)
    check(request, "200", BODY, 0, b"")
    with pytest.raises(Broken) as caught:
        check(request, status, body, exit_status, b"curl: (1) something")
    assert (caught.value.cause, caught.value.visible) == (cause, cause != "corrupt")


async def test_curl_itself(stage: Stage) -> None:
    """It asks for bodies that this server does not have."""
    server = await stage.server(whole)
    scene = Scene()
    failures: list[Failure] = scene.ledger.failures
    await until(scene, CurlClient("curl", scene, listener(server.port), 0.01).run, lambda: len(failures) > 2)
    assert {failure.cause for failure in failures} == {"corrupt"}
    assert all(failure.wire.port for failure in failures)
