"""Which connections a process has, from the kernel's tables: exact, or a storm could explain everything."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from storm import sockets
from support.ports import Ports
from support.proxies import eventually

ACCEPTING = """
import ctypes, socket, sys
ctypes.CDLL(None).prctl(15, b"storm-accepts", 0, 0, 0)  # PR_SET_NAME
listening = socket.create_server(("127.0.0.1", 0))
print(listening.getsockname()[1], flush=True)
accepted = [listening.accept() for _ in range(2)]
print("accepted", flush=True)
sys.stdin.read()
"""


@dataclass(slots=True)
class Accepting:
    """A process that has accepted two of three connections, and the ports of all three clients."""

    process: asyncio.subprocess.Process
    port: int
    clients: list[int]

    @property
    def pid(self) -> int:
        return self.process.pid


@pytest.fixture
async def accepting() -> AsyncIterator[Accepting]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-S", "-c", ACCEPTING, stdin=pipe, stdout=pipe
    )
    assert process.stdout
    port = int(await process.stdout.readline())
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(3)]
        assert await process.stdout.readline() == b"accepted\n"
        yield Accepting(process, port, [client.getsockname()[1] for client in clients])
    if process.returncode is None:
        process.kill()
    await process.wait()


async def test_only_what_was_accepted(accepting: Accepting) -> None:
    first, second, _ = accepting.clients
    sockets.freeze(accepting.pid)
    found = sockets.connections(accepting.pid, {accepting.port})
    assert found == {(accepting.port, first), (accepting.port, second)}
    assert sockets.waiting({accepting.port}) == 1


async def test_only_at_the_ports_asked_for_and_of_this_process(accepting: Accepting) -> None:
    assert sockets.connections(accepting.pid, {accepting.port + 1}) == frozenset()
    assert sockets.connections(os.getpid(), {accepting.port}) == frozenset()


async def test_freeze_waits_until_it_has_stopped(accepting: Accepting) -> None:
    sockets.freeze(accepting.pid)
    state = Path(f"/proc/{accepting.pid}/stat").read_text().rpartition(")")[2].split()[0]
    assert state == "T"
    accepting.process.kill()
    await accepting.process.wait()
    with pytest.raises(ProcessLookupError):
        sockets.freeze(accepting.pid)


async def test_children_by_name_and_whether_they_live(accepting: Accepting) -> None:
    await eventually(lambda: sockets.children(os.getpid()).get(accepting.pid) == "storm-accepts")
    assert sockets.is_alive(accepting.pid)
    accepting.process.send_signal(signal.SIGKILL)
    await accepting.process.wait()
    assert accepting.pid not in sockets.children(os.getpid())
    assert not sockets.is_alive(accepting.pid)


def test_ports_that_are_kept_refuse_and_are_given_to_nobody_else_by_chance() -> None:
    with Ports() as ours, Ports() as theirs:
        kept = {ours.take() for _ in range(100)}
        assert len(kept) == 100
        assert kept.isdisjoint({theirs.take() for _ in range(300)})
        assert not any(map(sockets.accepts, kept))


def test_a_port_that_is_kept_is_there_for_its_server_again_and_again() -> None:
    with Ports() as ports:
        port = ports.take()
        for _ in range(2):
            with socket.create_server(("127.0.0.1", port)):  # with SO_REUSEADDR
                assert sockets.accepts(port)
            assert not sockets.accepts(port)
        with socket.socket() as stranger, pytest.raises(OSError, match="in use"):
            stranger.bind(("127.0.0.1", port))
