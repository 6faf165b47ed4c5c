"""A new certificate is for new connections; the old ones live on."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path

import pytest

from support.certificates import Certificates, make_certificates
from support.http import request_bytes
from support.proxies import settings
from support.stage import Stage

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def dial(address: str, trusted: Certificates) -> Stream:
    host, port = address.split(":")
    return await asyncio.open_connection(
        host, int(port), ssl=trusted.client_context(), server_hostname="localhost"
    )


async def ask(stream: Stream) -> bytes:
    """The head of the answer to one request."""
    reader, writer = stream
    writer.write(request_bytes())
    head = await reader.readuntil(b"\r\n\r\n")
    assert await reader.readexactly(len("server1")) == b"server1"
    return head


def closes(head: bytes) -> bool:
    return b"connection: close" in head.lower()


def replace(files: Certificates, by: Certificates) -> None:
    """What a renewal does: the same names, other contents."""
    for old, new in ((files.cert, by.cert), (files.key, by.key)):
        old.write_bytes(new.read_bytes())


async def test_renewed_files_are_for_new_connections(stage: Stage, tmp_path: Path) -> None:
    files, renewed = make_certificates(tmp_path / "used"), make_certificates(tmp_path / "renewed")
    listener = {"tls": {"cert": str(files.cert), "key": str(files.key)}}
    config = settings(await stage.server(), listener=listener, proxy={"workers": 2})
    process = await stage.run(config)
    before = [await dial(stage.address, files) for _ in range(6)]
    for stream in before:
        assert b" 200 " in await ask(stream)
    replace(files, renewed)
    assert (await process.reload())["ok"]
    after = [await dial(stage.address, renewed) for _ in range(6)]
    for stream in after:
        assert not closes(await ask(stream))
    with pytest.raises(ssl.SSLError):
        await dial(stage.address, files)
    for stream in before:
        assert b" 200 " in await ask(stream)
    # A pair that does not fit together is refused, and the last good one stays.
    files.key.write_bytes(make_certificates(tmp_path / "other").key.read_bytes())
    answer = await process.reload()
    assert not answer["ok"]
    assert str(files.key) in "".join(answer["problems"])
    assert b" 200 " in await ask(await dial(stage.address, renewed))
    for _, writer in (*before, *after):
        writer.close()


async def test_a_reload_without_a_new_certificate_keeps_sessions_and_connections(
    stage: Stage, tmp_path: Path
) -> None:
    files = make_certificates(tmp_path / "used")
    listener = {"tls": {"cert": str(files.cert), "key": str(files.key), "min_version": "1.2"}}
    config = settings(await stage.server(), listener=listener, proxy={"workers": 2})
    process = await stage.run(config)
    context = files.client_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # its tickets are there with the handshake
    host, port = stage.address.split(":")
    kept = await asyncio.open_connection(host, int(port), ssl=context, server_hostname="localhost")
    assert b" 200 " in await ask(kept)
    session = kept[1].get_extra_info("ssl_object").session
    assert (await process.reload(config | {"routes": [{"path": "/", "pool": "main", "max_body": 5}]}))["ok"]
    assert not closes(await ask(kept))
    # As many as it takes to meet both workers: tickets are good in each.
    resumed = [await asyncio.to_thread(resume, stage.address, context, session) for _ in range(8)]
    assert all(resumed)
    kept[1].close()


def resume(address: str, context: ssl.SSLContext, session: ssl.SSLSession) -> bool:
    """Whether a connection with this session was spared the whole handshake."""
    host, port = address.split(":")
    with socket.create_connection((host, int(port))) as plain:
        with context.wrap_socket(plain, server_hostname="localhost", session=session) as secure:
            return bool(secure.session_reused)
