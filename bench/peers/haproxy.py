"""HAProxy, from Debian."""

from __future__ import annotations

from pathlib import Path

from bench.peers.base import Peer, Setup, find_program, first_line, lines

_COMBINED = (
    r'log-format "%ci - - [%trl] %{+Q}r %ST %B \"%[capture.req.hdr(0)]\" \"%[capture.req.hdr(1)]\""',
    "log global",
)


class Haproxy(Peer):
    """One process, `workers` threads."""

    name = "haproxy"
    config_name = "haproxy.cfg"

    def find(self) -> Path | None:
        return find_program("haproxy")

    def version(self) -> str:
        return first_line(self.program(), "-v").removeprefix("HAProxy version ").split(" - ")[0]

    def values(self, setup: Setup) -> dict[str, object]:
        tls = ""
        if setup.certificate:
            tls = f" ssl crt {setup.certificate.both}" + (" alpn h2,http/1.1" if setup.http2 else "")
        return {
            "PORT": setup.port,
            "CONNECTIONS": setup.most_connections,
            "WORKERS": setup.workers,
            "TLS": tls,
            "SCHEME": "https" if tls else "http",
            # Standard output is a file: a write per line, and no syslog daemon whose time nobody would count.
            "GLOBAL_LOG": "log stdout format raw local0" if setup.access_log else "",
            "LOG": lines(_COMBINED, 4) if setup.access_log else "",
            "SERVERS": lines((f"server s{number} {address}" for number, address in enumerate(setup.servers)), 4),
            "ROUTES": lines(self._routes(setup), 4),
        }

    def _routes(self, setup: Setup) -> list[str]:
        captures = ["capture request header Referer len 128", "capture request header User-Agent len 256"]
        found = captures if setup.access_log else []
        if setup.routes == 1:
            return [*found, "default_backend pool"]
        return [*found, f"use_backend %[path,map_beg({self._map(setup)})]"]

    def _map(self, setup: Setup) -> Path:
        return setup.directory / "haproxy.map"

    def write_config(self, setup: Setup) -> Path:
        if setup.routes > 1:
            self._map(setup).write_text("".join(f"{path} pool\n" for path in setup.prefixes))
        return super().write_config(setup)

    def command(self, config: Path, setup: Setup) -> list[str]:
        return [self.program(), "-db", "-f", str(config)]

    def check_command(self, config: Path) -> list[str]:
        return [self.program(), "-c", "-f", str(config)]
