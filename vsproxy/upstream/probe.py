"""One look at a server: does it accept a connection, does it answer a GET as it should."""

from __future__ import annotations

import asyncio
import errno
import os
import ssl
import time
from dataclasses import dataclass

import aiohttp
from yarl import URL

from vsproxy.config.pools import HealthConfig
from vsproxy.upstream.connect import establish
from vsproxy.upstream.server import Server
from vsproxy.upstream.tls import ClientTls, describe_failure

#: Of an answer in which a text is looked for, no more than this is read.
MAX_BODY = 64 * 1024
#: Longest line of an answer's head.
MAX_LINE = 64 * 1024
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
    """Checks servers as one `HealthConfig` says. Has to be made in a running loop and closed."""

    def __init__(self, config: HealthConfig) -> None:
        self._config = config
        self._sessions: dict[str, aiohttp.ClientSession] = {}

    async def close(self) -> None:
        """Close what checks have left open."""
        sessions = list(self._sessions.values())
        self._sessions.clear()
        for session in sessions:
            await session.close()

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
        except TimeoutError:
            text = "timeout"
        except (OSError, aiohttp.ClientError) as error:
            number = _errno(error)
            text = describe(error)
            if number in _OUR_OWN_TROUBLE:
                passed = None
        return Outcome(passed, text, time.monotonic() - began)

    async def _look(self, server: Server, tls: ClientTls | None) -> tuple[bool, str]:
        port = server.port and (self._config.port or server.port)
        if self._config.type == "tcp":
            await try_connect(server, port, tls)
            return True, "accepts connections"
        return await self._get(server, port, tls)

    async def _get(self, server: Server, port: int, tls: ClientTls | None) -> tuple[bool, str]:
        config = self._config
        authority = f"[{server.host}]:{port}" if ":" in server.host else f"{server.host}:{port}"
        named = server.host_field().decode("latin-1")
        response = await self._session(server).get(
            URL(
                f"{'http' if tls is None else 'https'}://{authority if port else 'localhost'}{config.path}",
                encoded=True,
            ),
            ssl=True if tls is None else tls.context,
            server_hostname=None if tls is None else tls.name_of(server),
            headers={
                "Host": config.host or named,
                "User-Agent": "vsproxy-health",
                # The text is looked for in the bytes as they come.
                "Accept-Encoding": "identity",
            },
            allow_redirects=False,
        )
        try:
            if not config.status.matches(response.status):
                return False, f"status {response.status}"
            if config.body is not None and not await _contains(response, config.body.encode()):
                return False, f"status {response.status}, without the expected text"
            return True, f"status {response.status}"
        finally:
            # Not `release`, which would wait for the rest of the body.
            response.close()

    def _session(self, server: Server) -> aiohttp.ClientSession:
        """TCP servers share a session; each Unix socket has its own, for the path is its connector's."""
        key = server.host if server.port == 0 else ""
        session = self._sessions.get(key)
        if session is None:
            connector: aiohttp.BaseConnector
            if server.port == 0:
                connector = aiohttp.UnixConnector(server.host, force_close=True, limit=0)
            else:
                connector = aiohttp.TCPConnector(force_close=True, limit=0)
            session = self._sessions[key] = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                # `check` keeps the time; aiohttp's own limits would be rounded and differ.
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
                auto_decompress=False,
                max_line_size=MAX_LINE,
                max_field_size=MAX_LINE,
            )
        return session


async def _contains(response: aiohttp.ClientResponse, wanted: bytes) -> bool:
    """Whether `wanted` is in the first `MAX_BODY` bytes; reads no further than it has to."""
    seen = bytearray()
    while wanted not in seen:
        part = await response.content.read(MAX_BODY - len(seen))
        if not part:
            return False
        seen += part
    return True


class _Opened(asyncio.Protocol):
    """A connection that is only to come to stand."""

    transport: asyncio.BaseTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: it stands."""
        self.transport = transport


async def try_connect(server: Server, port: int, tls: ClientTls | None = None) -> None:
    """Open a connection to `port` of `server` (0: its Unix socket), with `tls` a whole handshake, and close it.

    OSError if that fails.
    """
    opened = _Opened()
    transport = await establish(server, port, opened, tls, None)
    own, peer = transport.get_extra_info("sockname"), transport.get_extra_info("peername")
    opened.transport.close()
    if port and own == peer:
        # Nobody listens on that loopback port, and the kernel chose it for our end: TCP lets a socket
        # connect to itself.
        raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))


def _cause(error: BaseException) -> BaseException:
    """What aiohttp has wrapped."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return error.certificate_error
    return error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error


def _errno(error: BaseException) -> int | None:
    error = _cause(error)
    return error.errno if isinstance(error, OSError) else None


def describe(error: BaseException) -> str:
    """A failure in the few words that an operator looks for: `connection refused`, `timeout`."""
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "closed without an answer"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "the answer broke off"
    if isinstance(error, aiohttp.ClientResponseError):
        return "not an HTTP answer"
    if isinstance(_cause(error), ssl.SSLError):
        # Its number is none of the system's.
        return describe_failure(_cause(error))
    number = _errno(error)
    return os.strerror(number).lower() if number else str(error) or type(error).__name__
