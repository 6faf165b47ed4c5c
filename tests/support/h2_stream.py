"""One stream of `support.h2_client` as its test sees it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from support.http import Fields


class Connection(Protocol):
    """What a stream asks of `H2Client`."""

    async def send_data(self, number: int, data: bytes, end: bool) -> None: ...

    async def send_headers(self, number: int, fields: Iterable[tuple[str, str]], end: bool) -> None: ...

    async def reset_stream(self, number: int, code: int) -> None: ...

    async def widen(self, number: int, size: int) -> None: ...

    async def until(self, condition: Callable[[], object], what: str, seconds: float | None = None) -> None: ...


@dataclass(slots=True)
class H2Response:
    """What has come of a response so far; `digest` and `size` are those of the body."""

    status: int = 0
    fields: Fields = field(default_factory=Fields)
    interim: list[tuple[int, Fields]] = field(default_factory=list)
    body: bytes = b""
    size: int = 0
    digest: str = ""
    trailers: Fields = field(default_factory=Fields)
    complete: bool = False  # END_STREAM came
    reset: int | None = None  # the code of the server's RST_STREAM


class H2Stream:
    """A stream that this client has opened.

    With `credit` False nothing is given back for what arrives, and the server may send one window and no more. With
    `keep` False the body is only counted and hashed.
    """

    def __init__(self, client: Connection, number: int) -> None:
        self.client = client
        self.number = number
        self.credit = True
        self.keep = True
        self.on_data: Callable[[bytes], None] | None = None
        self.so_far = H2Response()
        self.owed = 0  # bytes that arrived and were not given back
        self.sent = 0  # bytes of DATA that have left
        self._hash = hashlib.sha256()
        self._parts: list[bytes] = []

    # What the client tells

    def head(self, status: int, fields: Fields) -> None:
        """A head has come, final or not."""
        if status < 200:
            self.so_far.interim.append((status, fields))
        else:
            assert not self.so_far.status, "a second final head"
            self.so_far.status = status
            self.so_far.fields = fields

    def data(self, data: bytes) -> None:
        """A part of the body has come."""
        self.so_far.size += len(data)
        self._hash.update(data)
        if self.on_data:
            self.on_data(data)
        elif self.keep:
            self._parts.append(data)

    # What a test does and awaits

    async def send(self, data: bytes, *, end: bool = False) -> None:
        """Send DATA as far and as fast as the server's credit allows; returns when all is on its way."""
        await self.client.send_data(self.number, data, end)

    async def end(self) -> None:
        """An empty DATA frame with END_STREAM."""
        await self.client.send_data(self.number, b"", True)

    async def send_trailers(self, fields: list[tuple[str, str]]) -> None:
        """HEADERS with END_STREAM, after the body."""
        await self.client.send_headers(self.number, fields, end=True)

    async def cancel(self, code: int = 8) -> None:
        """RST_STREAM; CANCEL unless said otherwise (RFC 9113 section 7)."""
        await self.client.reset_stream(self.number, code)

    async def give_credit(self, size: int) -> None:
        """WINDOW_UPDATE for this stream; how much has come before does not matter."""
        await self.client.widen(self.number, size)

    async def head_arrived(self) -> H2Response:
        """What has come, once the final head has."""
        await self.client.until(lambda: self.so_far.status or self.over, f"a head on stream {self.number}")
        return self.response_now()

    async def arrived(self, size: int) -> H2Response:
        """What has come, once the body has at least `size` bytes."""
        await self.client.until(lambda: self.so_far.size >= size or self.over, f"{size} bytes of {self.number}")
        assert self.so_far.size >= size, self.so_far
        return self.response_now()

    async def finished(self, seconds: float | None = None) -> H2Response:
        """The response, once it is whole or the stream was reset."""
        await self.client.until(lambda: self.over, f"the end of stream {self.number}", seconds)
        return self.response_now()

    async def was_reset(self) -> int:
        """The code of the server's RST_STREAM, awaited; a response may have been whole before."""
        await self.client.until(lambda: self.so_far.reset is not None, f"RST_STREAM on {self.number}")
        assert self.so_far.reset is not None
        return self.so_far.reset

    @property
    def over(self) -> bool:
        """Whether nothing more comes."""
        return self.so_far.complete or self.so_far.reset is not None

    def response_now(self) -> H2Response:
        """What has come so far."""
        if self.keep:
            self.so_far.body = b"".join(self._parts)
            self._parts = [self.so_far.body]
        self.so_far.digest = self._hash.hexdigest()
        return self.so_far
