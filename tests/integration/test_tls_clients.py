"""What clients of a TLS listener, and of the redirect beside it, meet."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest

from support.certificates import Certificates, make_certificates
from support.client import connect
from support.http import Request, request_bytes
from support.proxies import Settings
from support.server import Conversation, Server
from support.stage import Stage
from vsproxy import Proxy

HOST = "files.example"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certs"), HOST)


async def mirror(peer: Conversation, request: Request) -> None:
    """The request in the answer's body."""
    fields = [("X-Proto", request.fields.get("X-Forwarded-Proto") or ""), ("X-Target", request.target)]
    await peer.respond(f"{request.method} ".encode() + request.body, fields=fields)


def pair(certificates: Certificates, **tls: str) -> list[Settings]:
    """The guide's pair: TLS first, the redirect second."""
    files = {"cert": str(certificates.cert), "key": str(certificates.key), **tls}
    return [{"bind": "127.0.0.1:0", "tls": files}, {"bind": "127.0.0.1:0", "redirect": "https"}]


async def start(stage: Stage, certificates: Certificates, server: Server, **tls: str) -> Proxy:
    return await stage.proxy(server, listeners=pair(certificates, **tls))


async def curl(proxy: Proxy, certificates: Certificates, *arguments: str) -> tuple[int, str]:
    """curl for which `files.example` is the proxy; its exit status and output."""
    secure, plain = (address.rpartition(":")[2] for address in proxy.addresses[:2])
    hosts = ("--connect-to", f"{HOST}:443:127.0.0.1:{secure}", "--connect-to", f"{HOST}:80:127.0.0.1:{plain}")
    process = await asyncio.create_subprocess_exec(
        *("curl", "-sS", "--http1.1", "--noproxy", "*", "--cacert", str(certificates.ca), *hosts, *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_the_redirect_is_followed_to_the_same_target_with_the_same_method(
    stage: Stage, certificates: Certificates, method: str
) -> None:
    proxy = await start(stage, certificates, await stage.server(mirror))
    body = ("-d", "payload") if method == "POST" else ()
    status, output = await curl(proxy, certificates, "-L", "-i", *body, f"http://{HOST}/a%2Fb//c?q=1&r=%20")
    assert status == 0
    assert "308" in output.splitlines()[0]
    assert f"location: https://{HOST}/a%2Fb//c?q=1&r=%20" in output.lower().replace("%2f", "%2F")
    assert "X-Proto: https" in output
    assert "X-Target: /a%2Fb//c?q=1&r=%20" in output
    assert output.endswith(method + " " + ("payload" if body else ""))


async def test_the_redirect_answers_without_asking_a_server(stage: Stage, certificates: Certificates) -> None:
    server = await stage.server()
    proxy = await start(stage, certificates, server)
    async with await connect(proxy.addresses[1]) as client:
        for method in ("GET", "HEAD", "POST", "DELETE"):
            response = await client.request(method, "/x", host=f"{HOST}:80", body=b"1" if method == "POST" else None)
            assert (response.status, response.fields.get("Location")) == (308, f"https://{HOST}/x")
    assert server.targets() == []


@pytest.mark.parametrize(("versions", "works"), [(("1.3", "1.3"), True), (("1.2", "1.2"), False)])
async def test_min_version_is_kept(
    stage: Stage, certificates: Certificates, versions: tuple[str, str], works: bool
) -> None:
    proxy = await start(stage, certificates, await stage.server(mirror), min_version="1.3")
    wanted = (f"--tlsv{versions[0]}", "--tls-max", versions[1])
    status, output = await curl(proxy, certificates, *wanted, f"https://{HOST}/")
    assert (status, output) == (0, "GET ") if works else status == 35


async def test_a_client_that_does_not_trust_the_certificate_says_so(
    stage: Stage, certificates: Certificates, tmp_path: Path
) -> None:
    """And the listener goes on."""
    proxy = await start(stage, certificates, await stage.server(mirror))
    stranger = make_certificates(tmp_path / "stranger")
    assert (await curl(proxy, stranger, f"https://{HOST}/"))[0] == 60
    assert (await curl(proxy, certificates, f"https://{HOST}/"))[0] == 0


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
async def test_keepalive_and_pipelining_through_tls(
    stage: Stage, certificates: Certificates, version: ssl.TLSVersion
) -> None:
    server = await stage.server(mirror)
    proxy = await start(stage, certificates, server)
    context = certificates.client_context()
    context.minimum_version = context.maximum_version = version
    host, port = proxy.addresses[0].split(":")
    reader, writer = await asyncio.open_connection(host, int(port), ssl=context, server_hostname=HOST)
    for number in range(3):
        writer.write(b"".join(request_bytes(target=f"/{number}/{n}") for n in range(10)))
        for n in range(10):
            head = await reader.readuntil(b"\r\n\r\n")
            assert f"X-Target: /{number}/{n}\r\n".encode() in head
            assert await reader.readexactly(4) == b"GET "
    writer.close()
    assert server.connections == 1


@pytest.mark.parametrize(
    "request_",
    [request_bytes(), request_bytes("POST", body=bytes(200_000)), b"GET / HTTP/1.0\r\n\r\n", b"G"],
    ids=["get", "post-with-body", "http-1.0", "one-byte"],
)
async def test_plain_http_on_the_tls_port_gets_a_400_that_arrives(
    stage: Stage, certificates: Certificates, request_: bytes
) -> None:
    server = await stage.server()
    proxy = await start(stage, certificates, server)
    async with await connect(proxy.addresses[0]) as client:
        response = await client.raw(request_)
        assert response.status == 400
        assert response.fields.has_token("Connection", "close")
        assert b"https" in response.body.lower()
        assert await client.wait_closed() == "fin"
    assert server.targets() == []


async def test_plain_http_in_one_connection_does_not_hold_up_the_others(
    stage: Stage, certificates: Certificates
) -> None:
    proxy = await start(stage, certificates, await stage.server(mirror))
    silent = [await connect(proxy.addresses[0]) for _ in range(20)]
    assert (await curl(proxy, certificates, f"https://{HOST}/"))[0] == 0
    for client in silent:
        client.close()


async def test_a_client_hello_in_single_bytes_is_understood(stage: Stage, certificates: Certificates) -> None:
    proxy = await start(stage, certificates, await stage.server(mirror))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = certificates.client_context().wrap_bio(incoming, outgoing, server_hostname=HOST)
    async with await connect(proxy.addresses[0]) as client:

        async def step(work: object, *arguments: object) -> object:
            while True:
                try:
                    return work(*arguments)  # type: ignore[operator]
                except ssl.SSLWantReadError:
                    for byte in outgoing.read():
                        await client.send(bytes([byte]))
                    data = await client.recv()
                    assert data
                    incoming.write(data)

        await step(tls.do_handshake)
        await step(tls.write, request_bytes())
        answer = await step(tls.read, 65536)
    assert isinstance(answer, bytes)
    assert answer.startswith(b"HTTP/1.1 200 ")


async def test_a_tls_alert_after_garbage_or_silence_but_never_a_hang(stage: Stage, certificates: Certificates) -> None:
    """A record that is no ClientHello ends the connection, and so does a FIN in the middle of one."""
    proxy = await start(stage, certificates, await stage.server(mirror))
    async with await connect(proxy.addresses[0]) as client:
        await client.send(b"\x16\x03\x01\x00\x05hello")
        assert await client.wait_closed()
    async with await connect(proxy.addresses[0]) as client:
        await client.send(b"\x16\x03\x01\x02\x00\x01")
        client.half_close()
        assert await client.wait_closed()


async def test_every_listener_shares_the_pool(stage: Stage, certificates: Certificates) -> None:
    server = await stage.server(mirror)
    proxy = await stage.proxy(server, listeners=[*pair(certificates), {"bind": "127.0.0.1:0"}])
    async with await connect(proxy.addresses[2]) as client:
        response = await client.request()
    assert response.fields.get("X-Proto") == "http"
    assert (await curl(proxy, certificates, "-i", f"https://{HOST}/"))[1].count("X-Proto: https") == 1
    assert proxy.pools["main"].servers[0].requests == 2
