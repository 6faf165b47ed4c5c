"""vsproxy, as it is installed for a given Python."""

from __future__ import annotations

import shutil
from pathlib import Path

from bench.peers.base import Peer, Setup, first_line, lines

NAME = "vsproxy"


class Vsproxy(Peer):
    """A supervisor, one control process, `workers` workers."""

    name = NAME
    config_name = "vsproxy.toml"

    def __init__(self, python: str) -> None:
        self._python = python

    def find(self) -> Path | None:
        found = shutil.which(self._python)
        return Path(found) if found else None

    def version(self) -> str:
        # -P: the installed one, and not the sources that may be in the current folder.
        return first_line(self.program(), "-P", "-m", "vsproxy", "--version").removeprefix("vsproxy ")

    def values(self, setup: Setup) -> dict[str, object]:
        certificate = setup.certificate
        tls = f'tls = {{ cert = "{certificate.certificate}", key = "{certificate.key}" }}' if certificate else ""
        return {
            "DIR": setup.directory,
            "PORT": setup.port,
            "KEEPALIVE": setup.keepalive,
            "WORKERS": setup.workers,
            "ACCESS": "combined" if setup.access_log else "off",
            "TLS": tls,
            "SERVERS": lines((f'{{ address = "{server}" }},' for server in setup.servers), 4),
            "ROUTES": "\n".join(f'[[routes]]\npath = "{path}"\npool = "pool"\n' for path in setup.prefixes),
        }

    def command(self, config: Path, setup: Setup) -> list[str]:
        return [self.program(), "-P", "-m", "vsproxy", "--config", str(config)]

    def check_command(self, config: Path) -> list[str]:
        return [self.program(), "-P", "-m", "vsproxy", "check", str(config)]
