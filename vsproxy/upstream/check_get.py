"""The GET of an active check, on a connection of its own, read as strictly as the answers to traffic."""

from __future__ import annotations

import asyncio
from typing import Any

from vsproxy.errors import BadMessage, VsproxyError
from vsproxy.upstream.connect import establish
from vsproxy.upstream.opening import Header
from vsproxy.upstream.server import Server
from vsproxy.upstream.tls import ClientTls
from vsproxy.wire.body import BodyReader
from vsproxy.wire.message import ResponseHead
from vsproxy.wire.response import ResponseParser, response_body_mode

#: Bytes read at once.
PIECE = 16 * 1024
#: Of an answer in which a text is looked for, no more bytes than this are read.
MAX_BODY = 64 * 1024


class NoAnswer(VsproxyError):
    """What came is no answer, or not a whole one; the text says why in a few words."""


class _Answer(asyncio.StreamReaderProtocol):
    """The protocol of the connection; `transport` is what it is spoken on, which may be inside of another."""

    transport: asyncio.Transport | None = None

    def connection_made(self, transport: Any) -> None:
        """asyncio: the connection stands."""
        self.transport = transport
        super().connection_made(transport)


class CheckGet:
    """One GET: `open`, `head`, perhaps `contains`, and in any case `close`."""

    def __init__(self) -> None:
        self._reader = asyncio.StreamReader(PIECE)
        self._protocol = _Answer(self._reader)
        self._head = ResponseHead()
        self._rest = b""

    async def open(self, server: Server, port: int, tls: ClientTls | None, header: Header | None) -> None:
        """Connect; the arguments are those of `establish`. Raises OSError."""
        await establish(server, port, self._protocol, tls, None, header)

    async def head(self, request: bytes) -> int:
        """Send `request`; the status of the answer, 1xx aside except 101. Raises NoAnswer or OSError."""
        transport = self._protocol.transport
        assert transport is not None, "not open"
        transport.write(request)
        parser = ResponseParser()
        data, pos = b"", 0
        while True:
            try:
                head = parser.parse(data, pos)
            except BadMessage:
                raise NoAnswer("not an HTTP answer") from None
            if head is None:
                seen = len(data) > 0
                data, pos = await self._reader.read(PIECE), 0
                if not data:
                    raise NoAnswer("the answer broke off" if seen else "closed without an answer")
            elif head.status >= 200 or head.status == 101:
                self._head, self._rest = head, data[parser.end :]
                return head.status
            else:
                pos = parser.end

    async def contains(self, wanted: bytes) -> bool:
        """Whether `wanted` is in the first `MAX_BODY` bytes of the body; reads no further than it has to.

        Raises NoAnswer or OSError.
        """
        body = BodyReader(502)
        body.start(response_body_mode(self._head, b"GET"), self._head.content_length)
        seen = bytearray()
        data = self._rest
        while True:
            try:
                seen += body.feed(data, 0)[: MAX_BODY - len(seen)]
            except BadMessage:
                raise NoAnswer("not an HTTP answer") from None
            if wanted in seen:
                return True
            if body.done or len(seen) >= MAX_BODY:
                return False
            data = await self._reader.read(PIECE)
            if not data:
                if body.eof():
                    return False
                raise NoAnswer("the answer broke off")

    def close(self) -> None:
        """Close, whatever is still to come."""
        if self._protocol.transport is not None:
            self._protocol.transport.abort()
