# cython: annotation_typing=False
"""TLS on one connection: the protocol of the bare transport, and the transport of what is spoken inside.

The loops have TLS of their own, which costs a timer for every handshake and every close, 256 KiB to read into per
connection, and always a wait for the peer's close_notify after ours. Here deadlines are those of the gate and of the
protocol inside, and all connections of a gate are read through the same two buffers.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from typing import Any

from vsproxy.sender import Sender
from vsproxy.tls_limits import ANSWER_WEIGHT, FEW_BYTES, GLANCE, MAX_CHAFF, MAX_HANDSHAKE, RECORD, STEP

# How far a connection is: nothing seen of the peer, shaking hands, open, waiting for the peer's close_notify, and
# none of these: told off, or closed as far as TLS is concerned.
FRESH, SHAKING, OPEN, LEAVING, SHUT = range(5)
_FRESH, _SHAKING, _OPEN, _LEAVING, _SHUT = FRESH, SHAKING, OPEN, LEAVING, SHUT
_FEW_BYTES, _RECORD, _STEP, _GLANCE = FEW_BYTES, RECORD, STEP, GLANCE
_MAX_HANDSHAKE, _MAX_CHAFF, _ANSWER_WEIGHT = MAX_HANDSHAKE, MAX_CHAFF, ANSWER_WEIGHT
#: The first byte of a TLS connection: a record of the handshake.
HANDSHAKE_RECORD = _HANDSHAKE_RECORD = 0x16


class TlsTransport:
    """See the module. `gate` is told how the handshake went, and makes the protocol inside once it is over.

    `offer` is what the gate makes the protocol of, `context` its `ssl.SSLContext`. `clients` is what the client is to
    be judged by, None if no certificate was asked for; `client_cert` are the lines of fields about it. The peer is a
    client, unless the gate answers `begun` with `speak_first`.
    """

    __slots__ = (
        "chaff",
        "chaff_since",
        "client_cert",
        "clients",
        "context",
        "error",
        "gate",
        "greeting",
        "held",
        "incoming",
        "inside",
        "offer",
        "outgoing",
        "patient",
        "raw",
        "sender",
        "state",
        "tls",
        "watched",
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
        #: Whether we are the client.
        self.greeting = False
        #: Whether `close` waits for the peer's close_notify, after more than a few bytes.
        self.patient = True
        #: Whether the gate wants to know of the next data that come.
        self.watched = False
        #: Bytes that the protocol inside has written.
        self.written = 0
        #: Bytes that have come without application data in them: of the handshake, then beyond what is forgiven of
        #: them with the time, for the last time at `chaff_since`.
        self.chaff = 0
        self.chaff_since = 0.0

    # Protocol interface, for the bare transport

    def connection_made(self, transport: asyncio.Transport) -> None:
        """asyncio: the connection stands. A client speaks first."""
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
        """asyncio: the peer is gone."""
        inside = self.inside
        state = self.state
        if self.greeting and inside is not None:
            # Still open: an early answer that the loop has not read may be handed in.
            inside.connection_lost(self.error or exc)
        self.state = _SHUT
        # Both sides know each other: without this, only the garbage collector could free them.
        self.raw = self.sender = self.tls = self.inside = self.context = None
        if inside is None:
            self.gate.lost(self, state == _SHAKING)
        elif not self.greeting:
            inside.connection_lost(self.error or exc)

    def pause_writing(self) -> None:
        """asyncio: the peer does not read as fast as we write."""
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
        self.begin(True, None, None)

    def speak_first(self, name: str, session: ssl.SSLSession | None) -> None:
        """As a client, begin the handshake with the server that is called `name`, on with `session` if it agrees.

        Raises ValueError for what cannot be a name. A `close` does not wait, unless the connection becomes somebody
        else's: after an answer there is nothing that the server could still have to read.
        """
        self.greeting = True
        self.patient = False
        self.begin(False, name, session)
        self.shake()

    def begin(self, server_side: bool, name: str | None, session: ssl.SSLSession | None) -> None:
        """From here on, there is TLS."""
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = self.context.wrap_bio(self.incoming, self.outgoing, server_side, name, session)  # type: ignore[union-attr]
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
        if self.greeting:
            # The last of the handshake is nothing that the server waits for: it leaves with the first request.
            self.held = self.outgoing.read()
        elif self.incoming.pending and self.tls.version() == "TLSv1.3":
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
            if self.watched:
                self.gate.answered(self)
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
        """The peer has broken the protocol, or says that we have: let nothing that came look complete."""
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
        """Say goodbye, and close once everything is written, or also once the peer has said goodbye.

        How long that may take is the caller's to watch.
        """
        if self.state != _OPEN:
            return
        self.state = _LEAVING if self.patient and self.written > _FEW_BYTES else _SHUT
        try:
            self.tls.unwrap()
        except ssl.SSLError:
            # The peer has not said it yet. What we have to say is there all the same.
            self.flush()
            if self.state == _LEAVING:
                self.raw.resume_reading()
                return
        self.flush()
        self.state = _SHUT
        self.raw.close()

    def await_goodbye(self, data: bytes | memoryview) -> None:
        """What the peer still says is dropped, until its goodbye."""
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
        """From now on `protocol` is inside, whose last words a server may not have read yet when we close."""
        self.inside = protocol
        self.patient = True

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """`ssl_object`, `sslcontext`, `client_cert` (lines of fields), or what the bare transport knows."""
        if name == "ssl_object":
            return self.tls
        if name == "client_cert":
            return self.client_cert
        if name == "sslcontext":
            return self.context if self.tls is None else self.tls.context
        return self.raw.get_extra_info(name, default) if self.raw is not None else default
