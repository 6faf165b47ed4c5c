"""Proxies for the benchmark's tests: one that answers as it is told, and cores to run on."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.peers.base import Peer, Setup
from bench.processes import Cores, Process, free_ports

_PROGRAM = Path(__file__).with_name("wrong_proxies.py")


def cores() -> Cores:
    """Two where there are two: these tests measure nothing that would need them."""
    allowed = sorted(os.sched_getaffinity(0))
    return Cores(proxy=allowed[0], load=allowed[-1])


def answer(body: bytes, status: str = "200 OK", length: int | None = None) -> bytes:
    """A response; `length` other than that of the body makes it a wrong one."""
    size = len(body) if length is None else length
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status.encode(), size, body)


class ScriptedPeer(Peer):
    """Answers every request with the same bytes."""

    config_name = "scripted"

    def __init__(self, name: str, answer: bytes, *options: str) -> None:
        self.name = name
        self._arguments = [repr(answer), *options]

    def find(self) -> Path | None:
        return Path(sys.executable)

    def version(self) -> str:
        return "0"

    def values(self, setup: Setup) -> dict[str, object]:
        return {}

    def write_config(self, setup: Setup) -> Path:
        return setup.directory

    def command(self, config: Path, setup: Setup) -> list[str]:
        return [sys.executable, str(_PROGRAM), str(setup.port), *self._arguments]

    def check_command(self, config: Path) -> list[str]:
        return ["true"]


@contextmanager
def running(peer: Peer, directory: Path) -> Iterator[int]:
    """The port of a peer that runs on its own."""
    (port,) = free_ports(1)
    setup = Setup(directory=directory, port=port, servers=("127.0.0.1:1",))
    process = Process(peer.name, peer.command(peer.write_config(setup), setup), str(cores().proxy), directory)
    try:
        process.wait_for_port(port)
        yield port
    finally:
        process.stop()
