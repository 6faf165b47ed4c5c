"""What leaves for a server in one write: a head with what is there of a small body."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from vsproxy.sender import FEW_BYTES
from vsproxy.timers import Sweep
from vsproxy.upstream.http1 import UpstreamConnection
from vsproxy.upstream.server import Server
from vsproxy.wire.message import RequestHead

LINES = b"POST / HTTP/1.1\r\n\r\n"


class Transport:
    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int) -> None:
        assert high > 0

    def get_extra_info(self, name: str) -> Any:
        return None


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def first_writes(
    loop: asyncio.AbstractEventLoop, data: bytes, whole: bool, trailers: bytes = b"", chunked: bool = False
) -> list[bytes]:
    connection = UpstreamConnection(Server("pool", "server", "127.0.0.1", 1), Sweep(loop))
    transport = Transport()
    connection.connection_made(transport)  # type: ignore[arg-type]
    head = RequestHead()
    head.chunked = chunked
    head.content_length = -1 if chunked else len(data)
    connection.send_first(head, LINES, data, whole, trailers)
    assert connection.sent_end == whole
    return transport.written


def test_a_small_body_leaves_with_its_head(loop: asyncio.AbstractEventLoop) -> None:
    assert first_writes(loop, b"body", True) == [LINES + b"body"]


def test_a_small_chunked_body_leaves_with_its_head_and_its_end(loop: asyncio.AbstractEventLoop) -> None:
    assert first_writes(loop, b"0123456789", True, chunked=True) == [LINES + b"a\r\n0123456789\r\n0\r\n\r\n"]


def test_trailers_leave_with_the_end(loop: asyncio.AbstractEventLoop) -> None:
    written = first_writes(loop, b"x", True, b"Digest: y\r\n", chunked=True)
    assert written == [LINES + b"1\r\nx\r\n0\r\nDigest: y\r\n\r\n"]


def test_a_body_that_goes_on_has_no_end_yet(loop: asyncio.AbstractEventLoop) -> None:
    assert first_writes(loop, b"x", False, chunked=True) == [LINES + b"1\r\nx\r\n"]


@pytest.mark.parametrize("whole", [True, False])
def test_a_large_body_is_not_copied(loop: asyncio.AbstractEventLoop, whole: bool) -> None:
    data = b"x" * FEW_BYTES
    head, body = first_writes(loop, data, whole)
    assert head == LINES
    assert body is data
