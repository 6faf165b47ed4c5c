"""Both to a server: first the PROXY header, then TLS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support.certificates import make_certificates
from support.client import Client
from support.nginx import CONFIG, Nginx
from support.proxies import eventually, in_process, settings
from support.stage import Stage

NGINX = CONFIG.replace(
    "listen 127.0.0.1:{port};",
    "listen 127.0.0.1:{port} ssl proxy_protocol; ssl_certificate CERT; ssl_certificate_key KEY;",
).replace('return 200 "nginx";', 'return 200 "$https $proxy_protocol_addr $proxy_protocol_port";')


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("kind", ["http", "tcp"])
async def test_nginx_is_told_before_tls(stage: Stage, tmp_path: Path, version: str, kind: str) -> None:
    certificates = make_certificates(tmp_path / "certs")
    config = NGINX.replace("CERT", str(certificates.cert)).replace("KEY", str(certificates.key))
    async with Nginx(tmp_path / "nginx", config) as nginx:
        pool: dict[str, Any] = {
            "proxy_protocol": version,
            "tls": {"ca": str(certificates.ca), "server_name": "localhost"},
            "health": {"type": kind, "inter": "50ms"},
        }
        async with in_process(settings(nginx.address, pool=pool)) as proxy:
            stage.address = proxy.addresses[0]
            (server,) = proxy.pools["main"].servers
            clients: list[Client] = [await stage.connect() for _ in range(3)]
            for _ in range(3):
                for client in clients:
                    response = await client.request()
                    host, port = client.sock.getsockname()
                    assert response.body.decode() == f"on {host} {port}"
            assert server.tls_handshakes == 3
            await eventually(lambda: server.check_successes >= 3, 20.0, what="checks pass")
            assert server.check_failures == 0
