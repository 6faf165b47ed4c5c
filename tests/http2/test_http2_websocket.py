"""WebSocket over HTTP/2 (RFC 8441), an upgrade of HTTP/1.1 to the server. How they end is in the module after it."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from h2.settings import SettingCodes
from websockets.asyncio.server import ServerConnection

from support.h2_client import H2Client
from support.h2_front import Front, only
from support.h2_websocket import VERSION, open_websocket, opened, opening
from support.http import Request
from support.proxies import eventually
from support.scripts import sends
from support.server import Conversation
from support.websocket_servers import accepting, echoing

PROTOCOL_ERROR = 1


async def is_alive(client: H2Client, path: str = "/plain") -> None:
    """The connection still carries requests."""
    assert (await client.request(path=path)).complete


# Messages


async def test_the_settings_say_that_it_is_there(front: Front) -> None:
    """RFC 8441 section 3: without it no client may try."""
    await front.proxy(await front.stage.server())
    async with front.client() as client:
        settings = await client.settings_arrived()
    assert settings[SettingCodes.ENABLE_CONNECT_PROTOCOL] == 1


async def test_messages_of_all_kinds_and_sizes_come_back(front: Front) -> None:
    async with echoing() as address:
        proxy = await front.proxy(address)
        async with front.client() as client:
            socket = await opened(client)
            for message in ("", "text ✓", b"", b"\0\xff", b"x" * 125, b"x" * 126, b"x" * 65536, b"y" * (4 << 20)):
                await socket.send(message)
                assert await socket.recv() == message
            await socket.ping(b"are you there")
            assert proxy.pools["main"].servers[0].active == 1
            assert await socket.close(1000, "done") == (1000, "done")
            await client.until(lambda: socket.stream.over, "the end of the stream")
            assert socket.stream.so_far.complete
            await socket.stream.end()
            await eventually(lambda: proxy.pools["main"].servers[0].active == 0)


async def test_a_close_by_the_server(front: Front) -> None:
    async def leave(connection: ServerConnection) -> None:
        await connection.close(4321, "good bye")

    async with echoing(leave) as address:
        await front.proxy(address)
        async with front.client() as client:
            socket = await opened(client)
            assert await socket.closed() == (4321, "good bye")
            await client.until(lambda: socket.stream.over, "the end of the stream")
            assert socket.stream.so_far.complete


async def test_a_subprotocol_and_compression_are_agreed_on_with_the_server(front: Front) -> None:
    async with echoing(subprotocols=["chat"]) as address:
        await front.proxy(address)
        async with front.client() as client:
            socket = await opened(client, deflate=True, subprotocols=["other", "chat"])
            assert socket.subprotocol == "chat"
            assert [extension.name for extension in socket.protocol.extensions] == ["permessage-deflate"]
            await socket.send("z" * 100_000)
            assert await socket.recv() == "z" * 100_000
            assert socket.stream.so_far.size < 5_000, "it was not compressed"


async def test_many_tunnels_and_requests_share_a_connection(front: Front) -> None:
    async def answer(connection: Any, request: Any) -> Any:
        return connection.respond(200, "plain") if request.path == "/plain" else None

    async with echoing(process_request=answer) as address:
        await front.proxy(address)
        async with front.client() as client:
            sockets = [await opened(client, f"/{number}") for number in range(20)]
            for turn in range(3):
                for number, socket in enumerate(sockets):
                    await socket.send(f"{turn} {number}")
                assert (await client.request(path="/plain")).body == b"plain"
                assert [await socket.recv() for socket in sockets] == [f"{turn} {number}" for number in range(20)]
            await sockets[0].close()
            await sockets[1].stream.cancel()
            await sockets[2].send("still here")
            assert await sockets[2].recv() == "still here"


# What the server is asked, and the client told


async def test_the_server_is_asked_for_an_upgrade(front: Front) -> None:
    """RFC 8441 section 5, backwards: what this way leaves out is put in, and taken out of the answer."""

    async def script(peer: Conversation, request: Request) -> None:
        await peer.send(accepting(request)[:-2] + b"X-Told: yes\r\n\r\nfirst bytes")
        await peer.wait_closed()

    server = await front.stage.server(script)
    await front.proxy(server)
    async with front.client() as client:
        fields = [VERSION, ("origin", "https://test.example"), ("cookie", "a=1")]
        stream = await client.start_raw([*opening(client, "/chat?room=1"), *fields], end=False)
        response = await stream.head_arrived()
        assert (await stream.arrived(11)).body == b"first bytes"
        await stream.cancel()
    assert response.status == 200
    assert response.fields.get("x-told") == "yes"
    assert not {"connection", "upgrade", "sec-websocket-accept"} & {name for name, _ in response.fields}
    request = only(server)
    assert (request.method, request.target, request.framing) == ("GET", "/chat?room=1", "none")
    assert request.fields.get("Host") == "test.example"
    assert (request.fields.get("Upgrade") or "").lower() == "websocket"
    assert request.fields.has_token("Connection", "upgrade")
    assert request.fields.get("Sec-WebSocket-Version") == "13"
    assert len(base64.b64decode(request.fields.get("Sec-WebSocket-Key") or "", validate=True)) == 16
    assert request.fields.get("Origin") == "https://test.example"
    assert request.fields.get("Cookie") == "a=1"
    assert request.fields.get("X-Forwarded-For") == "127.0.0.1"
    assert request.fields.get("X-Forwarded-Proto") == front.scheme


async def test_every_tunnel_has_a_key_of_its_own(plain: Front) -> None:
    async def script(peer: Conversation, request: Request) -> None:
        await peer.send(accepting(request))
        await peer.wait_closed()

    server = await plain.stage.server(script)
    await plain.proxy(server)
    async with plain.client() as client:
        for _ in range(3):
            await opened(client)
    assert len({request.fields.get("Sec-WebSocket-Key") for request in server.requests}) == 3


@pytest.mark.parametrize("accept", [b"", b"Sec-WebSocket-Accept: c3VyZQ==\r\n"], ids=["none", "wrong"])
async def test_an_upgrade_that_does_not_know_the_key_is_none(plain: Front, accept: bytes) -> None:
    """The key is the proxy's, so it is for the proxy to look (RFC 6455 section 4.1)."""
    switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    await plain.proxy(await plain.stage.server(sends(switch + accept + b"\r\n")))
    async with plain.client() as client:
        socket = await open_websocket(client)
        assert socket.response.status == 502


