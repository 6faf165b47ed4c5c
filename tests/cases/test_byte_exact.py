"""Every byte-exact case, end to end: what a client sends, what a server answers, and what comes out.

`forward` and `normalise` look alike from outside: the request reaches the server, once.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from vsproxy import Config, Proxy

CASES: list[dict[str, Any]] = [
    case
    for case in json.loads((Path(__file__).parents[1] / "data" / "http_cases.json").read_text())
    if case["proto"] == "h1"
]
REQUESTS = [case for case in CASES if case["side"] == "request"]
RESPONSES = [case for case in CASES if case["side"] == "response"]
QUIET = 0.4  # a client that is still connected this long after its answer is taken to be kept
PATIENCE = 10.0  # there is an answer or an end to every case: how long it may take is not what is tested
FINAL = re.compile(rb"HTTP/1\.1 ([2-5])")


class Origin:
    """A server that notes start lines and reads bodies by the framing it is given."""

    def __init__(self, answer: dict[str, Any] | None = None) -> None:
        self.answer = answer
        self.lines: list[bytes] = []
        self.whole = 0
        self.address = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.lines.append(head.split(b"\r\n")[0])
                await self.read_body(reader, head.lower())
                self.whole += 1
                if self.answer is not None:
                    writer.write(self.answer["bytes"].encode("latin-1"))
                    if self.answer.get("upstream_close"):
                        await writer.drain()
                        return
                    await reader.read()
                    return
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    async def read_body(self, reader: asyncio.StreamReader, head: bytes) -> None:
        """The body, strictly as the head says."""
        if b"transfer-encoding: chunked" in head:
            while int(await reader.readuntil(b"\r\n"), 16):
                await reader.readuntil(b"\r\n")
            while await reader.readuntil(b"\r\n") != b"\r\n":
                pass
        elif b"content-length: " in head:
            await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))


@pytest.fixture
async def playing() -> AsyncIterator[Any]:
    async with asyncio.TaskGroup():
        started: list[tuple[Proxy, asyncio.Server]] = []

        async def play(origin: Origin) -> str:
            server = await asyncio.start_server(origin.serve, "127.0.0.1", 0)
            port = server.sockets[0].getsockname()[1]
            proxy = Proxy(
                Config.model_validate(
                    {
                        "proxy": {"shutdown_timeout": "100ms"},
                        "log": {"access": "off"},
                        "listeners": [{"bind": "127.0.0.1:0"}],
                        "routes": [{"path": "/", "pool": "p"}],
                        "pools": {
                            "p": {
                                "servers": [{"address": f"127.0.0.1:{port}"}],
                                "max_fails": 0,
                                "timeouts": {"read": "2s"},
                            }
                        },
                    }
                )
            )
            await proxy.start()
            started.append((proxy, server))
            return proxy.addresses[0]

        yield play
        for proxy, server in started:
            await proxy.close()
            server.close()


async def exchange(address: str, pieces: list[bytes], half_close: bool, kept: bytes = b"23") -> tuple[bytes, str]:
    """Send the pieces, one packet each; what came back, and how the connection ended ("" if it did not).

    After an answer of a status that begins with one of `kept` the connection may stay; else the end is waited for.
    """
    host, port = address.rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    received, ended = b"", ""
    try:
        for piece in pieces:
            if writer.is_closing():
                break
            writer.write(piece)
            # Without Nagle and with a turn of both loops, each piece is a read of its own.
            await asyncio.sleep(0.001 if len(pieces) > 1 else 0)
        if half_close and not writer.is_closing():
            writer.write_eof()
        data = b"-"
        while data:
            final = FINAL.search(received)
            async with asyncio.timeout(QUIET if final and final[1] in kept else PATIENCE):
                data = await reader.read(65536)
            received += data
        ended = "fin"
    except TimeoutError:
        ended = ""
    except (ConnectionError, OSError):
        ended = "reset"
    finally:
        writer.close()
    return received, ended


def verdict(received: bytes, ended: str, whole: int) -> str:
    """The outcome in the words of the cases."""
    status = received[9:12].decode("latin-1")
    if whole == 0 and status[:1] in ("4", "5") and ended:
        return "reject"
    if whole == 0 and ended:
        return "close"
    return "forward" if status == "200" and whole else f"none of them ({status!r}, {ended!r}, {whole})"


def allowed(case: dict[str, Any]) -> set[str]:
    outcomes = {case["expect"], *case.get("also_ok", [])}
    if "normalise" in outcomes:
        outcomes.add("forward")
    if "close" in outcomes:
        # An answer on top of the visible end is more, not less.
        outcomes.add("reject")
    return outcomes


def splits(data: bytes) -> list[list[bytes]]:
    """Whole, byte by byte at the front, and in two at some places."""
    size = len(data)
    cuts = {1, size // 3, size // 2, size - 2, size - 1}
    byte_wise = [data[i : i + 1] for i in range(min(size, 150))] + [data[150:]] * (size > 150)
    return [[data], byte_wise] + [[data[:cut], data[cut:]] for cut in sorted(cuts) if 0 < cut < size]


@pytest.mark.parametrize("case", REQUESTS, ids=lambda case: case["id"])
async def test_request(case: dict[str, Any], playing: Any) -> None:
    data = case["bytes"].encode("latin-1")

    async def one(pieces: list[bytes]) -> None:
        origin = Origin()
        address = await playing(origin)
        received, ended = await exchange(address, pieces, bool(case.get("half_close")))
        assert not any(b"/smuggled" in line for line in origin.lines)
        assert verdict(received, ended, origin.whole) in allowed(case), (len(pieces), received[:80], ended)

    await asyncio.gather(*(one(pieces) for pieces in splits(data)))


@pytest.mark.parametrize("case", RESPONSES, ids=lambda case: case["id"])
async def test_response(case: dict[str, Any], playing: Any) -> None:
    address = await playing(Origin(case))
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\n" if case.get("upgrade") else b""
    method = case.get("method", "GET").encode()
    version = str(case.get("client_version", "1.1")).removeprefix("HTTP/").encode()
    request = method + b" / HTTP/" + version + b"\r\nHost: a\r\n" + upgrade + b"\r\n"
    outcomes = {case["expect"], *case.get("also_ok", [])}
    breaks_off = "close" in outcomes and case["expect"] != "forward"
    received, ended = await exchange(address, [request], False, b"5" if breaks_off else b"235")
    assert b"POISON" not in received
    while received[9:10] == b"1":
        received = received.partition(b"\r\n\r\n")[2]
    status = received[9:12]
    # A second client on the same proxy never sees what was left over.
    second, _ = await exchange(address, [request], False, b"235")
    assert b"POISON" not in second
    if status == b"502":
        assert "reject" in outcomes
    elif breaks_off:
        assert ended
    else:
        assert outcomes & {"forward", "normalise"}
        assert received
