"""How `vsproxy reload` reaches the running supervisor of a file: one line of JSON each way, on a Unix socket.

The socket has an abstract name (unix(7)): it ends with the last descriptor, so nothing stale is left behind,
and it is known in one network namespace. The name is made of

- the path of the file, made absolute but with its links as they are: a link that is turned to a new version
  is a usual way to change a configuration, and the reload after it must still find the process;
- which root directory that path starts from: containers on the host's network have the same paths, and other
  files. `docker exec` and a unit's sandbox keep the root directory, so both find the process.

The user is no part of it: root has to find what runs as somebody else, and whoever wants to squat a name can
put any user into it. Instead both ends look at who the other is (SO_PEERCRED): only root and the supervisor's
own user may ask, and only these are believed; for what root believes see `ask`.

The name lives as long as any process has the socket: every forked child has to `close` the listener.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import pwd
import socket
import struct
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import NamedTuple

from vsproxy.errors import VsproxyError

log = logging.getLogger("vsproxy")

#: The account that vsproxy has in its container image and its systemd unit.
ACCOUNT = "vsproxy"
MAX_REQUEST = 64 * 1024
#: Bytes that a client reads of an answer; the mistakes of the largest file are far fewer.
MAX_REPLY = 16 * 1024 * 1024
#: Bytes of an answer that the kernel is asked to keep for a client that is slow to read.
MAX_BUFFERED = 1024 * 1024
#: Seconds in which a client has to say what it wants, and in which it has to take the answer.
DEADLINE = 5.0
#: Clients at a time; each is root or the supervisor's own user.
MAX_CALLS = 16
_CHUNK = 64 * 1024
_CREDENTIALS = struct.Struct("@iII")
_TIMEVAL = struct.Struct("@ll")
# Out of descriptors or memory: the client waits in the queue until there are some again.
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Peer(NamedTuple):
    """Who is at the other end: of a client as it connected, of a server as it began to listen."""

    pid: int
    uid: int

    @classmethod
    def of(cls, sock: socket.socket) -> Peer:
        """The peer of a connected Unix socket (SO_PEERCRED, unix(7))."""
        found = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, uid, _ = _CREDENTIALS.unpack(found)
        return cls(pid, uid)

    def __str__(self) -> str:
        # No name: looking it up may take a while, and the supervisor must not wait.
        return f"process {self.pid} (uid {self.uid})"


class RemoteListener:
    """Where the supervisor of the file at `path` can be asked; for `selectors`, and non-blocking.

    Raises VsproxyError if another process answers for the file already, or if the socket cannot be made. A
    forked child calls `close` at once: that ends nothing for its parent.
    """

    def __init__(self, path: str) -> None:
        self._calls: set[RemoteCall] = set()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.bind(_name(os.path.abspath(path)))
            self._socket.listen(MAX_CALLS)
            self._socket.setblocking(False)
        except OSError as error:
            self._socket.close()
            reason = _holder(path) if error.errno == errno.EADDRINUSE else error.strerror
            raise VsproxyError(f"{path}: commands do not reach this process: {reason}") from error

    def fileno(self) -> int:
        """Readable when `accept` has something to do."""
        return self._socket.fileno()

    def accept(self) -> RemoteCall | None:
        """The next client that may ask; None if there is none, or it was one that may not."""
        try:
            sock, _ = self._socket.accept()
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno in _EXHAUSTED:
                return None
            raise
        sock.setblocking(False)
        call = RemoteCall(sock, self._calls.discard)
        busy = len(self._calls) >= MAX_CALLS
        self._calls.add(call)
        if call.peer.uid not in (0, os.geteuid()):
            call.refuse(f"only root and uid {os.geteuid()} may give commands to process {os.getpid()}")
        elif busy:
            call.refuse(f"process {os.getpid()} has {MAX_CALLS} other clients")
        else:
            return call
        return None

    def sweep(self) -> list[RemoteCall]:
        """To be called about once a second: sends on what clients had no room for, and closes those that are
        late. Returns the latter, to be taken out of a selector."""
        now = time.monotonic()
        late = [call for call in self._calls if call.deadline <= now]
        for call in late:
            call.close()
        for call in tuple(self._calls):
            call.send_on()
        return late

    def close(self) -> None:
        """Give up this process's descriptors, those of its calls included."""
        self._socket.close()
        for call in tuple(self._calls):
            call.close()


