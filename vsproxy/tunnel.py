# cython: annotation_typing=False
"""Two byte pipes after a 101. Bytes are relayed, never parsed or kept.

Each end takes over the protocol of its transport. Back-pressure: an end that cannot write pauses the
other end's reading. A FIN is passed on as a FIN where the transport can; a reset as a reset.

Between plain connections a `Relay` reads instead of the transports while each message leaves at once. Whatever else
happens at an end gives its reading back, and is dealt with as it always is.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from vsproxy import sockets
from vsproxy.relay import Relay, Source
from vsproxy.resets import reset_on_close
from vsproxy.sender import Sender
from vsproxy.timers import NEVER, Sweep, Timed

#: So many reads in a row have to leave at once before the relay reads again: a sink that is slow now and then would be
#: handed to and fro.
CALM = 16
_CALM = CALM


class TunnelEnd(Source):
    """The protocol of one side of a tunnel. `calm` counts reads that left at once."""

    __slots__ = ("calm", "ended", "full", "lost", "moved", "peer", "relay", "sender", "transport", "tunnel")

    peer: TunnelEnd

    def __init__(self, tunnel: Tunnel, transport: asyncio.Transport) -> None:
        self.calm = 0
        #: None: the transport reads, always.
        self.relay: Relay | None = None
        self.tunnel = tunnel
        self.transport = transport
        self.sender = Sender(transport)
        super().__init__(self.sender.descriptor)
        self.moved = 0
        self.full = False
        self.ended = False
        self.lost = False

    def connection_made(self, transport: asyncio.Transport) -> None:
        """asyncio: not called, since the connection stands already."""

    def data_received(self, data: bytes) -> None:
        """asyncio: pass the bytes on."""
        tunnel = self.tunnel
        self.moved += len(data)
        # As `touch` does, for every message.
        tunnel.deadline = tunnel.sweep.now + tunnel.timeout
        peer = self.peer
        peer.write(data)
        if self.relay is not None:
            self.calm = 0 if peer.sender.queued else self.calm + 1
            if self.calm >= _CALM:
                self.start_relay()

    def on_readable(self, buffer: bytearray) -> bool:
        """Source: as `data_received`, for what is in the socket.

        Nothing is asked of the other end: whatever may be in the way there has given the reading back before.
        """
        count = sockets.receive(self.descriptor, buffer)
        if count == -1:
            return False
        if count == 0:
            self.on_unusual()
            return False
        if count < 0:
            # The error has been taken from the socket: the transport would find an ordinary end.
            self.tunnel.cut()
            return False
        self.moved += count
        tunnel = self.tunnel
        tunnel.deadline = tunnel.sweep.now + tunnel.timeout
        sent = sockets.forward(self.peer.descriptor, buffer, count)
        if sent < count:
            # Before the write, which may pause the reading.
            self.on_unusual()
            sender = self.peer.sender
            sender.queued = True
            sender.write_queued(bytes(buffer[sent:count]))
            return False
        return count == len(buffer)

    def on_unusual(self) -> None:
        """Source: the transport reads again."""
        self.stop_relay()
        if not self.lost and not self.peer.full and not self.transport.is_closing():
            self.transport.resume_reading()

    def on_failure(self) -> None:
        """Source: as after an error of the connection."""
        self.tunnel.cut()

    def start_relay(self) -> None:
        """Let the relay read, not the transport; no effect at an end."""
        self.calm = 0
        relay = self.relay
        if relay is None or self.lost or self.ended or self.transport.is_closing():
            return
        if self.peer.lost or self.peer.transport.is_closing():
            return
        self.transport.pause_reading()
        relay.add(self)

    def stop_relay(self) -> None:
        """Let the relay read no more; nobody reads now."""
        self.calm = 0
        if self.relay is not None:
            self.relay.remove(self)

    def eof_received(self) -> bool:
        """asyncio: pass the end on. The other direction goes on where both transports can half-close."""
        self.ended = True
        peer = self.peer
        if peer.ended:
            peer.close()
            return False
        if peer.lost or not peer.transport.can_write_eof() or not self.transport.can_write_eof():
            peer.close()
            return False
        peer.transport.write_eof()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: a broken end breaks the other one, a closed one closes it."""
        self.stop_relay()
        self.lost = True
        if exc is not None:
            self.peer.abort()
        else:
            self.peer.close()
        self.tunnel.on_end_lost()

    def pause_writing(self) -> None:
        """asyncio: no room here, so the other end stops reading."""
        self.full = True
        peer = self.peer
        peer.stop_relay()
        if not peer.lost and not peer.transport.is_closing():
            peer.transport.pause_reading()

    def resume_writing(self) -> None:
        """asyncio: room again."""
        self.full = False
        peer = self.peer
        if not peer.lost and not peer.transport.is_closing():
            peer.transport.resume_reading()

    def write(self, data: bytes) -> None:
        """Write, unless this end is going down."""
        if not self.lost:
            self.sender.write(data)

    def close(self) -> None:
        """Close after what is buffered was written."""
        if not self.lost:
            self.stop_relay()
            self.transport.close()
            self.leave_peer()

    def abort(self) -> None:
        """Close with a reset."""
        if not self.lost:
            self.stop_relay()
            reset_on_close(self.transport)
            self.transport.abort()
            self.leave_peer()

    def leave_peer(self) -> None:
        """This end takes no more: what the other one reads is for its transport to drop."""
        if self.peer.relayed:
            self.peer.on_unusual()


