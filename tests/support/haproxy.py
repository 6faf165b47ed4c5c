"""HAProxy, as a front that sends PROXY headers and as a server that wants them."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
from pathlib import Path
from typing import Self

from support.ports import Ports
from support.proxies import eventually

HAPROXY = shutil.which("haproxy", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")

_COMMON = """
global
    maxconn 500
defaults
    timeout connect 20s
    timeout client 60s
    timeout server 60s
"""
#: `{target}` is where to, `{options}` are those of the server.
FRONT = _COMMON + """
listen front
    mode tcp
    bind 127.0.0.1:{port}
    server s {target} {options}
"""
#: Answers who the client is, and where it connected to.
SERVER = _COMMON + """
frontend server
    mode http
    bind 127.0.0.1:{port} accept-proxy
    http-request return status 200 content-type text/plain lf-string "%[src] %[src_port] %[dst] %[dst_port]"
"""


class HAProxy:
    """The process, as an asynchronous context, with one of the configurations above and what is filled into it."""

    def __init__(self, directory: Path, config: str, **values: str) -> None:
        self._ports = Ports()
        self.port = self._ports.take()
        self._file = directory / f"haproxy-{self.port}.cfg"
        self._file.write_text(config.format(port=self.port, **values))
        self._process: asyncio.subprocess.Process | None = None

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"127.0.0.1:{self.port}"

    def _accepts(self) -> bool:
        assert self._process is not None
        assert self._process.returncode is None, "haproxy ended"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    async def __aenter__(self) -> Self:
        assert HAPROXY is not None
        self._process = await asyncio.create_subprocess_exec(HAPROXY, "-db", "-f", str(self._file))
        await eventually(self._accepts, 20.0, what="haproxy accepts")
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._process is not None
        with self._ports, contextlib.suppress(ProcessLookupError):
            self._process.kill()
            await self._process.wait()