class RemoteCall:
    """One client of a supervisor: a request, an answer, the end. Nothing here blocks.

    `peer` is who asks. `closed` says that there is no more to be done: that may be so after each `read`.
    `deadline` is the monotonic time at which `RemoteListener.sweep` closes it.
    """

    __slots__ = ("_on_close", "_received", "_socket", "_unsent", "closed", "deadline", "peer")

    def __init__(self, sock: socket.socket, on_close: Callable[[RemoteCall], None]) -> None:
        self.peer = Peer.of(sock)
        self.deadline = time.monotonic() + DEADLINE
        self.closed = False
        self._socket = sock
        self._on_close = on_close
        self._received = bytearray()
        self._unsent = memoryview(b"")

    def fileno(self) -> int:
        """Readable when `read` has something to do."""
        return self._socket.fileno()

    def read(self) -> dict[str, object] | None:
        """The request, once: `command` in it is a name. None if it is not complete, or if `closed`.

        With the request the client's time limit ends, until `reply`; there is nothing to wait for on the
        descriptor until then.
        """
        try:
            chunk = self._socket.recv(_CHUNK)
        except BlockingIOError:
            return None
        except OSError:
            chunk = b""  # a reset: gone, as at the end of the stream
        if not chunk:
            self.close()
            return None
        self._received += chunk
        line, end, rest = self._received.partition(b"\n")
        if len(line) > MAX_REQUEST:
            self.refuse(f"a request has at most {MAX_REQUEST} bytes")
            return None
        if not end:
            return None
        request = _parsed(line)
        if rest or request is None or not isinstance(request.get("command"), str):
            self.refuse('a request is one line of JSON, an object with a "command"')
            return None
        self.deadline = float("inf")
        return request

    def refuse(self, message: str) -> None:
        """Reply that it was not done, and why."""
        self.reply({"ok": False, "message": message, "problems": [], "notes": []})

    def reply(self, answer: Mapping[str, object]) -> None:
        """Send the answer and close; what the client has no room for is sent on by `RemoteListener.sweep`.

        No effect if `closed`.
        """
        if self.closed:
            return
        line = json.dumps(answer).encode() + b"\n"
        # So that nearly always all of it leaves now, read or not.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, min(len(line), MAX_BUFFERED))
        self._unsent = memoryview(line)
        self.deadline = time.monotonic() + DEADLINE
        self.send_on()

    def send_on(self) -> None:
        """Send what there is room for, and close after the last of it."""
        while self._unsent:
            try:
                sent = self._socket.send(self._unsent)
            except BlockingIOError:
                return
            except OSError as error:
                log.info("%s did not wait for its answer: %s", self.peer, error.strerror)
                self.close()
                return
            self._unsent = self._unsent[sent:]
            if not self._unsent:
                self.close()

    def close(self) -> None:
        """Give up this process's descriptor; the client reads what was sent, then the end."""
        self.closed = True
        self._unsent = memoryview(b"")
        self._socket.close()
        self._on_close(self)


def ask(path: str, request: Mapping[str, object], timeout: float) -> dict[str, object]:
    """What the running supervisor of the file at `path` answers to `request`, within `timeout` seconds.

    Believed is a supervisor that is run by root or by the caller's own user; by root also one that is run by
    the owner of the file or by the account `vsproxy`. Anybody else's is sent nothing.

    Raises VsproxyError if there is none, if it is somebody else's, if it gives no whole answer, and if time
    is up: only in the last two cases may the request have been carried out.
    """
    until = time.monotonic() + timeout
    with _connected(path, timeout) as sock:
        server = Peer.of(sock)
        if server.uid not in _believed(path):
            raise VsproxyError(
                f"{path}: {server} answers for this file and was not asked, since anybody could pose as "
                f"vsproxy: if it is the right one, run this command as uid {server.uid}"
            )
        try:
            line = _exchanged(sock, json.dumps(request).encode() + b"\n", until)
        except TimeoutError:
            raise VsproxyError(
                f"{path}: {server} has not answered within {timeout:g} s: the outcome is unknown, see its log"
            ) from None
    answer = _parsed(line)
    if answer is None:
        raise VsproxyError(f"{path}: {server} gave no whole answer: the outcome is unknown, see its log")
    return answer


def _connected(path: str, timeout: float) -> socket.socket:
    """A connection to whoever answers for the file; by the path as it is, else by where its links lead."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # With a time limit of Python's, connect() would not wait at all for room in the queue of a Unix socket.
    limit = _TIMEVAL.pack(*divmod(max(1, int(timeout * 1_000_000)), 1_000_000))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
    try:
        for absolute in dict.fromkeys((os.path.abspath(path), os.path.realpath(path))):
            with suppress(ConnectionRefusedError):
                sock.connect(_name(absolute))
                return sock
    except BlockingIOError:
        problem = f"the running vsproxy took no request within {timeout:g} s, and was not asked"
    except OSError as error:
        problem = f"the running vsproxy cannot be reached: {error.strerror}"
    else:
        problem = (
            "no vsproxy runs with this file. It is found by the path that it was started with, "
            "and in the same container only"
        )
    sock.close()
    raise VsproxyError(f"{path}: {problem}")


def _exchanged(sock: socket.socket, request: bytes, until: float) -> bytes:
    """Send the request; the answer up to its newline, or what there is of it. Raises TimeoutError."""
    # A server that refuses us answers without having read, and may be gone already.
    with suppress(ConnectionError):
        sock.settimeout(_left(until))
        sock.sendall(request)
    received = bytearray()
    with suppress(ConnectionError):
        while not received.endswith(b"\n") and len(received) < MAX_REPLY:
            sock.settimeout(_left(until))
            chunk = sock.recv(_CHUNK)
            if not chunk:
                break
            received += chunk
    return bytes(received)


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _name(absolute: str) -> str:
    root = os.stat("/")
    key = f"{root.st_dev}:{root.st_ino}:".encode() + os.fsencode(absolute)
    return "\0vsproxy/" + hashlib.sha256(key).hexdigest()


def _holder(path: str) -> str:
    """Who has the name of `path`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        try:
            sock.connect(_name(os.path.abspath(path)))
        except OSError:
            return "another process answers for the file"
        return f"{Peer.of(sock)} answers for the file"


def _believed(path: str) -> set[int]:
    """The users whose supervisor may answer this process."""
    uids = {0, os.geteuid()}
    if os.geteuid() == 0:
        with suppress(OSError):
            uids.add(os.stat(path).st_uid)
        with suppress(KeyError):
            uids.add(pwd.getpwnam(ACCOUNT).pw_uid)
    return uids


def _parsed(line: bytes | bytearray) -> dict[str, object] | None:
    """The JSON object in `line`; None if it is anything else."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
