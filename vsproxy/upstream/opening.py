"""A bare connection to a server, which begins with a PROXY header where one is wanted: whatever follows, TLS too."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from vsproxy.introduction import client_ends
from vsproxy.wire.proxy_header import block_of, line_of

#: What to begin with on a connection that stands.
Header = Callable[[asyncio.Transport], bytes]


async def open_connection(
    host: str, port: int, protocol: Any, header: Header | None = None
) -> asyncio.Transport:
    """Connect `protocol`, which needs no base class, to `port` of `host`; 0: to the Unix socket of that path.

    Raises an OSError.
    """
    loop = asyncio.get_running_loop()

    def factory() -> asyncio.Protocol:
        # asyncio calls the methods by name, and a compiled class cannot have its base class.
        first: asyncio.Protocol = protocol if header is None else _Opening(protocol, header)
        return first

    if port == 0:
        transport, _ = await loop.create_unix_connection(factory, host)
    else:
        transport, _ = await loop.create_connection(factory, host, port)
    return transport


class _Opening(asyncio.Protocol):
    """Sends the header before the protocol that follows hears of the connection."""

    def __init__(self, protocol: Any, header: Header) -> None:
        self._protocol = protocol
        self._header = header

    def connection_made(self, transport: Any) -> None:
        """asyncio: the connection stands."""
        transport.write(self._header(transport))
        transport.set_protocol(self._protocol)
        self._protocol.connection_made(transport)


def own_header(version: str) -> Header | None:
    """For a connection in nobody's name, as of a check; `version` is `v1`, `v2`, or empty: None.

    Version 2 has LOCAL for it. Version 1 has only UNKNOWN, which some servers refuse: it says our own address, as the
    specification recommends in section 2.1.
    """
    if version == "v2":
        return lambda transport: block_of(None)
    return _own_line if version else None


def _own_line(transport: asyncio.Transport) -> bytes:
    try:
        ends = client_ends(transport)
    except ConnectionError:
        # Whatever is said, nobody hears it.
        return line_of(None)
    if ends is None:
        return line_of(None)
    return line_of(ends._replace(
        source=ends.destination, source_port=ends.destination_port,
        destination=ends.source, destination_port=ends.source_port,
    ))  # fmt: skip
