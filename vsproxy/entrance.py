# cython: annotation_typing=False
"""From a listening socket to connections, without a task for each client.

`connect_accepted_socket` of either loop waits once, for a future that is done within a turn or two. So its
coroutine is taken through by hand.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import Callable
from functools import partial
from typing import Any

import uvloop

from vsproxy import sockets
from vsproxy.descriptors import Descriptors
from vsproxy.listener_stats import ListenerStats
from vsproxy.tls_clients import ClientCheck
from vsproxy.tls_transport import TlsTransport

# accept(2): errors of the one connection that was about to be accepted; the next may be fine.
ONE_CLIENT_FAILED = frozenset(
    {
        errno.ECONNABORTED,
        errno.EPROTO,
        errno.ENOPROTOOPT,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENONET,
        errno.EOPNOTSUPP,
    }
)

#: The number is the descriptor of a plain connection, the bytes are the packed address of its peer. -1 and nothing:
#: the transport has to be asked.
MakeProtocol = Callable[[ListenerStats, int, bytes], asyncio.BaseProtocol]


class BareSocket:
    """The little that uvloop asks of the socket that it makes a transport of, once, at its making.

    It opens the descriptor by itself, and closes it too: a socket object would ask the kernel for what is known
    here, and set what the loop sets again.
    """

    __slots__ = ("descriptor", "family", "type")

    def __init__(self) -> None:
        self.descriptor = -1
        self.family = 0
        # Not an enum, whose comparisons would cost more than the rest of what is done with it.
        self.type = int(socket.SOCK_STREAM)

    def fileno(self) -> int:
        """The descriptor of the client that is being taken in."""
        return self.descriptor

    def close(self) -> None:
        """The transport has closed its descriptor: nothing is left to do."""


class Entrance:
    """Takes the clients of one listener in. `on_failed` is told of each that did not become a connection, and why.

    At most `limit` are held at a time, 0 for no limit. `make_protocol` and `context`, its TLS, are for those that
    come from now on, `clients` what they are judged by; `gate` sees to the handshakes. `fronts`, if not None, asks
    first whether a client is a front.
    """

    __slots__ = (
        "bare",
        "clients",
        "context",
        "descriptors",
        "entering",
        "fronts",
        "gate",
        "limit",
        "loop",
        "make_protocol",
        "next",
        "on_failed",
        "socket",
        "stats",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        stats: ListenerStats,
        descriptors: Descriptors,
        gate: Any,
        on_failed: Callable[[Exception], None],
    ) -> None:
        self.loop = loop
        self.stats = stats
        self.descriptors = descriptors
        self.gate = gate
        self.on_failed = on_failed
        self.limit = 0
        self.make_protocol: MakeProtocol | None = None
        self.context: ssl.SSLContext | None = None
        self.fronts: Any = None
        self.clients: ClientCheck | None = None
        self.bare = isinstance(loop, uvloop.Loop)
        # One for all: a transport that has been made does not look at it again.
        self.socket = BareSocket()
        self.next: Any = None
        self.entering: list[tuple[Any, Any]] = []

    def is_full(self) -> bool:
        """Whether nobody should be taken in now."""
        return self.descriptors.taken >= self.descriptors.capacity or (
            self.limit > 0 and self.stats.pending + self.stats.active >= self.limit
        )

    def take(self, listening: socket.socket, family: int, most: int) -> int:
        """Take in up to `most` of those who wait at `listening`, which is of `family`; returns how many.

        Raises OSError if the kernel refuses, as it does for lack of descriptors.
        """
        taken = 0
        while taken < most and not self.is_full() and self.take_one(listening, family):
            taken += 1
        return taken

    def take_one(self, listening: socket.socket, family: int) -> bool:
        """Take the next one in, whatever the limits; False if nobody waits. Raises OSError as `take` does."""
        while True:
            # The method `accept` would make an address of text, and a socket object.
            accepted = sockets.accept(listening.fileno())
            number = accepted[0]
            if number >= 0:
                self.admit(number, family, accepted[1])
                return True
            if number in (-errno.EAGAIN, -errno.EINTR):
                return False
            if -number not in ONE_CLIENT_FAILED:
                raise OSError(-number, os.strerror(-number))

    def admit(self, descriptor: int, family: int, origin: bytes) -> None:
        """Make a connection of an accepted client; its protocol hears of it in a moment."""
        self.stats.admitted()
        client: Any = self.socket
        # Only uvloop is known to keep the descriptor that it was given.
        known = -1
        if self.bare:
            known = descriptor
            client.descriptor = descriptor
            client.family = family
        else:
            # -1: asyncio sets TCP_NODELAY only on sockets that say they are TCP.
            client = socket.socket(family, socket.SOCK_STREAM, -1, descriptor)
            client.setblocking(False)
        try:
            if self.fronts is not None:
                # The terms of this moment, however long the header takes.
                secure = None if self.context is None else partial(self.secured, self.context, self.clients)
                self.next = self.fronts.arrival(known, origin, family, self.make_protocol, secure)
            elif self.context is None:
                self.next = self.make_protocol(self.stats, known, origin)  # type: ignore[misc]
            else:
                self.next = self.secured(self.context, self.clients, self.make_protocol)
            entry: Any = self.loop.connect_accepted_socket(self.take_next, client).__await__()
            ready = next(entry)
        except Exception as exc:
            if self.bare:
                os.close(descriptor)
            else:
                client.close()
            self.failed(exc)
            return
        if not self.entering:
            self.loop.call_soon(self.go_on)
        self.entering.append((entry, ready))

    def secured(self, context: ssl.SSLContext, clients: ClientCheck | None, offer: Any) -> TlsTransport:
        """TLS on a connection; `offer` makes the protocol inside, `clients` is what the client is judged by."""
        return TlsTransport(self.gate, context, offer, clients)

    def take_next(self) -> Any:
        """The protocol of the client that is being admitted."""
        protocol = self.next
        self.next = None
        return protocol

    def go_on(self) -> None:
        """Let those through whose transports are ready, as all are that came before this was due."""
        entering = self.entering
        self.entering = []
        for entry, ready in entering:
            if not ready.done():
                if not self.entering:
                    self.loop.call_soon(self.go_on)
                self.entering.append((entry, ready))
                continue
            try:
                next(entry, None)
            except Exception as exc:
                self.failed(exc)

    def failed(self, exc: Exception) -> None:
        """A client did not become a connection."""
        self.on_failed(exc)
        # Clients leave at any time. uvloop has RuntimeError for a transport that broke before its protocol heard
        # of it. Anything else is ours.
        if not isinstance(exc, OSError | RuntimeError):
            self.loop.call_exception_handler({"message": "a client could not be served", "exception": exc})
