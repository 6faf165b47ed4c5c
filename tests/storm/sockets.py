"""Processes and their connections as the kernel's tables show them."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import time
from collections.abc import Collection, Iterator
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
#: The same number on every architecture.
_PIDFD_GETFD = 438
LISTEN = "0A"
#: ESTABLISHED and CLOSE_WAIT: the side that has accepted, or should, has not closed.
OPEN = ("01", "08")


def children(pid: int) -> dict[int, str]:
    """The names (`comm`) of the children of `pid`, by their pid."""
    found: dict[int, str] = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            try:
                found[int(child)] = Path(f"/proc/{child}/comm").read_text().strip()
            except (FileNotFoundError, ProcessLookupError):
                continue  # gone since
    return found


def is_alive(pid: int) -> bool:
    """Whether `pid` is a process that has not ended; a zombie has."""
    try:
        return _state(Path(f"/proc/{pid}")) not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def freeze(pid: int, seconds: float = 10.0) -> None:
    """SIGSTOP, and wait until every thread has stopped. Raises `ProcessLookupError` if it ends instead."""
    os.kill(pid, signal.SIGSTOP)
    deadline = time.monotonic() + seconds
    try:
        while any(_state(task) not in "tT" for task in Path(f"/proc/{pid}/task").iterdir()):
            assert time.monotonic() < deadline, f"process {pid} does not stop"
            time.sleep(0.0002)
    except FileNotFoundError:
        raise ProcessLookupError(pid) from None


def _state(directory: Path) -> str:
    return (directory / "stat").read_text().rpartition(")")[2].split()[0]


def connections(pid: int, ports: Collection[int]) -> frozenset[tuple[int, int]]:
    """(own port, peer's port) of the accepted TCP connections of `pid` to one of its `ports`.

    Asked of each socket, which we duplicate for a moment (pidfd_getfd(2), as root or for our own children): the
    kernel hands its table out in pieces, and on a busy machine lines slip between two.
    """
    found = set()
    process = os.pidfd_open(pid)
    try:
        for descriptor in _socket_descriptors(pid):
            copy = _LIBC.syscall(_PIDFD_GETFD, process, descriptor, 0)
            if copy < 0:
                raise OSError(ctypes.get_errno(), "pidfd_getfd", pid)
            with socket.socket(fileno=copy) as sock:
                found |= _ends(sock, ports)
    finally:
        os.close(process)
    return frozenset(found)


def _ends(sock: socket.socket, ports: Collection[int]) -> set[tuple[int, int]]:
    if sock.family != socket.AF_INET:
        return set()
    try:
        own, peer = sock.getsockname(), sock.getpeername()
    except OSError:
        return set()  # it listens, or is gone
    return {(own[1], peer[1])} if own[1] in ports else set()


def waiting(ports: Collection[int]) -> int:
    """How many connections to `ports` nobody has accepted yet."""
    return sum(inode == "0" and state in OPEN for _, _, state, inode in _at(ports))


def _at(ports: Collection[int]) -> Iterator[tuple[int, int, str, str]]:
    """(own port, peer's port, state, inode) of all connections to `ports`."""
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        # There is no table of a family that the kernel does not have.
        for line in table.read_text().splitlines()[1:] if table.exists() else ():
            _, local, peer, state, *_, inode = line.split()[:10]
            if state != LISTEN and _port(local) in ports:
                yield _port(local), _port(peer), state, inode


def _socket_descriptors(pid: int) -> list[int]:
    found = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if os.readlink(descriptor).startswith("socket:["):
                found.append(int(descriptor.name))
        except FileNotFoundError:
            continue
    return found


def _port(address: str) -> int:
    return int(address.rpartition(":")[2], 16)


def accepts(port: int) -> bool:
    """Whether something listens on `port`. The connection is closed at once."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
