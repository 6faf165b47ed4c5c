"""Splices between bare sockets: order, turns, pipes, the end."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import AsyncIterator

import pytest

from support.proxies import eventually
from vsproxy.splice import MAX_PIPES, MAX_TURN, Splice, Splicer, is_available, pipes_for

HIGH = 64 * 1024


class End(asyncio.Protocol):
    """One end that the splicer moves from or to; `peer` is the other end, for the test."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.peer, self.sock = socket.socketpair()
        self.peer.setblocking(False)
        self.writing_paused = False
        self.pauses = 0
        self.received = b""
        self.lost = False
        self.splice: Splice | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        transport.set_write_buffer_limits(high=HIGH)

    def data_received(self, data: bytes) -> None:
        self.received += data

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if self.splice is not None:
            self.splice.stop()

    def pause_writing(self) -> None:
        self.writing_paused = True
        self.pauses += 1

    def resume_writing(self) -> None:
        self.writing_paused = False
        if self.splice is not None:
            self.splice.kick()


class Noted(Splice):
    """A splice that remembers what it was told."""

    def __init__(self, splicer: Splicer, source: End, sink: End, rest: int) -> None:
        super().__init__(splicer, source.transport, sink, sink.transport, rest)
        self.ended: bool | None = None
        source.splice = sink.splice = self

    def on_moved(self, count: int) -> None:
        assert count > 0

    def on_over(self, complete: bool) -> None:
        self.ended = complete
        self.source_transport.resume_reading()


@pytest.fixture
async def ends() -> AsyncIterator[tuple[End, End]]:
    source, sink = End(), End()
    for end in (source, sink):
        await asyncio.get_running_loop().create_unix_connection(lambda end=end: end, sock=end.sock)
    yield source, sink
    for end in (source, sink):
        end.transport.abort()
        end.peer.close()


@pytest.fixture
async def splicer() -> AsyncIterator[Splicer]:
    splicer = Splicer(asyncio.get_running_loop(), 2, HIGH)
    yield splicer
    splicer.close()


async def read(peer: socket.socket, size: int) -> bytes:
    loop = asyncio.get_running_loop()
    data = b""
    while len(data) < size:
        more = await loop.sock_recv(peer, size - len(data))
        assert more
        data += more
    return data


async def test_bytes_move_and_no_more_than_asked(splicer: Splicer, ends: tuple[End, End]) -> None:
    source, sink = ends
    splice = Noted(splicer, source, sink, 5)
    assert splicer.start(splice)
    source.peer.send(b"12345678")
    assert await read(sink.peer, 5) == b"12345"
    await eventually(lambda: source.received == b"678", what="the rest is read by the transport")
    assert splice.ended is True
    assert (splice.moved, splicer.pipes.used, splicer.pipes.idle) == (5, 0, 1)


