"""The processes of a running vsproxy from outside: who has which connection, what each of them holds."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import time
from collections.abc import Collection, Sequence
from pathlib import Path

from storm.sockets import connections
from support.client import Client
from support.proxies import ProxyProcess, comm_of, descriptors_of, eventually, status_bytes
from support.server import Server
from support.stage import Stage

#: Looks at the descriptors of a process that closes some meanwhile.
TRIES = 64
#: Seconds within which the kernel gives a connection to a certain worker; each is a throw of a coin, and a
#: sibling gets all of them until a worker that was just born accepts its own.
CHANCE = 10.0
#: Requests in a row that show who gets any; more than the servers that a test has.
TURNS = 6


def workers_of(process: ProxyProcess, clients: Sequence[Client]) -> list[int]:
    """For each client the id of the worker that has accepted it; 0: nobody has yet."""
    ends = [(client.sock.getpeername()[1], client.sock.getsockname()[1]) for client in clients]
    ports = {port for port, _ in ends}
    owners = {end: worker for worker in process.workers for end in _accepted_by(worker, ports)}
    return [owners.get(end, 0) for end in ends]


def _accepted_by(worker: int, ports: Collection[int]) -> frozenset[tuple[int, int]]:
    for _ in range(TRIES):
        # It lives, and closes others of its descriptors meanwhile.
        with contextlib.suppress(OSError):
            return connections(worker, ports)
    raise AssertionError(f"{comm_of(worker)} closes descriptors faster than they can be looked at")


async def connect_to(stage: Stage, process: ProxyProcess, worker: int) -> Client:
    """A client whose connection is at `worker`."""
    last = time.monotonic() + CHANCE
    while time.monotonic() < last:
        client = await stage.connect()
        if await _accepted(process, client) == worker:
            return client
        client.close()
        # A newborn needs the processor more than we do.
        await asyncio.sleep(0.01)
    raise AssertionError(f"not one connection in {CHANCE} s for {comm_of(worker)}")


async def connect_to_each(stage: Stage, process: ProxyProcess) -> list[Client]:
    """A client at every worker, in the order of their numbers."""
    return [await connect_to(stage, process, worker) for worker in process.workers]


async def served_by(stage: Stage, process: ProxyProcess, *wanted: Server) -> None:
    """Wait until at every worker these servers answer, and no other; a worker hears of states after control."""
    names = {server.name.encode() for server in wanted}
    for client in await connect_to_each(stage, process):
        async with asyncio.timeout(10), client:
            while {(await client.request()).body for _ in range(TURNS)} != names:
                await asyncio.sleep(0.01)


def kill(pid: int) -> None:
    """SIGKILL to one process. 0, which stands for none, would mean all of this group."""
    assert pid > 1, "no such process"
    os.kill(pid, signal.SIGKILL)


async def _accepted(process: ProxyProcess, client: Client) -> int:
    """The worker that has accepted a client, awaited."""
    (worker,) = await eventually(lambda: [one for one in workers_of(process, [client]) if one], what="accept")
    return worker


async def replaced(process: ProxyProcess, dead: int, workers: int) -> list[int]:
    """Wait until there are control and `workers` workers, and `dead` is none of them; the workers' ids."""

    def complete() -> list[int] | None:
        # Looked at once: between two looks the dead one can vanish, and would pass for replaced.
        found, control = process.workers, process.control
        there = len(found) == workers and control
        return found if there and dead not in (*found, control) else None

    found = await eventually(complete, 10.0, what="a successor")
    assert found
    return found


def pss(pid: int) -> int:
    """Memory of a process in bytes; a page that n processes share counts as the n-th part (proc(5))."""
    match = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    assert match
    return int(match[1]) * 1024


def rss(pid: int) -> int:
    """Memory of a process in bytes, whether or not others share it."""
    return status_bytes(pid, "VmRSS")


def threads_of(pid: int) -> int:
    """How many threads a process has."""
    return len(os.listdir(f"/proc/{pid}/task"))


def held(process: ProxyProcess) -> dict[str, tuple[int, int]]:
    """Descriptors and threads of each process of the family, by its name."""
    return {_name(process, pid): (descriptors_of(pid), threads_of(pid)) for pid in process.family}


def _name(process: ProxyProcess, pid: int) -> str:
    return "supervisor" if pid == process.pid else comm_of(pid)
