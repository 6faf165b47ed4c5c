"""nginx from Debian as a server: one process, to be killed and started again on the same port."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
from pathlib import Path
from typing import Self

from support.ports import Ports
from support.proxies import eventually

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")

CONFIG = """
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{
        listen 127.0.0.1:{port};
        keepalive_requests 1000000;
        location / {{ root {directory}; try_files $uri @name; }}
        location @name {{ return 200 "nginx"; }}
    }}
}}
"""


class Nginx:
    """The process, as an asynchronous context. Answers `nginx`, or the file in `directory` that is asked for.

    Another `config` may be given; `{directory}` and `{port}` are filled in. `port` is one that the caller keeps.
    """

    def __init__(self, directory: Path, config: str = CONFIG, port: int = 0) -> None:
        self.directory = directory
        self.config = config
        directory.mkdir()
        self._ports = Ports()
        self.port = port or self._ports.take()
        self._process: asyncio.subprocess.Process | None = None

    @property
    def address(self) -> str:
        """`host:port`, for the configuration."""
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Start it and wait until it accepts."""
        assert NGINX is not None
        config = self.directory / "nginx.conf"
        config.write_text(self.config.format(directory=self.directory, port=self.port))
        # Debian's default error log is opened before the configuration is read; -e keeps to ours.
        arguments = ("-p", str(self.directory), "-e", "stderr", "-c", str(config))
        self._process = await asyncio.create_subprocess_exec(NGINX, *arguments)
        await eventually(self._accepts, 10.0, what="nginx accepts")

    def _accepts(self) -> bool:
        assert self._process is not None
        assert self._process.returncode is None, "nginx ended"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    async def kill(self) -> None:
        """SIGKILL: the kernel closes or resets its connections, new ones are refused."""
        if self._process and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        with self._ports, contextlib.suppress(ProcessLookupError):
            await self.kill()
