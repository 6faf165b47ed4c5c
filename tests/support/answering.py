"""The least that a listener can serve: a protocol that answers each head with 200, alone or in a process.

    python -m support.answering LOOP DESCRIPTORS BUDGET

serves on a free port with `DESCRIPTORS` open files allowed and a budget made for `BUDGET` of them, prints the
address, and at the end of its input prints what the listener has counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import sys
from collections.abc import Iterator
from typing import Any

import uvloop

from vsproxy.config.model import Bind, ListenerConfig
from vsproxy.descriptors import Descriptors
from vsproxy.listener import Listener
from vsproxy.listener_stats import ListenerStats
from vsproxy.wire.proxy_header import Ends

LOOPS = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@contextlib.contextmanager
def strict_runner(loop: str) -> Iterator[asyncio.Runner]:
    """Runs coroutines on one of `LOOPS`; fails at the end for any error that the loop had to report."""
    reported: list[dict[str, Any]] = []
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.get_loop().set_exception_handler(lambda _, context: reported.append(context))
        yield runner
    assert reported == []


class Answering(asyncio.Protocol):
    """Answers each head with `ANSWER`; keeps to the contract between a connection and its listener."""

    def __init__(
        self, stats: ListenerStats, descriptor: int = -1, origin: bytes = b"", ends: Ends | None = None
    ) -> None:
        self.stats = stats
        self.ends = ends
        self.transport: Any = None
        self.received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.stats.opened()

    def data_received(self, data: bytes) -> None:
        assert self.transport is not None, "data before connection_made"
        self.received += data
        while b"\r\n\r\n" in self.received:
            _, _, self.received = self.received.partition(b"\r\n\r\n")
            self.transport.write(ANSWER)

    def connection_lost(self, exc: Exception | None) -> None:
        self.stats.closed()


async def serve(budget: int) -> None:
    """Serve until the end of standard input."""
    loop = asyncio.get_running_loop()
    config = ListenerConfig(bind=Bind("tcp", "127.0.0.1", 0))
    listener = Listener(config, loop, Answering, Descriptors(budget))
    listener.bind()
    listener.start()
    print(listener.address, flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    stats = listener.stats
    print(json.dumps({"accepted": stats.accepted, "pauses": stats.pauses, "held": stats.held}), flush=True)
    listener.stop_accepting()
    await listener.settle()


def main() -> None:
    """The process."""
    loop, descriptors, budget = sys.argv[1:]
    resource.setrlimit(resource.RLIMIT_NOFILE, (int(descriptors), int(descriptors)))
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(serve(int(budget)))


if __name__ == "__main__":
    main()
