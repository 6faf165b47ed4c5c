"""From an address in the configuration to listening sockets. Needs no event loop."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

from vsproxy.config.model import Bind, Config
from vsproxy.errors import VsproxyError

UNIX_MODE = 0o660
#: Scrapes and people that may wait at the admin port.
ADMIN_BACKLOG = 128
# A name, or "all interfaces", may include a family that this host has switched off.
_NO_SUCH_FAMILY = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})
_PORT_ATTEMPTS = 16

SocketAddress = tuple[socket.AddressFamily, tuple[str, int]]


class BoundAddress:
    """The listening sockets of one configured address, non-blocking, and how to give them up.

    `bind` is the address as bound: port 0 has become the real port. With `owner` False the sockets are shared
    with whoever opened them, who also removes the file of a Unix socket.
    """

    def __init__(self, bind: Bind, sockets: list[socket.socket], owner: bool = True) -> None:
        self.bind = bind
        self.sockets = sockets
        self._inode = os.stat(bind.path).st_ino if bind.kind == "unix" and owner else 0

    def remove_path(self) -> None:
        """Remove the file of a Unix socket that is ours, unless somebody else has put one there."""
        if not self._inode:
            return
        with suppress(FileNotFoundError):
            if os.stat(self.bind.path).st_ino == self._inode:
                os.unlink(self.bind.path)

    def disown(self) -> None:
        """After a fork: the other process removes the file."""
        self._inode = 0

    def close(self) -> None:
        """Close the sockets; clients that still wait on them are reset."""
        for sock in self.sockets:
            sock.close()

    def give_up(self) -> None:
        """`remove_path` and `close`: in this order nobody new comes to a Unix socket that is about to close."""
        self.remove_path()
        self.close()


def open_address(bind: Bind, backlog: int, reuse_port: bool = False) -> BoundAddress:
    """Listen on `bind`. An empty host means all interfaces, IPv4 and IPv6; a name means all its addresses.

    Raises VsproxyError that names the address and the reason.
    """
    try:
        if bind.kind == "unix":
            return BoundAddress(bind, [_open_unix(bind.path, backlog)])
        sockets = _open_tcp(bind, backlog, reuse_port)
    except (OSError, UnicodeError) as exc:
        raise _cannot_listen(bind, exc) from exc
    return BoundAddress(replace(bind, port=sockets[0].getsockname()[1]), sockets)


def open_like(bound: BoundAddress, backlog: int) -> BoundAddress:
    """Listen once more where `bound` does, which was opened with `reuse_port`. Raises VsproxyError."""
    sockets: list[socket.socket] = []
    try:
        for sock in bound.sockets:
            host, port = sock.getsockname()[:2]
            sockets.append(_open_one(sock.family, (host, port), backlog, reuse_port=True))
    except OSError as exc:
        for sock in sockets:
            sock.close()
        raise _cannot_listen(bound.bind, exc) from exc
    return BoundAddress(bound.bind, sockets)


def check_free(bind: Bind) -> None:
    """Raises VsproxyError if somebody listens on the TCP address `bind`, whether or not the port is shared."""
    try:
        for family, where in _addresses(bind):
            try:
                _new_socket(family, where, reuse_port=False).close()
            except OSError as exc:
                if exc.errno not in _NO_SUCH_FAMILY:
                    raise
    except (OSError, UnicodeError) as exc:
        raise _cannot_listen(bind, exc) from exc


def _cannot_listen(bind: Bind, exc: OSError | UnicodeError) -> VsproxyError:
    # Of a name that cannot be one, such as one with an empty label, the resolver says so by a UnicodeError.
    reason = (exc.strerror or str(exc)) if isinstance(exc, OSError) else "not a name that could be resolved"
    return VsproxyError(f"cannot listen on {bind}: {reason}")


def _open_tcp(bind: Bind, backlog: int, reuse_port: bool) -> list[socket.socket]:
    for attempt in range(1, _PORT_ATTEMPTS + 1):
        try:
            return _open_all(list(_addresses(bind)), backlog, reuse_port)
        except OSError as exc:
            # The port that the kernel chose for one family may be taken in the other.
            if exc.errno != errno.EADDRINUSE or bind.port or attempt == _PORT_ATTEMPTS:
                raise
    raise AssertionError("the last attempt returns or raises")


def _addresses(bind: Bind) -> Iterator[SocketAddress]:
    if not bind.host:
        yield socket.AF_INET, ("0.0.0.0", bind.port)  # noqa: S104 (asked for by the configuration)
        yield socket.AF_INET6, ("::", bind.port)
        return
    found = socket.getaddrinfo(bind.host, bind.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    # The same address may be listed twice in /etc/hosts.
    yield from dict.fromkeys((family, (str(where[0]), bind.port)) for family, _, _, _, where in found)


def _open_all(addresses: list[SocketAddress], backlog: int, reuse_port: bool) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    unavailable: OSError | None = None
    try:
        for family, (host, port) in addresses:
            if port == 0 and sockets:
                port = sockets[0].getsockname()[1]
            try:
                sockets.append(_open_one(family, (host, port), backlog, reuse_port))
            except OSError as exc:
                if exc.errno not in _NO_SUCH_FAMILY:
                    raise
                unavailable = exc
        if unavailable is not None and not sockets:
            raise unavailable
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _open_one(family: int, where: tuple[str, int], backlog: int, reuse_port: bool) -> socket.socket:
    sock = _new_socket(family, where, reuse_port)
    try:
        return _listen(sock, backlog)
    except BaseException:
        sock.close()
        raise


def _new_socket(family: int, where: tuple[str, int], reuse_port: bool) -> socket.socket:
    # With the protocol named: asyncio sets TCP_NODELAY only on sockets that say they are TCP.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            # Each family has its own socket, so that "[::]:80" and "0.0.0.0:80" can stand side by side.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(where)
    except BaseException:
        sock.close()
        raise
    return sock


def _open_unix(path: str, backlog: int) -> socket.socket:
    _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(path)
        # Before listen(), so that nobody gets in by the mode that the umask happened to give.
        os.chmod(path, UNIX_MODE)
        return _listen(sock, backlog)
    except BaseException:
        sock.close()
        raise


def _listen(sock: socket.socket, backlog: int) -> socket.socket:
    sock.listen(backlog)
    sock.setblocking(False)
    return sock


def _remove_stale(path: str) -> None:
    """Remove the file that a killed process left behind; raises OSError if it is anything else."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(errno.EEXIST, "the file exists and is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except BlockingIOError:
            pass  # its queue is full: somebody listens
    raise OSError(errno.EADDRINUSE, "another process listens there")


#: Which listener of a configuration: its address as configured, and how many of the same stood before it (only
#: addresses with port 0 can stand there twice).
ListenerKey = tuple[str, int]


def listener_keys(config: Config) -> list[ListenerKey]:
    """The keys of all listeners, in order: what tells, over a reload, whether a listener is still the same."""
    seen: dict[str, int] = {}
    keys = []
    for listener in config.listeners:
        name = str(listener.bind)
        keys.append((name, seen.get(name, 0)))
        seen[name] = seen.get(name, 0) + 1
    return keys
