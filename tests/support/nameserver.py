"""A nameserver on loopback, UDP and TCP, whose records and faults a test sets as it goes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import cast

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

PATIENCE = 10.0


class NameServer:
    """Answers from `records`; keeps what was asked.

    A name without any record does not exist; records come in any order. `faults` gives a response code
    (`SERVFAIL`), or `silence`, by name or by (name, type). With `truncating` every answer over UDP is cut
    short.
    """

    def __init__(self) -> None:
        self.host = "127.0.0.1"
        self.port = 0
        self.records: dict[tuple[str, str], tuple[int, tuple[str, ...]]] = {}
        self.faults: dict[str | tuple[str, str], str] = {}
        self.truncating = False
        self.asked: list[tuple[str, str]] = []
        self.asked_over_tcp = 0
        self._news = asyncio.Condition()

    @property
    def address(self) -> str:
        """`host:port`, for the configuration."""
        return f"{self.host}:{self.port}"

    def put(self, name: str, kind: str, *values: str, ttl: int = 300) -> None:
        """Let `name` have exactly these records of a kind (A, AAAA, CNAME, SRV); none takes them away."""
        self.records[name, kind] = (ttl, values)
        if not values:
            del self.records[name, kind]

    def count(self, name: str, kind: str) -> int:
        """How often this was asked."""
        return self.asked.count((name, kind))

    async def until_asked(self, name: str, kind: str, times: int = 1) -> None:
        """Wait until this was asked `times` more often than now."""
        wanted = self.count(name, kind) + times
        async with asyncio.timeout(PATIENCE), self._news:
            await self._news.wait_for(lambda: self.count(name, kind) >= wanted)

    async def respond(self, wire: bytes, limited: bool) -> bytes | None:
        """The answer to a question; `limited` over UDP."""
        request = dns.message.from_wire(wire)
        question = request.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        kind = dns.rdatatype.to_text(question.rdtype)
        async with self._news:
            self.asked.append((name, kind))
            self._news.notify_all()
        fault = self.faults.get((name, kind)) or self.faults.get(name)
        if fault == "silence":
            return None
        response = dns.message.make_response(request)
        if fault:
            response.set_rcode(dns.rcode.from_text(fault))
        elif limited and self.truncating:
            response.flags |= dns.flags.TC
        else:
            self._fill(response, name, kind)
        return response.to_wire()

    def _fill(self, response: dns.message.Message, name: str, kind: str) -> None:
        """Records of `name`, and of what it is an alias of."""
        alias = self.records.get((name, "CNAME"))
        if alias is not None:
            ttl, values = alias
            response.answer.append(dns.rrset.from_text(f"{name}.", ttl, "IN", "CNAME", *values))
            name = values[0].removesuffix(".")
        if not any(known == name for known, _ in self.records):
            response.set_rcode(dns.rcode.NXDOMAIN)
        elif (name, kind) in self.records:
            ttl, values = self.records[name, kind]
            response.answer.append(dns.rrset.from_text(f"{name}.", ttl, "IN", kind, *values))


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, respond: Callable[[bytes, bool], Awaitable[bytes | None]]) -> None:
        self._respond = respond
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, peer: tuple[str, int]) -> None:
        task = asyncio.ensure_future(self._answer(data, peer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, data: bytes, peer: tuple[str, int]) -> None:
        answer = await self._respond(data, True)
        if answer is not None:
            self._transport.sendto(answer, peer)


def _sockets() -> tuple[socket.socket, socket.socket]:
    """UDP and TCP on one free port."""
    while True:
        stream = socket.create_server(("127.0.0.1", 0))
        datagrams = socket.socket(type=socket.SOCK_DGRAM)
        try:
            datagrams.bind(stream.getsockname())
            return datagrams, stream
        except OSError:
            datagrams.close()
            stream.close()


@contextlib.asynccontextmanager
async def nameserver() -> AsyncIterator[NameServer]:
    """A nameserver in the running loop."""
    server = NameServer()
    datagrams, stream = _sockets()
    server.port = stream.getsockname()[1]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError), contextlib.closing(writer):
            while True:
                size = int.from_bytes(await reader.readexactly(2), "big")
                server.asked_over_tcp += 1
                answer = await server.respond(await reader.readexactly(size), False)
                if answer is not None:
                    writer.write(len(answer).to_bytes(2, "big") + answer)

    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(server.respond), sock=datagrams)
    listening = await asyncio.start_server(serve, sock=stream)
    try:
        yield server
    finally:
        transport.close()
        listening.close()
