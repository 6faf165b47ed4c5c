"""`openssl s_client`: what ALPN agrees on, and the first frames by hand."""

from __future__ import annotations

import asyncio

import pytest

from support.commands import run
from support.h2_front import Front

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\0\0\0\4\0\0\0\0\0"


async def agreed(front: Front, offered: str) -> str:
    """The line of s_client about ALPN."""
    address = f"127.0.0.1:{front.port}"
    answer = await run("openssl", "s_client", "-connect", address, "-servername", "localhost", "-alpn", offered)
    return next(line for line in answer.text.splitlines() if "ALPN" in line)


@pytest.mark.parametrize(
    ("alpn", "offered", "wanted"),
    [
        (None, "h2,http/1.1", "ALPN protocol: h2"),
        (None, "http/1.1,h2", "ALPN protocol: h2"),
        (None, "h2", "ALPN protocol: h2"),
        (None, "http/1.1", "ALPN protocol: http/1.1"),
        (["http/1.1"], "h2,http/1.1", "ALPN protocol: http/1.1"),
        (["h2"], "h2,http/1.1", "ALPN protocol: h2"),
    ],
)
async def test_alpn(secure: Front, alpn: list[str] | None, offered: str, wanted: str) -> None:
    await secure.proxy(await secure.stage.server(), listener={"tls": {"alpn": alpn}} if alpn else {})
    assert await agreed(secure, offered) == wanted


async def test_the_first_frame_is_settings(secure: Front) -> None:
    """RFC 9113 section 3.4; the client's own are acknowledged."""
    await secure.proxy(await secure.stage.server())
    process = await asyncio.create_subprocess_exec(
        *("openssl", "s_client", "-quiet", "-connect", f"127.0.0.1:{secure.port}", "-alpn", "h2"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdin
    assert process.stdout
    process.stdin.write(PREFACE + SETTINGS)
    frames = []
    async with asyncio.timeout(20):
        while (4, 1) not in frames:
            head = await process.stdout.readexactly(9)
            await process.stdout.readexactly(int.from_bytes(head[:3]))
            assert head[5:] == bytes(4)
            frames.append((head[3], head[4]))
    assert frames[0] == (4, 0)
    process.kill()
    await process.wait()
