"""What a listener remembers of its peers: the right one, no more than a few, and no more of each than is harmless."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from vsproxy import sockets
from vsproxy.config.model import ListenerConfig
from vsproxy.config.units import parse_bind
from vsproxy.descriptors import Descriptors
from vsproxy.downstream.serving import MAX_PEERS, ListenerSettings
from vsproxy.headers import MAX_KNOWN
from vsproxy.listener import Listener
from vsproxy.wire.message import RequestHead


class Transport:
    """Says who its peer is, and how often it was asked."""

    def __init__(self, peername: Any) -> None:
        self.peername = peername
        self.asked = 0

    def get_extra_info(self, name: str) -> Any:
        assert name == "peername"
        self.asked += 1
        return self.peername


def settings_for(**options: Any) -> ListenerSettings:
    return ListenerSettings(ListenerConfig(bind=parse_bind("127.0.0.1:0"), **options), "127.0.0.1:80")


def forwarding(settings: ListenerSettings, origin: bytes, transport: Transport) -> Any:
    return settings.forwarding_for(origin, transport)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("origin", "peer"),
    [
        (b"\x0a\x00\x00\x07", "10.0.0.7"),
        (bytes(10) + b"\xff\xff\x0a\x00\x00\x07", "10.0.0.7"),
        (bytes(15) + b"\x01", "::1"),
    ],
)
def test_a_packed_address_says_who_it_is(origin: bytes, peer: str) -> None:
    # A transport does not know it any more once the peer has left.
    transport = Transport(None)
    settings = settings_for(trusted_proxies=["192.0.2.0/24"])
    found = forwarding(settings, origin, transport)
    assert (found.peer, found.trusted, transport.asked) == (peer, False, 0)
    assert forwarding(settings, origin, transport) is found


def test_without_one_the_transport_is_asked_each_time() -> None:
    settings = settings_for(trusted_proxies=["192.0.2.0/24"])
    one, two, unix = Transport(("192.0.2.1", 1)), Transport(("198.51.100.1", 1)), Transport("")
    assert forwarding(settings, b"", one).peer == "192.0.2.1"
    assert forwarding(settings, b"", two).peer == "198.51.100.1"
    assert forwarding(settings, b"", unix).peer == ""
    assert forwarding(settings, b"", one) is forwarding(settings, b"", one)
    assert [forwarding(settings, b"", transport).trusted for transport in (one, two, unix)] == [True, False, True]


def test_few_peers_are_remembered() -> None:
    settings = settings_for()
    for number in range(3 * MAX_PEERS):
        origin = number.to_bytes(4, "big")
        assert forwarding(settings, origin, Transport(None)).peer == socket.inet_ntoa(origin)
        assert len(settings.forwardings) <= MAX_PEERS


def test_long_lines_are_not_kept() -> None:
    found = forwarding(settings_for(), b"\x0a\x00\x00\x07", Transport(None))
    head = RequestHead()
    head.host = b"a" * MAX_KNOWN
    assert head.host in found.lines(head, b"b")
    assert found.known == b""
    head.host = b"a"
    assert found.lines(head, b"b") == found.known


def test_accept_says_why_it_failed() -> None:
    with socket.socket() as listening:
        listening.setblocking(False)
        assert sockets.accept(listening.fileno())[0] < 0
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        with socket.create_connection(listening.getsockname()):
            descriptor, origin = sockets.accept(listening.fileno())
            with socket.socket(fileno=descriptor) as accepted:
                assert accepted.getpeername()[0] == "127.0.0.1"
            assert origin in (b"", b"\x7f\x00\x00\x01")


class Gone(asyncio.Protocol):
    """Ends at once."""

    def __init__(self, stats: Any) -> None:
        self.stats = stats

    def connection_made(self, transport: Any) -> None:
        self.stats.opened()
        transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.stats.closed()


@pytest.mark.parametrize(("bind", "source"), [("127.0.0.1:0", "127.0.0.2"), ("[::1]:0", "::1")])
async def test_protocols_hear_who_their_own_client_is(bind: str, source: str) -> None:
    heard: list[bytes] = []

    def make_protocol(stats: Any, descriptor: int, origin: bytes) -> Gone:
        heard.append(origin)
        if descriptor >= 0:
            assert socket.socket(fileno=descriptor).detach() == descriptor
        return Gone(stats)

    listener = Listener(
        ListenerConfig(bind=parse_bind(bind)), asyncio.get_running_loop(), make_protocol, Descriptors(1024)
    )
    listener.bind()
    listener.start()
    try:
        host, _, port = listener.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host.strip("[]"), int(port), local_addr=(source, 0))
        assert await reader.read() == b""
        writer.close()
    finally:
        listener.stop_accepting()
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    # Where nothing is compiled, accept does not say.
    assert heard in ([socket.inet_pton(family, source)], [b""])
