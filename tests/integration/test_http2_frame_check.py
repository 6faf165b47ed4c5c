"""The check of frames before ngh2: real clients are never ended by it, floods are."""

from __future__ import annotations

import asyncio
import shutil
from typing import Any

import h2.config
import h2.connection
import h2.events
import pytest

from support import h2_frames
from support.http import Request
from support.ngh2_server import ngh2_server
from support.server import Conversation
from support.stage import Stage
from vsproxy.wire.http2_floods import CONTROL_BURST
from vsproxy.wire.http2_frames import FrameCheck

PATIENCE = 60.0
MIB = 1 << 20


class Kept(list[FrameCheck]):
    """Makes checks and keeps them."""

    def __call__(self) -> FrameCheck:
        self.append(FrameCheck())
        return self[-1]


CLIENTS = {
    "curl": ["curl", "-sS", "--http2-prior-knowledge", "-o", "/dev/null", "-w", "%{{size_download}}", "{url}"],
    "nghttp": ["nghttp", "-ns", "-m", "20", "{url}"],
    "nghttp, small windows": ["nghttp", "-ns", "-w", "12", "-W", "12", "{url}"],
    "nghttp, padding": ["nghttp", "-ns", "-b", "200", "-m", "20", "{url}"],
    "h2load, large": ["h2load", "-n", "8", "-c", "2", "-m", "4", "-w", "12", "-W", "12", "{url}"],
}


async def succeed(arguments: list[str]) -> bytes:
    """Run a program that has to succeed; its output."""
    process = await asyncio.create_subprocess_exec(
        *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(PATIENCE):
        output, _ = await process.communicate()
    assert process.returncode == 0, output
    return output


@pytest.mark.parametrize("name", CLIENTS)
async def test_a_client_that_downloads_is_never_ended(name: str) -> None:
    arguments = CLIENTS[name]
    if shutil.which(arguments[0]) is None:
        pytest.skip(f"{arguments[0]} is not installed")
    checks = Kept()
    async with ngh2_server(checks) as port:
        output = await succeed([part.format(url=f"http://127.0.0.1:{port}/{8 * MIB}") for part in arguments])
    assert checks
    assert [check.reason for check in checks if check.error] == []
    if name == "curl":
        assert output == b"%d" % (8 * MIB)
    if name == "h2load, large":
        assert b"8 succeeded, 0 failed" in output


async def test_many_requests_are_never_ended() -> None:
    if shutil.which("h2load") is None:
        pytest.skip("h2load is not installed")
    checks = Kept()
    async with ngh2_server(checks) as port:
        output = await succeed(["h2load", "-n", "20000", "-c", "2", "-m", "100", f"http://127.0.0.1:{port}/10"])
    assert b"20000 succeeded, 0 failed" in output
    assert [check.reason for check in checks if check.error] == []


class Eager:
    """A client on `h2` that gives credit for every piece as it comes, to the stream and to the connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.http2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self.http2.initiate_connection()
        self.updates = 0

    async def download(self, path: str) -> int:
        """The size of the body."""
        self.http2.send_headers(1, self.fields(path), end_stream=True)
        size = 0
        while True:
            self.writer.write(self.http2.data_to_send())
            async with asyncio.timeout(PATIENCE):
                data = await self.reader.read(65536)
            assert data, "ended"
            for event in self.http2.receive_data(data):
                assert not isinstance(event, h2.events.ConnectionTerminated | h2.events.StreamReset)
                if isinstance(event, h2.events.DataReceived):
                    size += len(event.data)
                    self.give_back(event)
                elif isinstance(event, h2.events.StreamEnded):
                    return size

    def fields(self, path: str) -> list[tuple[str, str]]:
        """A request."""
        return [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", path)]

    def give_back(self, event: Any) -> None:
        """The credit for one piece, in 4 KiB, as Go's client gives it."""
        left = event.flow_controlled_length
        while left:
            step = min(left, 4096)
            left -= step
            self.http2.increment_flow_control_window(step)
            self.updates += 1
            if event.stream_ended is None:
                self.http2.increment_flow_control_window(step, 1)
                self.updates += 1


async def eager_download(address: str, size: int) -> None:
    """Many more window updates than may come without a reason."""
    host, port = address.rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    client = Eager(reader, writer)
    assert await client.download(f"/{size}") == size
    writer.close()
    assert client.updates > 5 * CONTROL_BURST


async def test_credit_in_small_pieces_is_never_too_much() -> None:
    checks = Kept()
    async with ngh2_server(checks) as port:
        await eager_download(f"127.0.0.1:{port}", 24 * MIB)
    assert [check.reason for check in checks if check.error] == []


async def test_nor_is_it_through_a_proxy(stage: Stage) -> None:
    """The check is told what is sent."""

    async def answer(peer: Conversation, request: Request) -> None:
        await peer.respond(bytes(int(request.target[1:])))

    await stage.proxy(await stage.server(answer), listener={"h2c": True})
    await eager_download(stage.address, 24 * MIB)


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (h2_frames.data(1), "empty frames"),
        (h2_frames.ping(), "ping flood"),
        (h2_frames.settings(), "settings flood"),
        (h2_frames.priority(3), "priority flood"),
        (h2_frames.window_update(0, 1), "window update flood"),
    ],
)
async def test_a_flood_is_ended_by_a_goaway(frame: bytes, reason: str) -> None:
    checks = Kept()
    post = h2_frames.headers(
        1, h2_frames.hpack_block([(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "a")])
    )
    async with ngh2_server(checks) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(h2_frames.PREFACE + h2_frames.settings() + post + frame * 5000)
        async with asyncio.timeout(PATIENCE):
            received = bytearray(await reader.read())
        writer.close()
    last = list(h2_frames.take_frames(received))[-1]
    assert (last.type, last.error_code) == (h2_frames.GOAWAY, h2_frames.ENHANCE_YOUR_CALM)
    assert [check.reason for check in checks] == [reason]
