# cython: annotation_typing=False
"""TLS on one connection of a client: the protocol of the bare transport, and the transport of what is spoken inside.

The loops have TLS of their own, which costs a timer for every handshake and every close, a quarter of a mebibyte
to read into per connection, and always a wait for the client's close_notify after ours. Here deadlines are those
of `TlsGate` and of the protocol inside, and all connections of a gate are read through the same two buffers.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from typing import Any

from vsproxy.sender import Sender

# How far a connection is: nothing seen of the client, shaking hands, open, waiting for the client's close_notify, and
# none of these: told off, or closed as far as TLS is concerned.
FRESH, SHAKING, OPEN, LEAVING, SHUT = range(5)
_FRESH, _SHAKING, _OPEN, _LEAVING, _SHUT = FRESH, SHAKING, OPEN, LEAVING, SHUT
#: A client that was sent no more than this has read all of it when it sees the end, and is left without waiting. There
#: are those (uvloop's) that drop what they hold back, of which there may be much, if a FIN comes before they have
#: answered the close_notify.
FEW_BYTES = 64 * 1024
_FEW_BYTES = FEW_BYTES
#: One record holds no more than this: a larger buffer would be allocated in vain.
RECORD = 16 * 1024
_RECORD = RECORD
#: A BIO keeps for good the most that it has held: it is given no more than this at a time. It is also all that OpenSSL
#: reads before it is looked at what came of it.
STEP = 64 * 1024
_STEP = STEP
#: As much of each read is looked at first: in 64 KiB there may be 35 ms of updates of keys.
GLANCE = 4 * 1024
_GLANCE = GLANCE
#: Bytes of a handshake. OpenSSL's limit for a client's chain of certificates is 100 KiB.
MAX_HANDSHAKE = 128 * 1024
_MAX_HANDSHAKE = MAX_HANDSHAKE
#: What may come in a second without application data in it, in bytes of records. For each record that has some, as much
#: more as its padding may take (RFC 8446 section 5.4).
MAX_CHAFF = 32 * 1024
_MAX_CHAFF = MAX_CHAFF
#: A byte of what TLS answers by itself counts for so many: an update of keys (27 bytes) that wants another in return,
#: or a renegotiation that is refused (31), takes 15 µs and more.
ANSWER_WEIGHT = 128
_ANSWER_WEIGHT = ANSWER_WEIGHT
#: The first byte of a TLS connection: a record of the handshake.
HANDSHAKE_RECORD = 0x16
_HANDSHAKE_RECORD = HANDSHAKE_RECORD


class TlsTransport:
    """See the module. `gate` is told how the handshake went, and makes the protocol inside once it is over.

    `offer` is what the gate wants to know of this connection, `context` its `ssl.SSLContext`. `clients` is what the
    client is to be judged by, None if no certificate was asked for; `client_cert` are the lines of fields about it.
    """

    __slots__ = (
        "chaff",
        "chaff_since",
        "client_cert",
        "clients",
        "context",
        "error",
        "gate",
        "held",
        "incoming",
        "inside",
        "offer",
        "outgoing",
        "raw",
        "sender",
        "state",
        "tls",
        "written",
    )

    def __init__(self, gate: Any, context: ssl.SSLContext, offer: Any, clients: Any = None) -> None:
        self.gate = gate
        self.clients = clients
        self.client_cert = b""
        self.context: ssl.SSLContext | None = context
        self.offer = offer
        self.raw: Any = None
        self.sender: Sender | None = None
        self.tls: Any = None
        self.inside: Any = None
        self.incoming: Any = None
        self.outgoing: Any = None
        #: Records that may leave together with the next ones.
        self.held = b""
        self.error: Exception | None = None
        self.state = _FRESH
        #: Bytes that the protocol inside has written.
        self.written = 0
        #: Bytes that have come without application data in them: of the handshake, then beyond what is forgiven of
        #: them with the time, for the last time at `chaff_since`.
        self.chaff = 0
        self.chaff_since = 0.0

    # Protocol interface, for the bare transport

    def connection_made(self, transport: asyncio.Transport) -> None:
        """asyncio: a client has connected; it speaks first."""
        self.raw = transport
        self.sender = Sender(transport)
        self.gate.begun(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        """uvloop, which asks not for the type but for this: where to put what comes next."""
        arriving: memoryview = self.gate.arriving
        return arriving

    def buffer_updated(self, count: int) -> None:
        """uvloop: so much has come."""
        self.receive(self.gate.arriving[:count])

    def data_received(self, data: bytes) -> None:
        """asyncio, which has no buffers for those that are not of its type."""
        self.receive(data)

    def receive(self, data: bytes | memoryview) -> None:
        """Records, or parts of them."""
        if self.state == _FRESH:
            self.open_up(data)
        if self.state == _OPEN:
            self.read(data)
        elif self.state == _SHAKING:
            self.incoming.write(data[:_STEP])
            self.chaff += min(len(data), _STEP)
            self.shake()
            if len(data) > _STEP:
                # The rest: of a body, or of the most there may be of a handshake.
                self.receive(data[_STEP:])
        elif self.state == _LEAVING:
            self.await_goodbye(data)

    def eof_received(self) -> bool:
        """asyncio: an end without close_notify, which inside is a loss: what came may have been cut short."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the client is gone."""
        inside = self.inside
        state = self.state
        self.state = _SHUT
        # Both sides know each other: without this, only the garbage collector could free them.
        self.raw = self.sender = self.tls = self.inside = self.context = None
        if inside is not None:
            inside.connection_lost(self.error or exc)
        else:
            self.gate.lost(self, state == _SHAKING)

    def pause_writing(self) -> None:
        """asyncio: the client does not read as fast as we write."""
        if self.inside is not None:
            self.inside.pause_writing()

    def resume_writing(self) -> None:
        """asyncio: there is room again."""
        if self.inside is not None:
            self.inside.resume_writing()

    # Records in

    def open_up(self, data: bytes | memoryview) -> None:
        """The client has begun to speak: TLS, or something that has no place here."""
        if data[0] != _HANDSHAKE_RECORD:
            self.state = _SHUT
            self.gate.refused(self, bytes(data))
            return
        self.incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()
        self.tls = self.context.wrap_bio(self.incoming, self.outgoing, server_side=True)  # type: ignore[union-attr]
        self.context = None
        self.state = _SHAKING

    def shake(self) -> None:
        """Go on with the handshake as far as the bytes that are there lead."""
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            self.flush()
            if self.chaff > _MAX_HANDSHAKE:
                self.state = _SHUT
                self.gate.failed(self, None)
            return
        except ssl.SSLError as error:
            self.state = _SHUT
            # The alert that says why.
            self.flush()
            self.gate.failed(self, error)
            return
        self.state = _OPEN
        self.chaff = 0
        if self.incoming.pending and self.tls.version() == "TLSv1.3":
            # There is nothing but a session ticket, which may leave with the first answer. Without a request, it is
            # also what acknowledges the end of the handshake: a client may hold its request back until then.
            self.held = self.outgoing.read()
        else:
            self.flush()
        self.inside = self.gate.passed(self)
        if self.inside is None:
            self.close()
            return
        self.inside.connection_made(self)
        if self.incoming.pending and self.state == _OPEN:
            self.read(b"")

    def read(self, data: bytes | memoryview) -> None:
        """Take `data` in after what is there, and pass on in one piece what that makes whole."""
        opened = self.gate.opened
        total = len(data)
        size = 0
        taken = 0
        step = _GLANCE
        ended = False
        while not ended:
            self.incoming.write(data if total <= _GLANCE else data[taken : taken + step])
            self.chaff += min(total - taken, step) + size
            taken += step
            step = _STEP
            try:
                while self.incoming.pending or self.tls.pending():
                    count = self.tls.read(_RECORD, opened[size:])
                    if count == 0:
                        ended = True
                        break
                    size += count
                    self.chaff -= _RECORD
            except ssl.SSLWantReadError:
                # The rest of a record is still to come.
                pass
            except ssl.SSLError as error:
                self.break_off(error)
                return
            self.chaff -= size
            if self.overdone():
                return
            if taken >= total:
                break
        if size > 0:
            self.inside.data_received(bytes(opened[:size]))
        if ended and self.state == _OPEN:
            # Whatever it says to that: after a close_notify, TLS has no half-open connections here.
            self.inside.eof_received()
            self.close()

    def overdone(self) -> bool:
        """Hand on what TLS answers by itself. Whether the connection was cut, for too much that is no data."""
        if self.outgoing.pending:
            self.chaff += _ANSWER_WEIGHT * self.outgoing.pending
            self.flush()
        if self.chaff <= _MAX_CHAFF:
            self.chaff = max(self.chaff, 0)
            return False
        now = time.monotonic()
        self.chaff -= int(min(now - self.chaff_since, 1.0) * _MAX_CHAFF)
        self.chaff_since = now
        if self.chaff <= _MAX_CHAFF:
            return False
        self.state = _SHUT
        self.gate.cut("no_data")
        self.raw.abort()
        return True

    def break_off(self, error: ssl.SSLError) -> None:
        """The client has broken the protocol: tell it so, and let nothing that came look complete."""
        self.error = error
        self.state = _SHUT
        self.gate.broken(error)
        self.flush()
        self.raw.abort()

    # Records out

    def flush(self) -> None:
        """Hand on what TLS has to say."""
        data = self.outgoing.read()
        if self.held:
            data = self.held + data
            self.held = b""
        if data and self.sender is not None:
            self.sender.write(data)

    # Transport interface, for the protocol inside

    def write(self, data: bytes) -> None:
        """Encrypt and send, or keep what cannot be sent yet; after the end, nothing happens."""
        if self.state != _OPEN or not data:
            return
        tls = self.tls
        sent = tls.write(data)
        size = len(data)
        self.written += size
        if sent < size:
            # A record at a time.
            view = memoryview(data)
            while sent < size:
                sent += tls.write(view[sent:])
        self.flush()

    def close(self) -> None:
        """Say goodbye, and close once everything is written, or also once the client has said goodbye.

        How long that may take is the caller's to watch.
        """
        if self.state != _OPEN:
            return
        self.state = _LEAVING if self.written > _FEW_BYTES else _SHUT
        try:
            self.tls.unwrap()
        except ssl.SSLError:
            # The client has not said it yet. What we have to say is there all the same.
            self.flush()
            if self.state == _LEAVING:
                self.raw.resume_reading()
                return
        self.flush()
        self.state = _SHUT
        self.raw.close()

    def await_goodbye(self, data: bytes | memoryview) -> None:
        """What the client still says is dropped, until its goodbye."""
        total = len(data)
        taken = 0
        while taken < total:
            self.incoming.write(data[taken : taken + _STEP])
            self.chaff += min(total - taken, _STEP)
            taken += _STEP
            try:
                while count := len(self.tls.read(_RECORD)):
                    self.chaff -= count + _RECORD
            except ssl.SSLWantReadError:
                if self.overdone():
                    return
                continue
            except ssl.SSLError:
                # The end, for read() after our own; or nonsense, which is one as well.
                pass
            self.state = _SHUT
            self.raw.close()
            return

    def abort(self) -> None:
        """Close at once; what is not written is lost."""
        self.state = _SHUT
        if self.raw is not None:
            self.raw.abort()

    def is_closing(self) -> bool:
        """Whether nothing more can be written."""
        return self.state != _OPEN or self.raw.is_closing()

    def can_write_eof(self) -> bool:
        """TLS has no half-closed connections here."""
        return False

    def pause_reading(self) -> None:
        """Read no more. Nothing is left in between: what was read has been passed on."""
        if self.raw is not None:
            self.raw.pause_reading()

    def resume_reading(self) -> None:
        """Read on."""
        if self.raw is not None:
            self.raw.resume_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """As of the bare transport, which keeps what cannot be sent yet."""
        self.raw.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        """Bytes that wait to be sent."""
        return self.raw.get_write_buffer_size() if self.raw is not None else 0

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """From now on `protocol` is inside."""
        self.inside = protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """`ssl_object`, `sslcontext`, `client_cert` (lines of fields), or what the bare transport knows."""
        if name == "ssl_object":
            return self.tls
        if name == "client_cert":
            return self.client_cert
        if name == "sslcontext":
            return self.context if self.tls is None else self.tls.context
        return self.raw.get_extra_info(name, default) if self.raw is not None else default
