"""A connection's TLS without sockets: however its records are cut, and however much comes at once, all comes out."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.certificates import make_certificates
from vsproxy.descriptors import Descriptors
from vsproxy.listener_stats import ListenerStats
from vsproxy.tls_buffers import ARRIVING, RECORD
from vsproxy.tls_gate import TlsGate
from vsproxy.tls_transport import STEP, TlsTransport

CONTENT = bytes(range(251)) * (2 * ARRIVING // 251)


class Inside(asyncio.Protocol):
    """What is spoken inside: nothing. It keeps what came, and how often."""

    def __init__(self, stats: ListenerStats, descriptor: int, origin: bytes) -> None:
        self.got: list[bytes] = []
        self.ended = False

    def data_received(self, data: bytes) -> None:
        self.got.append(data)

    def eof_received(self) -> bool:
        self.ended = True
        return False


class Raw:
    """A bare transport whose far end is `sent`."""

    def __init__(self) -> None:
        self.sent = bytearray()
        self.closed = ""

    def get_extra_info(self, name: str, default: object = None) -> object:
        return default

    def write(self, data: bytes) -> None:
        self.sent += data

    def is_closing(self) -> bool:
        return bool(self.closed)

    def get_write_buffer_size(self) -> int:
        return 0

    def close(self) -> None:
        self.closed = "close"

    def abort(self) -> None:
        self.closed = "abort"


class Client:
    """A client's TLS, joined to a `TlsTransport` by `feed`, which is one of the two ways in."""

    def __init__(self, gate: TlsGate, contexts: tuple[ssl.SSLContext, ssl.SSLContext], buffered: bool) -> None:
        server, client = contexts
        self.buffered = buffered
        self.raw = Raw()
        self.transport = TlsTransport(gate, server, Inside)
        self.transport.connection_made(self.raw)  # type: ignore[arg-type]
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = client.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
        while True:
            try:
                self.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self.feed(self.outgoing.read())
                self.incoming.write(self.raw.sent)
                self.raw.sent.clear()
        self.feed(self.outgoing.read())

    @property
    def inside(self) -> Inside:
        inside: Inside = self.transport.inside
        return inside

    def feed(self, data: bytes) -> None:
        """As the loop hands on what it has read."""
        if not self.buffered:
            self.transport.data_received(data)
            return
        room = self.transport.get_buffer(-1)
        room[: len(data)] = data
        self.transport.buffer_updated(len(data))

    def encrypted(self, *pieces: bytes) -> bytes:
        """Records with `pieces`."""
        for piece in pieces:
            view = memoryview(piece)
            while view:
                view = view[self.tls.write(view) :]
        return self.outgoing.read()


Connect = Callable[[bool], Client]


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    certificates = make_certificates(Path(tmp_path_factory.mktemp("certs")))
    return certificates.server_context(), certificates.client_context()


@pytest.fixture(scope="module")
def connect(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> Iterator[Connect]:
    loop = asyncio.new_event_loop()
    gate = TlsGate(loop, ListenerStats(Descriptors(64), lambda: None), 60.0)
    yield lambda buffered: Client(gate, contexts, buffered)
    gate.abort()
    loop.close()


both_ways = pytest.mark.parametrize("buffered", [True, False], ids=["buffered", "bytes"])


@both_ways
@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 3 * RECORD), min_size=1, max_size=30),
    cuts=st.lists(st.integers(1, 200_000), max_size=20),
)
def test_what_was_sent_comes_out_whole(connect: Connect, buffered: bool, sizes: list[int], cuts: list[int]) -> None:
    client = connect(buffered)
    pieces = [CONTENT[size : 2 * size] for size in sizes]
    wire = client.encrypted(*pieces)
    for cut in cuts:
        client.feed(wire[:cut]) if wire else None
        wire = wire[cut:]
    if wire:
        client.feed(wire)
    assert b"".join(client.inside.got) == b"".join(pieces)


@both_ways
def test_a_full_buffer_after_a_part_of_a_record_is_passed_on_in_one_piece(connect: Connect, buffered: bool) -> None:
    """The most that there can be at once: what was held back of a record, and as much as is read."""
    client = connect(buffered)
    wire = client.encrypted(CONTENT)
    start = RECORD - 1
    client.feed(wire[:start])
    assert client.inside.got == []
    client.feed(wire[start : start + ARRIVING])
    assert len(client.inside.got) == 1
    assert len(client.inside.got[0]) > ARRIVING - 2 * RECORD > STEP
    client.feed(wire[start + ARRIVING :][:ARRIVING])
    client.feed(wire[start + 2 * ARRIVING :])
    assert b"".join(client.inside.got) == CONTENT


@both_ways
def test_the_end_comes_after_everything_before_it(connect: Connect, buffered: bool) -> None:
    client = connect(buffered)
    wire = client.encrypted(CONTENT[: 2 * STEP])
    with pytest.raises(ssl.SSLWantReadError):
        client.tls.unwrap()
    client.feed(wire + client.outgoing.read())
    inside = client.inside
    assert b"".join(inside.got) == CONTENT[: 2 * STEP]
    assert inside.ended
    assert client.raw.closed == "close"


@both_ways
def test_nothing_of_a_read_with_a_false_record_is_passed_on(connect: Connect, buffered: bool) -> None:
    client = connect(buffered)
    wire = bytearray(client.encrypted(CONTENT[: 2 * STEP]))
    wire[-1] ^= 1
    client.feed(bytes(wire))
    assert client.inside.got == []
    assert not client.inside.ended
    assert client.raw.closed == "abort"