class Tunnel(Timed):
    """A pair of ends with one idle timeout in seconds. `on_closed(tunnel)` is called once, at the end.

    `relay` None: the transports read, always.
    """

    __slots__ = ("downstream", "on_closed", "sweep", "timed_out", "timeout", "upstream")

    def __init__(
        self,
        downstream: asyncio.Transport,
        upstream: asyncio.Transport,
        timeout: float,
        sweep: Sweep,
        on_closed: Callable[[Tunnel], None],
        relay: Relay | None = None,
    ) -> None:
        super().__init__()
        self.timeout = timeout
        self.sweep = sweep
        self.on_closed: Callable[[Tunnel], None] | None = on_closed
        self.timed_out = False
        self.downstream = TunnelEnd(self, downstream)
        self.upstream = TunnelEnd(self, upstream)
        self.downstream.peer = self.upstream
        self.upstream.peer = self.downstream
        if relay is not None and self.downstream.descriptor >= 0 and self.upstream.descriptor >= 0:
            self.downstream.relay = relay
            self.upstream.relay = relay

    def open(self, from_client: bytes, from_server: bytes) -> None:
        """Take the transports over; the arguments are bytes that came with the heads."""
        self.touch()
        self.sweep.add(self)
        for end in (self.downstream, self.upstream):
            keep_probing(end.transport)
            end.transport.set_protocol(end)  # type: ignore[arg-type]
        self.downstream.write(from_server)
        self.upstream.write(from_client)
        self.downstream.moved += len(from_client)
        self.upstream.moved += len(from_server)
        for end in (self.downstream, self.upstream):
            if end.full:
                continue
            if end.peer.relay is not None and end.sender.buffered() == 0:
                end.sender.queued = False
                end.peer.start_relay()
            else:
                end.peer.transport.resume_reading()

    def touch(self) -> None:
        """Bytes moved: the idle timeout starts again."""
        self.deadline = self.sweep.now + self.timeout

    def on_deadline(self, now: float) -> None:
        """Idle for too long, or told to end: close both ends."""
        self.timed_out = True
        self.deadline = now + 1.0
        for end in (self.downstream, self.upstream):
            if end.transport.is_closing():
                # Closed before and still not gone: the peer does not read what is left.
                end.abort()
            else:
                end.close()

    def shut(self) -> None:
        """End the tunnel at a stop: what is buffered is written, then both streams close."""
        self.downstream.close()
        self.upstream.close()

    def cut(self) -> None:
        """Reset both ends."""
        self.downstream.abort()
        self.upstream.abort()

    def on_end_lost(self) -> None:
        """One end is gone; when both are, the tunnel is over."""
        if self.downstream.lost and self.upstream.lost and self.on_closed is not None:
            on_closed, self.on_closed = self.on_closed, None
            self.deadline = NEVER
            self.sweep.remove(self)
            on_closed(self)
        else:
            # The other end was told to close; if its peer does not read, the sweep cuts it.
            self.deadline = min(self.deadline, self.sweep.now + 5.0)


def keep_probing(transport: asyncio.Transport) -> None:
    """TCP keepalive: a peer that vanished without a word is noticed within minutes."""
    sock = transport.get_extra_info("socket")
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)
