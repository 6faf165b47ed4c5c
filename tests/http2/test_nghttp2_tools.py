"""`nghttp` and `h2load`, the clients that come with nghttp2."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from support.bulk import MIB
from support.commands import Ran, run
from support.h2_front import Front
from support.http import Request, chunked
from support.server import Conversation

ASKED = 3000
IN_PARALLEL = 30


async def nghttp(front: Front, *arguments: str, paths: tuple[str, ...] = ("/",)) -> Ran:
    """nghttp, which believes any certificate."""
    urls = [f"{front.scheme}://127.0.0.1:{front.port}{path}" for path in paths]
    return await run("nghttp", "-v", *arguments, *urls)


async def respond(peer: Conversation, request: Request) -> None:
    """The target back."""
    await peer.respond(request.target.encode())


async def test_many_requests_with_the_old_priorities(front: Front) -> None:
    """nghttp makes a tree of streams by PRIORITY frames, which RFC 9113 has done away with and we have to bear."""
    server = await front.stage.server(respond)
    await front.proxy(server)
    paths = tuple(f"/{number}" for number in range(IN_PARALLEL))
    answer = await nghttp(front, paths=paths)
    assert answer.status == 0, answer.errors
    assert len(re.findall(r":status: 200", answer.text)) == IN_PARALLEL
    assert "send PRIORITY frame" in answer.text
    assert sorted(server.targets()) == sorted(paths)


async def test_trailers_both_ways(front: Front, tmp_path: Path) -> None:
    async def script(peer: Conversation, request: Request) -> None:
        assert request.body == b"payload"
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        trailers = "".join(f"X-Back: {value}\r\n" for _, value in request.trailers)
        await peer.send(head + chunked(b"body", trailers=trailers))

    await front.proxy(await front.stage.server(script))
    (tmp_path / "body").write_bytes(b"payload")
    sent = ("-d", str(tmp_path / "body"), "--trailer", "x-checksum: abc", "--no-content-length")
    answer = await nghttp(front, *sent, "-H", "te: trailers")
    assert answer.status == 0, answer.errors
    assert "x-back: abc" in answer.text


async def test_a_large_upload_and_padding(front: Front, tmp_path: Path) -> None:
    """Padding counts against the credit as much as the body does."""

    async def script(peer: Conversation, request: Request) -> None:
        await peer.respond(b"%d" % len(request.body))

    await front.proxy(await front.stage.server(script))
    (tmp_path / "body").write_bytes(bytes(8 * MIB))
    answer = await nghttp(front, "-b", "255", "-d", str(tmp_path / "body"))
    assert answer.status == 0, answer.errors
    assert re.search(rf"^{8 * MIB}", answer.text, re.MULTILINE)


async def test_a_body_too_large_gets_its_413(front: Front, tmp_path: Path) -> None:
    """The answer and its end first, then the word that the rest is not wanted. curl 7.88 takes that for an error."""
    await front.proxy(await front.stage.server(respond), route={"max_body": "1MiB"})
    (tmp_path / "body").write_bytes(bytes(8 * MIB))
    answer = await nghttp(front, "-d", str(tmp_path / "body"))
    received = re.findall(r"recv (?:\(stream_id=13\) )?(:status: 413|DATA|RST_STREAM)|(; END_STREAM)", answer.text)
    said = [first or second for first, second in received]
    assert said[-4:] == [":status: 413", "DATA", "; END_STREAM", "RST_STREAM"]
    assert "error_code=NO_ERROR" in answer.text.partition("recv RST_STREAM")[2]


@pytest.mark.parametrize("window", ["16", "30"], ids=["64KiB", "1GiB"])
async def test_h2load_is_served_without_an_error(front: Front, window: str) -> None:
    server = await front.stage.server(respond)
    proxy = await front.process(server)
    load = ("-n", str(ASKED), "-c", "4", "-m", "25", "-w", window, "-W", window)
    answer = await run("h2load", *load, f"{front.scheme}://{proxy.address}/some/path")
    assert answer.status == 0, answer.errors
    assert f"{ASKED} succeeded, 0 failed, 0 errored, 0 timeout" in answer.text
    assert f"status codes: {ASKED} 2xx, 0 3xx, 0 4xx, 0 5xx" in answer.text
    assert len(server.requests) == ASKED
    assert f"Application protocol: {'h2' if front.scheme == 'https' else 'h2c'}" in answer.text
