"""Workloads: the whole way of a request through a real `Proxy`, from the client's bytes to the last of the answer's.

The proxy is built from a configuration and driven by what a loop calls, the methods of its protocols, with stand-ins
for its transports. Not counted: the loop, the kernel, and the thread that writes the access log.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Callable
from unittest.mock import patch

from bench.instructions.messages import BROWSER_REQUEST, POST_1K, RESPONSE
from bench.instructions.standins import Peer, StandInLoop, stop_the_clock
from bench.instructions.workload import Step
from vsproxy import Config, Proxy

# In the first exchanges the proxy connects, and learns that the servers keep their connections open, without which
# no POST goes out on one.
FIRST_EXCHANGES = 64
#: Turns of the loop in which the proxy has to do the next thing.
MOST_TURNS = 100_000


def browser_get() -> Step:
    """A browser's request, answered by one of two servers."""
    return forwarding(BROWSER_REQUEST, "off")


def post_1k() -> Step:
    """A request with a body of 1 KiB."""
    return forwarding(POST_1K, "off")


def logged_get() -> Step:
    """A browser's request that is logged as JSON."""
    return forwarding(BROWSER_REQUEST, "json")


def forwarding(request: bytes, access: str) -> Step:
    """Sends `request` through a proxy that has connections to client and servers open."""
    loop = StandInLoop()
    loop.run_until_complete(prepare(loop, access))
    stop_the_clock()
    (client,) = loop.clients
    servers = loop.servers
    receive = client.protocol.data_received
    assert len(servers) == 2

    def step() -> None:
        receive(request)
        for server in servers:
            if server.has_sent():
                server.take_sent()
                server.protocol.data_received(RESPONSE)
        assert client.take_sent()

    return step


async def prepare(loop: StandInLoop, access: str) -> None:
    """Start the proxy and bring its connections about."""
    # The writer of the log is a thread, and nothing is the same twice with two of them.
    with patch.object(threading.Thread, "start"):
        proxy = Proxy(Config.model_validate(configuration(access)))
        await proxy.start()
    host, _, port = proxy.addresses[0].rpartition(":")
    with socket.create_connection((host, int(port))):
        client = await first(lambda: loop.clients)
    for _ in range(FIRST_EXCHANGES):
        client.protocol.data_received(BROWSER_REQUEST)
        server = await first(lambda: [server for server in loop.servers if server.has_sent()])
        server.take_sent()
        server.protocol.data_received(RESPONSE)
        answer = client.taken[: client.take_sent()]
        assert answer.endswith(RESPONSE[-16:]), answer


async def first(look: Callable[[], list[Peer]]) -> Peer:
    """The first that `look` sees, once it sees one. Raises `AssertionError` if it does not within many turns."""
    for _ in range(MOST_TURNS):
        if found := look():
            return found[0]
        await asyncio.sleep(0)
    raise AssertionError("the proxy does nothing")


def configuration(access: str) -> dict[str, object]:
    """Two servers behind one listener, as the shortest of the examples has them."""
    servers = [{"address": "127.0.0.1:9001"}, {"address": "127.0.0.1:9002"}]
    return {
        "log": {"access": access, "access_path": os.devnull},
        "listeners": [{"bind": "127.0.0.1:0"}],
        "routes": [{"path": "/", "pool": "shop"}],
        "pools": {"shop": {"balance": "least_conn", "keepalive": 16, "servers": servers}},
    }