async def test_what_the_transport_holds_comes_first(splicer: Splicer, ends: tuple[End, End]) -> None:
    source, sink = ends
    first = os.urandom(3_000_000)
    sink.transport.write(first)
    assert sink.transport.get_write_buffer_size()
    source.peer.send(b"after")
    splice = Noted(splicer, source, sink, 5)
    assert splicer.start(splice)
    assert sink.writing_paused
    assert await read(sink.peer, len(first) + 5) == first + b"after"
    assert splice.ended is True
    assert not sink.writing_paused
    # And the transport has its limit back.
    sink.transport.write(bytes(HIGH // 2))
    assert not sink.writing_paused


async def test_a_full_sink_is_told_and_told_of_progress(splicer: Splicer, ends: tuple[End, End]) -> None:
    source, sink = ends
    splice = Noted(splicer, source, sink, 10_000_000)
    assert splicer.start(splice)
    sending = asyncio.create_task(asyncio.get_running_loop().sock_sendall(source.peer, bytes(10_000_000)))
    await eventually(lambda: sink.writing_paused)
    pauses, held, taken = sink.pauses, splice.held, 0
    while splice.held == held:
        taken += len(await read(sink.peer, 4096))
        await asyncio.sleep(0)
    # The first that the sink took did not empty the pipe: it is as full as it was, but has moved.
    assert sink.pauses > pauses or not splice.held
    await read(sink.peer, 10_000_000 - taken)
    await sending
    await eventually(lambda: splice.ended is True)
    assert not sink.writing_paused


async def test_one_that_is_stopped_with_bytes_in_the_pipe_loses_the_pipe(
    splicer: Splicer, ends: tuple[End, End]
) -> None:
    source, sink = ends
    splice = Noted(splicer, source, sink, 50_000_000)
    assert splicer.start(splice)
    sending = asyncio.create_task(asyncio.get_running_loop().sock_sendall(source.peer, bytes(50_000_000)))
    await eventually(lambda: splice.held > 0 and sink.writing_paused)
    splice.stop()
    splice.stop()
    assert splice.ended is False
    assert (splicer.pipes.used, splicer.pipes.idle) == (0, 0)
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)


async def test_the_end_of_the_source_is_left_to_its_transport(splicer: Splicer, ends: tuple[End, End]) -> None:
    source, sink = ends
    splice = Noted(splicer, source, sink, 100)
    assert splicer.start(splice)
    source.peer.send(b"only this")
    source.peer.shutdown(socket.SHUT_WR)
    assert await read(sink.peer, 9) == b"only this"
    await eventually(lambda: splice.ended is False)
    await eventually(lambda: source.lost)
    assert not sink.lost


async def test_a_sink_that_breaks_is_closed_through_its_transport(splicer: Splicer, ends: tuple[End, End]) -> None:
    source, sink = ends
    splice = Noted(splicer, source, sink, 100)
    sink.transport.pause_reading()
    assert splicer.start(splice)
    sink.peer.close()
    source.peer.send(b"for nobody")
    await eventually(lambda: sink.lost)
    assert splice.ended is False
    assert not source.lost


async def test_without_a_pipe_nothing_changes(splicer: Splicer, ends: tuple[End, End]) -> None:
    source, sink = ends
    splicer.pipes.limit = 0
    assert not splicer.start(Noted(splicer, source, sink, 5))
    source.peer.send(b"as ever")
    await eventually(lambda: source.received == b"as ever")


async def test_not_into_a_transport_that_closes(splicer: Splicer, ends: tuple[End, End]) -> None:
    source, sink = ends
    sink.transport.close()
    assert not splicer.start(Noted(splicer, source, sink, 5))
    assert splicer.pipes.used == 0


async def test_one_that_is_on_its_way_at_the_end_can_still_be_stopped(ends: tuple[End, End]) -> None:
    source, sink = ends
    splicer = Splicer(asyncio.get_running_loop(), 2, HIGH)
    splice = Noted(splicer, source, sink, 5)
    assert splicer.start(splice)
    splicer.close()
    splice.stop()
    assert (splice.ended, splicer.pipes.used, splicer.pipes.idle) == (False, 0, 0)


class Busy(Noted):
    """Always has more to do."""

    turns: list[Busy]

    def move(self, most: int) -> int:
        self.turns.append(self)
        self.queued = True
        return most


async def test_they_take_turns_and_leave_the_loop_its_own(splicer: Splicer, ends: tuple[End, End]) -> None:
    source, sink = ends
    Busy.turns = []
    first, second = Busy(splicer, source, sink, 1), Busy(splicer, source, sink, 1)
    splicer.queue(first)
    splicer.queue(second)
    loops = 0
    while len(Busy.turns) < 8:
        await asyncio.sleep(0)
        loops += 1
        assert len(Busy.turns) <= 2 * loops
    assert Busy.turns[:4] == [first, second, first, second]
    first.over = second.over = True
    assert MAX_TURN < 4 << 20


class Failing(Noted):
    """Stumbles over a mistake of ours."""

    def on_moved(self, count: int) -> None:
        raise LookupError


async def test_a_mistake_of_ours_ends_both_connections(
    splicer: Splicer, ends: tuple[End, End], caplog: pytest.LogCaptureFixture
) -> None:
    source, sink = ends
    splice = Failing(splicer, source, sink, 5)
    assert splicer.start(splice)
    source.peer.send(b"123")
    await eventually(lambda: source.lost and sink.lost)
    assert splice.over
    assert "a splice has failed" in caplog.text
    assert splicer.pipes.used == 0


async def test_a_signal_is_no_failure(
    splicer: Splicer, ends: tuple[End, End], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, sink = ends
    original = os.splice
    calls = 0

    def splice(*args: int, **options: int) -> int:
        nonlocal calls
        calls += 1
        if calls % 2:
            raise InterruptedError
        return original(*args, **options)

    monkeypatch.setattr("vsproxy.splice.os.splice", splice)
    moving = Noted(splicer, source, sink, 5)
    assert splicer.start(moving)
    source.peer.send(b"12345")
    assert await read(sink.peer, 5) == b"12345"
    assert moving.ended is True


def test_how_many_pipes() -> None:
    assert pipes_for(1024) == 16
    assert pipes_for(1 << 20) == MAX_PIPES
    assert pipes_for(256) == 0


def test_a_sandbox_may_forbid_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_available()

    def splice(*args: object, **options: object) -> int:
        raise OSError(errno.ENOSYS, "no")

    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr("vsproxy.splice.os.splice", splice)
    assert not is_available()
    assert len(os.listdir("/proc/self/fd")) == before
