"""One look at a server: does it accept a connection, does it answer a GET as it should."""

from __future__ import annotations

import asyncio
import errno
import os
import ssl
import time
from dataclasses import dataclass

from vsproxy.config.pools import HealthConfig
from vsproxy.upstream.check_get import CheckGet, NoAnswer
from vsproxy.upstream.connect import establish
from vsproxy.upstream.opening import own_header
from vsproxy.upstream.server import Server
from vsproxy.upstream.tls import ClientTls, describe_failure

# What we lack says nothing about the server: without this, running out of descriptors would take every
# server down.
_OUR_OWN_TROUBLE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a check found. `passed` is None if it could not be carried out; `seconds` is how long it took."""

    passed: bool | None
    text: str
    seconds: float


class Probe:
    """Checks servers as one `HealthConfig` says.

    `introduces` is the version of the PROXY protocol that traffic begins with, or empty: a check of the port of the
    traffic begins with it too.
    """

    def __init__(self, config: HealthConfig, introduces: str = "") -> None:
        self._config = config
        self._introduces = introduces

    async def check(self, server: Server, tls: ClientTls | None = None) -> Outcome:
        """One check of `server`, over within `timeout`, with the `tls` of traffic unless the configuration has none.

        Raises nothing that a server could cause.
        """
        if self._config.tls is False:
            tls = None
        began = time.monotonic()
        passed: bool | None = False
        try:
            async with asyncio.timeout(self._config.effective_timeout):
                passed, text = await self._look(server, tls)
        except (OSError, NoAnswer) as error:
            text = describe(error)
            if isinstance(error, OSError) and error.errno in _OUR_OWN_TROUBLE:
                passed = None
        return Outcome(passed, text, time.monotonic() - began)

    async def _look(self, server: Server, tls: ClientTls | None) -> tuple[bool, str]:
        port = server.port and (self._config.port or server.port)
        # Another port is another service.
        introduces = self._introduces if port == server.port else ""
        if self._config.type == "tcp":
            await try_connect(server, port, tls, introduces)
            return True, "accepts connections"
        return await self._get(server, port, tls, introduces)

    async def _get(self, server: Server, port: int, tls: ClientTls | None, introduces: str) -> tuple[bool, str]:
        config = self._config
        request = (
            b"GET %b HTTP/1.1\r\nHost: %b\r\nUser-Agent: vsproxy-health\r\nAccept: */*\r\n"
            # The text is looked for in the bytes as they come.
            b"Accept-Encoding: identity\r\nConnection: close\r\n\r\n"
        ) % (config.path.encode("ascii"), config.host.encode("ascii") if config.host else server.host_field())
        get = CheckGet()
        try:
            await get.open(server, port, tls, own_header(introduces))
            status = await get.head(request)
            if not config.status.matches(status):
                return False, f"status {status}"
            if config.body is not None and not await get.contains(config.body.encode()):
                return False, f"status {status}, without the expected text"
            return True, f"status {status}"
        finally:
            get.close()


class _Opened(asyncio.Protocol):
    """A connection that is only to come to stand."""

    transport: asyncio.BaseTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: it stands."""
        self.transport = transport


async def try_connect(server: Server, port: int, tls: ClientTls | None = None, introduces: str = "") -> None:
    """Open a connection to `port` of `server` (0: its Unix socket), with `tls` a whole handshake, and close it.

    `introduces`: it begins with a PROXY header of this version. OSError if that fails.
    """
    opened = _Opened()
    transport = await establish(server, port, opened, tls, None, own_header(introduces))
    own, peer = transport.get_extra_info("sockname"), transport.get_extra_info("peername")
    opened.transport.close()
    if port and own == peer:
        # Nobody listens on that loopback port, and the kernel chose it for our end: TCP lets a socket
        # connect to itself.
        raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))


def describe(error: BaseException) -> str:
    """A failure in the few words that an operator looks for: `connection refused`, `timeout`."""
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, ssl.SSLError):
        # Its number is none of the system's.
        return describe_failure(error)
    number = error.errno if isinstance(error, OSError) else None
    return os.strerror(number).lower() if number else str(error) or type(error).__name__
