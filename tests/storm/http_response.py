"""Reading one response of HTTP/1.1 strictly. Whatever is wrong with it is `Broken`, by a name of its own:

`silent` no byte for `PATIENCE`; `unanswered` the connection ended before the first byte; `broken head`;
`truncated` it ended within the body, and the framing shows it; `bad chunk`; `status`; `corrupt` whole by its
framing, but not what it should be.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from storm.broken import Broken
from storm.content import Expected

#: Seconds without a byte after which an exchange has failed.
PATIENCE = 20.0
SLICE = 65536
#: Bodies up to this size are kept.
SMALL = 4096


@dataclass(slots=True)
class Response:
    """A response as far as it has come; `body` holds it only if it is small."""

    status: int
    fields: dict[str, str]
    length: int = 0
    body: bytes = b""
    sha256: str = ""

    @property
    def server(self) -> str:
        """Who answered: what each server of the storm puts into `X-Server`; empty for the proxy itself."""
        return self.fields.get("x-server", "")

    @property
    def keeps(self) -> bool:
        """Whether the connection may be used again."""
        return "close" not in self.fields.get("connection", "").lower()


@dataclass(slots=True)
class ResponseReader:
    """Reads responses from one connection."""

    reader: asyncio.StreamReader

    async def read(self, expected: Expected | None) -> Response:
        """The next response, whole, with status 200 and the body that is `expected`."""
        response = parse_head(await self._head())
        digest = hashlib.sha256()
        try:
            async for piece in self._body(response):
                digest.update(piece)
                response.length += len(piece)
                if response.length <= SMALL:
                    response.body += piece
        except TimeoutError as error:
            raise Broken("silent", f"after {response.length} bytes", server=response.server) from error
        except (asyncio.IncompleteReadError, OSError) as error:
            detail = f"after {response.length} bytes, {type(error).__name__}, status {response.status}"
            raise Broken("truncated", detail, server=response.server) from error
        except ValueError as error:
            raise Broken("bad chunk", error, server=response.server) from error
        if response.status != 200:
            raise Broken(f"status {response.status}", response.body[:200], server=response.server)
        response.sha256 = digest.hexdigest()
        if expected is not None and Expected(response.length, response.sha256) != expected:
            detail = f"{response.length} bytes of {expected.length}"
            raise Broken("corrupt", detail, server=response.server, visible=False)
        return response

    async def _head(self) -> bytes:
        try:
            async with asyncio.timeout(PATIENCE):
                return await self.reader.readuntil(b"\r\n\r\n")
        except TimeoutError as error:
            raise Broken("silent", f"no head in {PATIENCE:g} s") from error
        except asyncio.IncompleteReadError as error:
            raise Broken("broken head" if error.partial else "unanswered", error.partial or "end") from error
        except OSError as error:
            raise Broken("unanswered", error) from error

    async def _body(self, response: Response) -> AsyncIterator[bytes]:
        if response.fields.get("transfer-encoding", "") == "chunked":
            while size := int((await self._line()).split(b";")[0], 16):
                async for piece in self._exactly(size):
                    yield piece
                if await self._line():
                    raise ValueError("longer than it says")
            if await self._line():
                raise ValueError("trailers, where none were sent")
        elif "content-length" in response.fields:
            async for piece in self._exactly(int(response.fields["content-length"])):
                yield piece
        else:
            # Only the close would delimit it, and nobody could tell a truncated one.
            raise Broken("corrupt", "a body without framing", server=response.server, visible=False)

    async def _line(self) -> bytes:
        async with asyncio.timeout(PATIENCE):
            return (await self.reader.readuntil(b"\r\n"))[:-2]

    async def _exactly(self, size: int) -> AsyncIterator[bytes]:
        while size:
            async with asyncio.timeout(PATIENCE):
                piece = await self.reader.read(min(size, SLICE))
            if not piece:
                raise asyncio.IncompleteReadError(b"", size)
            size -= len(piece)
            yield piece


def parse_head(data: bytes) -> Response:
    """A response's status and fields; names in lower case."""
    start, *lines = data[:-4].decode("latin-1").split("\r\n")
    version, status, *_ = start.split(" ")
    if version != "HTTP/1.1" or not status.isdecimal():
        raise Broken("broken head", start)
    pairs = (line.partition(":") for line in lines)
    return Response(int(status), {name.lower(): value.strip() for name, _, value in pairs})
