"""Tunnels between bare sockets that a relay reads: order, back-pressure, ends, turns, and who reads when."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import select
import socket
import struct
from collections.abc import AsyncIterator

import pytest

from support.proxies import descriptors_of, eventually
from vsproxy.relay import BUFFER_SIZE, IS_AVAILABLE, MAX_MOVES, Relay, Source
from vsproxy.timers import Sweep
from vsproxy.tunnel import CALM, Tunnel

pytestmark = pytest.mark.skipif(not IS_AVAILABLE, reason="there is no epoll")

SIZE = 24 << 20
MIB = 1 << 20


class Bench:
    """A tunnel between two TCP connections; `client` and `server` are their far ends."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.relay = Relay(self.loop)
        self.sweep = Sweep(self.loop)
        self.closed: list[Tunnel] = []
        self.client: socket.socket
        self.server: socket.socket
        self.tunnel: Tunnel

    async def open(self, patience: float = 60.0, from_server: bytes = b"") -> Tunnel:
        """Connect both sides and join them."""
        ends: list[asyncio.Transport] = []
        far: list[socket.socket] = []
        for _ in range(2):
            with socket.create_server(("127.0.0.1", 0)) as listening:
                outer = socket.create_connection(listening.getsockname())
                inner = listening.accept()[0]
            outer.setblocking(False)
            inner.setblocking(False)
            transport, _protocol = await self.loop.connect_accepted_socket(asyncio.Protocol, inner)
            ends.append(transport)  # type: ignore[arg-type]
            far.append(outer)
        self.client, self.server = far
        self.tunnel = Tunnel(ends[0], ends[1], patience, self.sweep, self.closed.append, self.relay)
        self.sweep.start()
        self.tunnel.open(b"", from_server)
        return self.tunnel

    async def send(self, sock: socket.socket, data: bytes) -> None:
        await asyncio.wait_for(self.loop.sock_sendall(sock, data), 30)

    async def read(self, sock: socket.socket, count: int) -> bytes:
        """`count` bytes, or less at the end."""
        parts = []
        while count:
            data = await asyncio.wait_for(self.loop.sock_recv(sock, min(count, MIB)), 30)
            if not data:
                break
            parts.append(data)
            count -= len(data)
        return b"".join(parts)

    async def over(self) -> None:
        await eventually(lambda: self.closed == [self.tunnel], 10, what="the end of the tunnel")

    def is_relayed(self) -> tuple[bool, bool]:
        return self.tunnel.downstream.relayed, self.tunnel.upstream.relayed


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    if not made.closed:
        made.tunnel.cut()
        await made.over()
    made.relay.close()
    made.sweep.stop()
    made.client.close()
    made.server.close()


async def test_messages_pass_without_the_transports(bench: Bench) -> None:
    tunnel = await bench.open()
    assert bench.is_relayed() == (True, True)
    for number in range(200):
        message = b"%d " % number * 30
        await bench.send(bench.client, message)
        assert await bench.read(bench.server, len(message)) == message
        await bench.send(bench.server, message[::-1])
        assert await bench.read(bench.client, len(message)) == message[::-1]
    assert bench.is_relayed() == (True, True)
    assert tunnel.downstream.moved == tunnel.upstream.moved == sum(len(b"%d " % n * 30) for n in range(200))


async def test_what_came_before_it_was_opened_is_found(bench: Bench) -> None:
    await bench.open(from_server=b"with the head")
    assert await bench.read(bench.client, 13) == b"with the head"
    assert bench.tunnel.upstream.moved == 13


async def test_messages_set_the_deadline_back(bench: Bench) -> None:
    tunnel = await bench.open(patience=1.0)
    for _ in range(6):
        await asyncio.sleep(0.4)
        await bench.send(bench.client, b"x")
        assert await bench.read(bench.server, 1) == b"x"
    await bench.over()
    assert tunnel.timed_out
    assert await bench.read(bench.client, 1) == await bench.read(bench.server, 1) == b""


