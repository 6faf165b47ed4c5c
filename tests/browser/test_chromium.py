"""Chromium loads a page with a hundred assets, uploads, and opens a WebSocket, all on one connection of HTTP/2."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from support.certificates import Certificates, make_certificates
from support.chromium import Chromium
from support.counted import counted
from support.echo_server import EchoServer
from support.page import DATA, IMAGES, SCRIPTS, UPLOAD, Page, asset
from support.proxies import ProxyProcess, eventually
from support.server import Server
from support.stage import Stage

UPLOADED = hashlib.sha256(bytes(at % 251 for at in range(UPLOAD))).hexdigest()
ASSETS = len(SCRIPTS) + len(IMAGES) + len(DATA)
#: Bytes that a client sends at most without having a request.
HANDSHAKE = 10_000
#: At the side of the page: its own document and an icon, the upload, the report.
OTHERS = {"/", "/favicon.ico", "/upload", "/report"}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certs"))


async def front(stage: Stage, certificates: Certificates, server: Server, echo: EchoServer) -> ProxyProcess:
    """A proxy that a browser may face: TLS, and the WebSockets go to a server of their own."""
    return await stage.process(
        server,
        listener={"tls": {"cert": str(certificates.cert), "key": str(certificates.key)}},
        routes=[{"path": "/", "pool": "main"}, {"path": "/socket", "pool": "echo"}],
        pools={
            "main": {"servers": [{"address": server.address}]},
            "echo": {"servers": [{"address": echo.address}]},
        },
        log={"access": "json", "access_path": str(stage.directory / "access.log")},
    )


def logged(directory: Path) -> list[dict[str, Any]]:
    """The lines of the access log."""
    return [json.loads(line) for line in (directory / "access.log").read_text().splitlines()]


async def test_a_page_with_a_hundred_assets_loads_over_one_connection(
    stage: Stage, certificates: Certificates
) -> None:
    """What the page has found, what went over the wire, what the proxy logged and what the server saw have to agree."""
    page = Page()
    server = await stage.server(page)
    async with EchoServer() as echo:
        proxy = await front(stage, certificates, server, echo)
        async with counted(proxy.address) as relay:
            url = f"https://localhost:{relay.address.rpartition(':')[2]}/"
            async with Chromium(url, certificates.cert, stage.directory / "profile") as browser:
                report = await page.report()
                await eventually(lambda: len(logged(stage.directory)) >= ASSETS + 4, 10, what="the log")
                assert browser.returncode is None
    check_report(report)
    # A browser may open a second one on suspicion; it closes it when it finds HTTP/2 on the first.
    assert len([sent for sent in relay.sent if sent > HANDSHAKE]) == 1, relay.sent
    assert len([target for target in server.targets() if target not in OTHERS]) == ASSETS
    lines = logged(stage.directory)
    assert {line["proto"] for line in lines} <= {"HTTP/2", "HTTP/2.0"}
    assert {line["outcome"] for line in lines if line["path"] != "/socket"} == {"ok"}
    assert [line["outcome"] for line in lines if line["path"] == "/socket"] == ["tunnel"]


def check_report(report: dict[str, Any]) -> None:
    """All that the page got is right, and it came over HTTP/2 as the browser itself sees it."""
    assert "error" not in report, report
    assert sorted(report["said"]) == list(SCRIPTS)
    assert report["widths"] == [number + 1 for number in IMAGES]
    assert report["data"] == [hashlib.sha256(asset(number)).hexdigest() for number in DATA]
    assert report["sent"] == [UPLOADED, UPLOADED]
    assert report["socket"] == {"got": ["", "text ✓", "x" * 200000], "code": 1000, "clean": True}
    # The document, the assets and the upload.
    assert len(report["protocols"]) >= ASSETS + 2
    assert set(report["protocols"].values()) == {"h2"}
