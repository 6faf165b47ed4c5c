"""nginx, from Debian."""

from __future__ import annotations

from pathlib import Path

from bench.peers.base import Peer, Setup, find_program, first_line, lines

_TLS = (
    "ssl_certificate {certificate};",
    "ssl_certificate_key {key};",
    "ssl_protocols TLSv1.2 TLSv1.3;",
    "ssl_session_cache shared:tls:10m;",
    "ssl_session_timeout 2h;",
)


class Nginx(Peer):
    """One master, `workers` workers."""

    name = "nginx"
    config_name = "nginx.conf"

    def find(self) -> Path | None:
        return find_program("nginx")

    def version(self) -> str:
        return first_line(self.program(), "-v").removeprefix("nginx version: ")

    def values(self, setup: Setup) -> dict[str, object]:
        certificate = setup.certificate
        tls: list[str] = []
        if certificate:
            tls = [line.format(certificate=certificate.certificate, key=certificate.key) for line in _TLS]
        log = f"{setup.directory}/nginx-access.log combined buffer=64k flush=1s" if setup.access_log else "off"
        return {
            "DIR": setup.directory,
            "PORT": setup.port,
            # As soon as fewer than a sixteenth are free, nginx closes clients that have just connected.
            "CONNECTIONS": setup.most_connections * 9 // 4,
            "WORKERS": setup.workers,
            "ACCESS_LOG": log,
            "KEEPALIVE": setup.keepalive * len(setup.servers),
            "LISTEN": (" ssl" if tls else "") + (" http2" if setup.http2 else ""),
            "TLS": lines(tls, 8),
            "SERVERS": lines((f"server {server} max_fails=3 fail_timeout=10s;" for server in setup.servers), 8),
            "ROUTES": lines((f"location {path} {{ proxy_pass http://pool; }}" for path in setup.prefixes), 8),
        }

    def command(self, config: Path, setup: Setup) -> list[str]:
        # Debian's error log is opened before the configuration is read, unless -e names another.
        return [self.program(), "-e", "stderr", "-p", str(setup.directory), "-c", str(config)]

    def check_command(self, config: Path) -> list[str]:
        return [self.program(), "-e", "stderr", "-p", str(config.parent), "-t", "-c", str(config)]
