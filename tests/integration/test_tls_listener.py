"""TLS on a listener: versions, transfers, plain HTTP on its port, the redirect listener."""

from __future__ import annotations

import asyncio
import hashlib
import random
from pathlib import Path

import pytest

from support.certificates import make_certificates
from support.client import connect
from support.http import Request
from support.proxies import in_process, settings
from support.server import Conversation, Script
from support.stage import Stage

BODY = hashlib.sha256(b"tls").digest() * (1 << 19)  # 16 MiB


async def large(peer: Conversation, request: Request) -> None:
    await peer.respond(BODY)


def digesting(seen: list[bytes]) -> Script:
    """Puts the digest of each request's body into `seen`."""

    async def take(peer: Conversation, request: Request) -> None:
        seen.append(hashlib.sha256(request.body).digest())
        await peer.respond(b"ok")

    return take


async def curl(*arguments: str) -> tuple[int, bytes]:
    process = await asyncio.create_subprocess_exec("curl", "-sS", *arguments, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output


async def test_uploads_at_once_through_tls_are_not_mixed_up(stage: Stage, tmp_path: Path) -> None:
    """All are read through the same buffers."""
    seen: list[bytes] = []
    certificates = make_certificates(tmp_path / "certs")
    server = await stage.server(digesting(seen))
    bodies = [random.Random(number).randbytes(4 * 1024 * 1024 + number) for number in range(6)]
    for number, body in enumerate(bodies):
        (tmp_path / str(number)).write_bytes(body)
    async with in_process(settings(server, listener={"tls": certificates.tls})) as proxy:
        url = f"https://{proxy.addresses[0]}/x"
        uploads = [curl("--cacert", str(certificates.ca), "-T", str(tmp_path / str(n)), url) for n in range(6)]
        assert await asyncio.gather(*uploads) == [(0, b"ok")] * 6
    assert sorted(seen) == sorted(hashlib.sha256(body).digest() for body in bodies)


@pytest.mark.parametrize("version", ["1.2", "1.3"])
async def test_curl_gets_a_large_body_through_tls(stage: Stage, tmp_path: Path, version: str) -> None:
    certificates = make_certificates(tmp_path / "certs")
    server = await stage.server(large)
    async with in_process(settings(server, listener={"tls": certificates.tls})) as proxy:
        status, body = await curl(
            "--cacert", str(certificates.ca), f"--tlsv{version}", "--tls-max", version, f"https://{proxy.addresses[0]}/"
        )
    assert status == 0
    assert hashlib.sha256(body).digest() == hashlib.sha256(BODY).digest()


async def test_an_upload_through_tls_arrives_whole(stage: Stage, tmp_path: Path) -> None:
    seen: list[bytes] = []
    certificates = make_certificates(tmp_path / "certs")
    server = await stage.server(digesting(seen))
    file = tmp_path / "body"
    file.write_bytes(BODY)
    async with in_process(settings(server, listener={"tls": certificates.tls})) as proxy:
        status, body = await curl("--cacert", str(certificates.ca), "-T", str(file), f"https://{proxy.addresses[0]}/x")
    assert (status, body) == (0, b"ok")
    assert seen == [hashlib.sha256(BODY).digest()]


async def test_plain_http_on_the_tls_port_is_told_so(stage: Stage, tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path / "certs")
    server = await stage.server()
    async with in_process(settings(server, listener={"tls": certificates.tls})) as proxy:
        async with await connect(proxy.addresses[0]) as client:
            response = await client.request()
    assert response.status == 400
    assert server.targets() == []


async def test_the_redirect_listener_keeps_host_and_target(stage: Stage) -> None:
    server = await stage.server()
    await stage.proxy(server, listener={"redirect": "https"})
    response = await stage.get("/a%2Fb?q=1", host="files.example:8080")
    assert response.status == 308
    assert response.fields.get("location") == "https://files.example/a%2Fb?q=1"


async def test_tls_11_is_refused(stage: Stage, tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path / "certs")
    async with in_process(settings(await stage.server(), listener={"tls": certificates.tls})) as proxy:
        status, _ = await curl("-k", "--tls-max", "1.1", "--ciphers", "ALL@SECLEVEL=0", f"https://{proxy.addresses[0]}/")
    assert status == 35