@pytest.mark.parametrize("status", [302, 401, 403, 404, 503])
async def test_a_refusal_of_the_server_arrives(front: Front, status: int) -> None:
    async def script(peer: Conversation, request: Request) -> None:
        if request.target == "/plain":
            await peer.respond()
        else:
            await peer.respond(b"not you", status, [("Location", "/login"), ("X-Why", "because")])

    await front.proxy(await front.stage.server(script))
    async with front.client() as client:
        stream = await client.start_raw([*opening(client, "/"), VERSION], end=False)
        await client.until(lambda: stream.over, "the whole refusal")
        response = stream.response_now()
        assert (response.status, response.body, response.complete) == (status, b"not you", True)
        assert response.fields.get("x-why") == "because"
        await is_alive(client)


@pytest.mark.parametrize("status", [200, 201, 204, 206])
async def test_a_success_that_is_no_upgrade_does_not_look_like_a_tunnel(plain: Front, status: int) -> None:
    """A page of HTML with 200 would be the beginning of a WebSocket to the client."""

    async def script(peer: Conversation, request: Request) -> None:
        await peer.respond(b"<html>", status)

    await plain.proxy(await plain.stage.server(script))
    async with plain.client() as client:
        stream = await client.start_raw([*opening(client, "/"), VERSION], end=False)
        response = await stream.head_arrived()
        assert response.status >= 400
        await client.until(lambda: stream.over, "the end")
        assert b"<html>" not in stream.response_now().body


async def test_a_route_that_forbids_it(plain: Front) -> None:
    server = await plain.stage.server()
    await plain.proxy(server, route={"websocket": False})
    async with plain.client() as client:
        socket = await open_websocket(client)
        assert 400 <= socket.response.status < 600
        await is_alive(client)
    assert not [request for request in server.requests if request.fields.get("Upgrade")]


@pytest.mark.parametrize("protocol", ["connect-udp", "WebSocket2", "", "h2c"])
async def test_other_protocols_are_refused(plain: Front, protocol: str) -> None:
    server = await plain.stage.server()
    await plain.proxy(server)
    async with plain.client() as client:
        stream = await client.start_raw(opening(client, "/", protocol), end=False)
        response = await stream.head_arrived()
        assert 400 <= response.status < 600 or response.reset == PROTOCOL_ERROR, response
        await is_alive(client)
    assert server.targets() == ["/plain"]


@pytest.mark.parametrize("missing", [":scheme", ":path", ":authority"])
async def test_an_extended_connect_needs_all_its_pseudo_fields(plain: Front, missing: str) -> None:
    server = await plain.stage.server()
    await plain.proxy(server)
    async with plain.client() as client:
        head = [(name, value) for name, value in opening(client, "/") if name != missing]
        stream = await client.start_raw([*head, VERSION], end=False)
        response = await stream.head_arrived()
        assert response.status == 400 or response.reset == PROTOCOL_ERROR, response
        await is_alive(client)
    assert server.targets() == ["/plain"]


async def test_no_server_is_502_or_503(plain: Front) -> None:
    await plain.proxy(plain.stage.refused())
    async with plain.client() as client:
        assert (await open_websocket(client)).response.status in (502, 503)
