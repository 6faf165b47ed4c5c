"""curl as a client: `--http2` by ALPN, `--http2-prior-knowledge` without TLS."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from support.bulk import BLOCK, MIB, bulk, digest_of
from support.certificates import Certificates
from support.commands import Ran, run
from support.counted import counted
from support.h2_front import Front, only
from support.http import Request, chunked
from support.scripts import sends
from support.server import Conversation

SIZE = 200 * MIB


class Curl:
    """curl for which `localhost` is the proxy started last; it says the version of HTTP on its last line."""

    def __init__(self, front: Front) -> None:
        self.front = front

    def url(self, path: str = "/") -> str:
        """Of `path` at the proxy."""
        return f"{self.front.scheme}://localhost:{self.front.port}{path}"

    async def __call__(self, *arguments: str, path: str = "/", version: str = "", given: bytes = b"") -> Ran:
        if not version:
            version = "--http2" if self.front.scheme == "https" else "--http2-prior-knowledge"
        trust = ("--cacert", str(self.front.certificates.ca))
        always = ("-sS", *trust, "--ipv4", "-w", "\n%{http_version} %{response_code}\n", version)
        return await run("curl", *always, *arguments, self.url(path), given=given)


@pytest.fixture
def curl(front: Front) -> Curl:
    return Curl(front)


async def echo(peer: Conversation, request: Request) -> None:
    """Method and body back."""
    await peer.respond(f"{request.method} ".encode() + request.body)


async def test_get_post_and_head(curl: Curl) -> None:
    await curl.front.proxy(await curl.front.stage.server(echo))
    assert (await curl()).text == "GET \n2 200\n"
    assert (await curl("-d", "payload")).text == "POST payload\n2 200\n"
    assert (await curl("-T", "-", given=b"streamed")).text == "PUT streamed\n2 200\n"
    head = await curl("-I")
    assert head.text.startswith("HTTP/2 200")
    assert "content-length: 5\r\n" in head.text
    assert head.text.endswith("\n2 200\n")


async def test_requests_share_a_connection(secure: Front) -> None:
    """Through TLS: by prior knowledge curl 7.88 cannot send a second request on a connection."""
    server = await secure.stage.server(echo)
    proxy = await secure.proxy(server)
    async with counted(proxy.addresses[0]) as relay:
        secure.stage.address = relay.address
        curl = Curl(secure)
        answers = await curl("--parallel", "--parallel-max", "30", *(curl.url(f"/{number}") for number in range(30)))
    assert answers.status == 0, answers.errors
    assert answers.text.count("2 200\n") == 31
    assert len(server.requests) == 31
    assert len(relay.sent) == 1


async def test_uploads_arrive_whole(curl: Curl, tmp_path: Path) -> None:
    server = await curl.front.stage.server(bulk, read_body=False)
    await curl.front.proxy(server)
    with (tmp_path / "body").open("wb") as file:
        for _ in range(SIZE // len(BLOCK)):
            file.write(BLOCK)
        file.write(BLOCK[: SIZE % len(BLOCK)])
    name = str(tmp_path / "body")
    assert (await curl("-T", name)).text == f"{digest_of(SIZE)}\n2 200\n"
    assert server.requests[0].fields.get("Content-Length") == str(SIZE)


async def test_downloads_arrive_whole(curl: Curl) -> None:
    await curl.front.proxy(await curl.front.stage.server(bulk, read_body=False))
    answer = await curl(path=f"/{SIZE}")
    body, _, version = answer.output[:-1].rpartition(b"\n")
    assert version == b"2 200"
    assert hashlib.sha256(body).hexdigest() == digest_of(SIZE)


async def test_100_continue(curl: Curl) -> None:
    """curl waits for the 100 for longer than this test may take."""

    async def script(peer: Conversation, request: Request) -> None:
        await peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        length = int(request.fields.get("Content-Length") or 0)
        await peer.respond(await peer.read_exactly(length))

    await curl.front.proxy(await curl.front.stage.server(script, read_body=False))
    wait = ("-H", "Expect: 100-continue", "--expect100-timeout", "1000")
    answer = await curl(*wait, "-d", "payload", "-i")
    assert "HTTP/2 100" in answer.text
    assert answer.text.endswith("payload\n2 200\n")


async def test_103_and_trailers_are_shown(curl: Curl) -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = hints + head + chunked(b"body", trailers="X-Sum: def\r\n")
    await curl.front.proxy(await curl.front.stage.server(sends(answer)))
    said = (await curl("-i")).text
    assert "HTTP/2 103" in said
    assert "link: </a>" in said
    assert "body" in said
    assert "x-sum: def" in said


async def test_a_cut_answer_is_an_error_to_curl(curl: Curl) -> None:
    cut = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"
    await curl.front.proxy(await curl.front.stage.server(sends(cut, "close")))
    assert (await curl()).status == 92  # HTTP/2 stream was not closed cleanly


# Which protocol is spoken


async def test_alpn_may_leave_http_2_out(secure: Front) -> None:
    await secure.proxy(await secure.stage.server(echo), listener={"tls": {"alpn": ["http/1.1"]}})
    assert (await Curl(secure)()).text == "GET \n1.1 200\n"


async def test_a_client_without_http_2_gets_http_1(secure: Front) -> None:
    await secure.proxy(await secure.stage.server(echo))
    assert (await Curl(secure)(version="--http1.1")).text == "GET \n1.1 200\n"


async def test_both_versions_share_a_plain_port(plain: Front) -> None:
    server = await plain.stage.server(echo)
    await plain.proxy(server)
    curl = Curl(plain)
    assert (await curl(version="--http1.1")).text == "GET \n1.1 200\n"
    assert (await curl()).text == "GET \n2 200\n"
    # This one asks to be upgraded, which RFC 9113 has done away with: answered as it was asked.
    assert (await curl(version="--http2")).text == "GET \n1.1 200\n"
    assert [request.fields.get("HTTP2-Settings") for request in server.requests] == [None] * 3


async def test_prior_knowledge_needs_h2c(plain: Front) -> None:
    server = await plain.stage.server(echo)
    await plain.proxy(server, listener={"h2c": False})
    assert (await Curl(plain)()).status != 0
    assert (await Curl(plain)(version="--http1.1")).text == "GET \n1.1 200\n"
    assert only(server).version == "1.1"


async def test_prior_knowledge_on_a_tls_port_is_told_that_it_is_one(
    secure: Front, certificates: Certificates
) -> None:
    """Plain HTTP/2 on a TLS port ends, and the port goes on."""
    await secure.proxy(await secure.stage.server(echo))
    url = f"http://localhost:{secure.port}/"
    refused = await run("curl", "-sS", "--ipv4", "--http2-prior-knowledge", url)
    assert refused.status != 0
    assert (await Curl(secure)()).text == "GET \n2 200\n"