async def test_large_amounts_both_ways_keep_their_order(bench: Bench) -> None:
    """In pieces and with pauses of the readers, so that the reading changes hands many times."""
    tunnel = await bench.open()
    chance = random.Random(7)
    up, down = os.urandom(MIB) * (SIZE // MIB), os.urandom(MIB) * (SIZE // MIB)

    async def pour(sock: socket.socket, data: bytes) -> None:
        at = 0
        while at < len(data):
            size = chance.choice((1, 100, 5000, BUFFER_SIZE, BUFFER_SIZE + 1, 700_000))
            await bench.send(sock, data[at : at + size])
            at += size
            if chance.random() < 0.2:
                await asyncio.sleep(0.001)

    async def drink(sock: socket.socket) -> str:
        sha, left = hashlib.sha256(), SIZE
        while left:
            data = await bench.read(sock, min(left, chance.choice((1000, 300_000))))
            assert data
            sha.update(data)
            left -= len(data)
            if chance.random() < 0.05:
                await asyncio.sleep(0.005)
        return sha.hexdigest()

    digests = await asyncio.gather(
        drink(bench.server), drink(bench.client), pour(bench.client, up), pour(bench.server, down)
    )
    assert digests[:2] == [hashlib.sha256(data).hexdigest() for data in (up, down)]
    assert (tunnel.downstream.moved, tunnel.upstream.moved) == (SIZE, SIZE)


async def test_a_stalled_reader_holds_the_other_back_until_it_reads(bench: Bench) -> None:
    tunnel = await bench.open()
    data = os.urandom(MIB) * 64
    pouring = asyncio.create_task(bench.send(bench.client, data))
    await eventually(lambda: tunnel.upstream.full, 10, what="a full sink")
    assert not tunnel.downstream.relayed
    held = tunnel.downstream.moved
    await asyncio.sleep(0.2)
    assert tunnel.downstream.moved == held < len(data)
    assert tunnel.upstream.transport.get_write_buffer_size() < MIB
    # The other way is free, and still the relay's.
    await bench.send(bench.server, b"free")
    assert await bench.read(bench.client, 4) == b"free"
    assert tunnel.upstream.relayed
    assert await bench.read(bench.server, len(data)) == data
    await pouring
    for _ in range(CALM + 1):
        await bench.send(bench.client, b"calm")
        assert await bench.read(bench.server, 4) == b"calm"
    assert bench.is_relayed() == (True, True)


@pytest.mark.parametrize("who", ["client", "server"])
async def test_half_close_leaves_the_other_way_open(bench: Bench, who: str) -> None:
    await bench.open()
    ending, other = (bench.client, bench.server) if who == "client" else (bench.server, bench.client)
    await bench.send(ending, b"all of it")
    ending.shutdown(socket.SHUT_WR)
    assert await bench.read(other, 100) == b"all of it"
    for _ in range(3):
        await bench.send(other, b"still here")
        assert await bench.read(ending, 10) == b"still here"
    other.shutdown(socket.SHUT_WR)
    assert await bench.read(ending, 1) == b""
    await bench.over()
    assert bench.is_relayed() == (False, False)


@pytest.mark.parametrize("who", ["client", "server"])
async def test_a_reset_is_passed_on_as_one(bench: Bench, who: str) -> None:
    await bench.open()
    ending, other = (bench.client, bench.server) if who == "client" else (bench.server, bench.client)
    ending.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    ending.close()
    with pytest.raises(ConnectionResetError):
        await bench.read(other, 1)
    await bench.over()
    assert bench.is_relayed() == (False, False)


@pytest.mark.parametrize("end", ["shut", "cut"])
async def test_it_ends_when_told(bench: Bench, end: str) -> None:
    tunnel = await bench.open()
    getattr(tunnel, end)()
    assert bench.is_relayed() == (False, False)
    await bench.over()
    if end == "shut":
        assert await bench.read(bench.client, 1) == await bench.read(bench.server, 1) == b""
    else:
        for far in (bench.client, bench.server):
            with pytest.raises(ConnectionResetError):
                await bench.read(far, 1)


@pytest.mark.parametrize("end", ["close", "abort"])
@pytest.mark.parametrize("who", ["downstream", "upstream"])
async def test_an_end_that_goes_gives_the_reading_of_the_other_back(bench: Bench, who: str, end: str) -> None:
    """Before anything is read for a descriptor that may soon be another's."""
    tunnel = await bench.open()
    going = getattr(tunnel, who)
    assert bench.is_relayed() == (True, True)
    getattr(going, end)()
    assert bench.is_relayed() == (False, False)
    assert going.peer.transport.is_reading()
    moved = going.moved
    await bench.send(bench.server if who == "downstream" else bench.client, b"too late")
    await bench.over()
    assert going.moved == moved


async def test_after_the_relay_was_closed_tunnels_can_still_be_cut(bench: Bench) -> None:
    tunnel = await bench.open()
    bench.relay.close()
    tunnel.cut()
    await bench.over()


async def test_no_descriptor_is_left(bench: Bench) -> None:
    await bench.open()
    await bench.send(bench.client, b"x")
    assert await bench.read(bench.server, 1) == b"x"
    before = descriptors_of(os.getpid())
    for number in range(30):
        other = Bench()
        other.relay = bench.relay
        await other.open()
        await other.send(other.client, b"y")
        assert await other.read(other.server, 1) == b"y"
        if number % 2:
            other.client.close()
        else:
            other.tunnel.cut()
        other.server.close()
        await other.over()
        other.client.close()
        other.sweep.stop()
    await eventually(lambda: descriptors_of(os.getpid()) == before, what="as many descriptors as before")


class Counted(Source):
    """A source that always has more, or fails."""

    def __init__(self, descriptor: int, turns: list[str], name: str, most: int) -> None:
        super().__init__(descriptor)
        self.turns = turns
        self.name = name
        self.most = most
        self.failed = False

    def on_readable(self, buffer: bytearray) -> bool:
        if self.most == 0:
            raise ZeroDivisionError
        self.turns.append(self.name)
        return self.turns.count(self.name) < self.most

    def on_unusual(self) -> None:
        raise AssertionError("nothing unusual has happened")

    def on_failure(self) -> None:
        self.failed = True


async def test_sources_take_turns_and_one_that_fails_disturbs_nobody(caplog: pytest.LogCaptureFixture) -> None:
    relay = Relay(asyncio.get_running_loop())
    turns: list[str] = []
    pairs = [socket.socketpair() for _ in range(3)]
    sources = [
        Counted(pair[0].fileno(), turns, name, most)
        for pair, name, most in zip(pairs, ("fails", "a", "b"), (0, 3 * MAX_MOVES, 3 * MAX_MOVES), strict=True)
    ]
    for pair in pairs:
        pair[1].send(b"x")
    for source in sources:
        relay.add(source)
    await eventually(lambda: len(turns) == 6 * MAX_MOVES, what="all turns")
    assert "".join(turns) == ("a" * MAX_MOVES + "b" * MAX_MOVES) * 3
    assert sources[0].failed
    assert "a relay has failed" in caplog.text
    for source in sources:
        relay.remove(source)
        relay.remove(source)
    relay.close()
    for pair in pairs:
        pair[0].close()
        pair[1].close()


def test_the_mask_of_a_plain_message_is_what_compiled_code_takes_it_for() -> None:
    assert select.EPOLLIN == 1
