"""What goes past the loop and what through the transport, and that no byte overtakes another."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from vsproxy.sender import FEW_BYTES, SMALL_BODY, Sender


class Transport:
    """A transport that keeps what it is given until `flush`, over one end of a socket pair."""

    def __init__(self, plain: bool = True) -> None:
        self.near, self.far = socket.socketpair()
        self.near.setblocking(False)
        self.far.setblocking(False)
        self.plain = plain
        self.closing = False
        self.queue: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.queue.append(data)

    def is_closing(self) -> bool:
        return self.closing

    def get_write_buffer_size(self) -> int:
        return sum(map(len, self.queue))

    def get_extra_info(self, name: str) -> Any:
        secure = None if self.plain else object()
        return {"socket": self.near, "ssl_object": secure, "sslcontext": secure}[name]

    def received(self) -> bytes:
        """All that has arrived at the other end."""
        parts = []
        while True:
            try:
                part = self.far.recv(1 << 20)
            except BlockingIOError:
                return b"".join(parts)
            parts.append(part)

    def close(self) -> None:
        self.near.close()
        self.far.close()


def sender_for(transport: Transport) -> Sender:
    return Sender(transport)  # type: ignore[arg-type]


def test_what_the_kernel_takes_does_not_pass_through_the_transport() -> None:
    transport = Transport()
    sender = sender_for(transport)
    sender.write(b"one ")
    sender.write(b"two")
    assert transport.received() == b"one two"
    assert transport.queue == []
    transport.close()


def test_the_rest_goes_to_the_transport_and_what_follows_waits_behind_it() -> None:
    transport = Transport()
    sender = sender_for(transport)
    large = bytes(range(256)) * 20_000
    sender.write(large)
    assert transport.queue, "the kernel took five megabytes at once"
    sender.write(b"behind")
    assert transport.queue[-1] == b"behind"
    arrived = transport.received()
    assert arrived + b"".join(transport.queue) == large + b"behind"
    transport.queue.clear()
    sender.write(b"direct again")
    assert transport.queue == []
    assert transport.received() == b"direct again"
    transport.close()


@pytest.mark.parametrize("size", [0, 1, SMALL_BODY - 1, SMALL_BODY, 100_000])
@pytest.mark.parametrize("tail", [b"", b"tail"])
def test_parts_leave_in_one_go(size: int, tail: bytes) -> None:
    transport = Transport()
    body = b"b" * size
    sender_for(transport).write_parts(b"head", body, tail)
    assert transport.received() == b"head" + body + tail
    assert transport.queue == []
    transport.close()


@pytest.mark.parametrize("head", [b"head", b"h" * 1_000_000])
def test_what_the_kernel_does_not_take_of_parts_waits_in_order(head: bytes) -> None:
    transport = Transport()
    sender = sender_for(transport)
    body = bytes(range(256)) * 20_000
    sender.write_parts(head, body, b"tail")
    assert transport.queue[-1] == b"tail"
    sender.write_parts(b"second", b"s" * SMALL_BODY, b"end")
    assert transport.received() + b"".join(transport.queue) == head + body + b"tailsecond" + b"s" * SMALL_BODY + b"end"
    transport.close()


def test_a_transport_that_frames_gets_large_bodies_apart_and_small_ones_with_their_head() -> None:
    transport = Transport(plain=False)
    sender = sender_for(transport)
    body = b"b" * FEW_BYTES
    sender.write_parts(b"head", body, b"")
    assert transport.queue == [b"head", body]
    transport.queue.clear()
    sender.write_parts(b"head", b"small", b"tail")
    assert transport.queue == [b"headsmalltail"]
    transport.close()


def test_no_part_is_written_to_a_transport_that_closes() -> None:
    transport = Transport()
    sender = sender_for(transport)
    transport.closing = True
    sender.write_parts(b"head", b"b" * 100_000, b"")
    assert transport.queue == []
    assert transport.received() == b""
    transport.close()


def test_tls_is_left_to_the_transport() -> None:
    transport = Transport(plain=False)
    sender_for(transport).write(b"secret")
    assert transport.queue == [b"secret"]
    assert transport.received() == b""
    transport.close()


def test_nothing_is_written_by_the_descriptor_of_a_transport_that_closes() -> None:
    """It may be another connection's in a moment."""
    transport = Transport()
    sender = sender_for(transport)
    transport.closing = True
    sender.write(b"late")
    assert transport.queue == []
    assert transport.received() == b""
    transport.close()


def test_a_broken_connection_is_left_to_the_transport_to_report() -> None:
    transport = Transport()
    sender = sender_for(transport)
    transport.far.close()
    sender.write(b"lost")
    assert transport.queue == [b"lost"]
    transport.near.close()


async def test_over_a_real_transport_every_byte_arrives_in_order() -> None:
    arrived = bytearray()
    total = 8_000_000
    done = asyncio.Event()

    async def on_client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while len(arrived) < total:
            arrived.extend(await reader.read(50_000))
        done.set()
        writer.close()

    server = await asyncio.start_server(on_client, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, "127.0.0.1", port)
    sender = Sender(transport)
    sent = b"".join(i.to_bytes(4, "big") for i in range(total // 4))
    for start in range(0, total, 40_000):
        sender.write(sent[start : start + 40_000])
    await asyncio.wait_for(done.wait(), 30)
    assert bytes(arrived) == sent
    transport.close()
    server.close()
    await server.wait_closed()
