"""Messages with descriptors between the supervisor and one child, over a pair of Unix sockets (unix(7)).

Both ends are the same program, forked from one process, so messages are pickled. A text that is too long for a
packet travels in a memory file, and descriptors in several packets where there are more than one may carry.
"""

from __future__ import annotations

import os
import pickle
import socket
from collections.abc import Iterator, Sequence
from typing import Any

#: A packet of this many bytes always fits into the socket's buffer, if that is empty.
MAX_INLINE = 32 * 1024
#: The kernel allows 253 descriptors per packet (SCM_MAX_FD).
MAX_DESCRIPTORS = 250
_INLINE, _IN_FILE, _MORE_DESCRIPTORS = b"I", b"F", b"D"


class Channel:
    """One end. Nothing here blocks."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._descriptors: list[int] = []

    @classmethod
    def pair(cls) -> tuple[Channel, Channel]:
        """Both ends of a new channel."""
        ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        return cls(ends[0]), cls(ends[1])

    def fileno(self) -> int:
        """For a selector or a loop."""
        return self._socket.fileno()

    def send(self, message: object, descriptors: Sequence[int] = ()) -> bool:
        """Send `message`; the receiver gets duplicates of `descriptors`.

        False if that is not possible: the other end is gone, or has not read for so long that there is no room,
        or the system has no room for what has to be sent.
        """
        payload = pickle.dumps(message)
        try:
            while len(descriptors) > MAX_DESCRIPTORS:
                self._send(_MORE_DESCRIPTORS, descriptors[:MAX_DESCRIPTORS])
                descriptors = descriptors[MAX_DESCRIPTORS:]
            if len(payload) <= MAX_INLINE:
                self._send(_INLINE + payload, descriptors)
            else:
                self._send_in_file(payload, descriptors)
        except OSError:
            return False
        return True

    def _send(self, packet: bytes, descriptors: Sequence[int]) -> None:
        if descriptors:
            socket.send_fds(self._socket, [packet], list(descriptors))
        else:
            self._socket.send(packet)

    def _send_in_file(self, payload: bytes, descriptors: Sequence[int]) -> None:
        file = os.memfd_create("vsproxy-message", os.MFD_CLOEXEC)
        try:
            with open(file, "wb", closefd=False) as writer:
                writer.write(payload)
            self._send(_IN_FILE, [*descriptors, file])
        finally:
            os.close(file)

    def receive(self) -> Iterator[tuple[Any, list[int]]]:
        """Every message that is there, with its descriptors, which are the caller's from then on.

        Raises EOFError when the other end is gone and everything it sent was read.
        """
        while True:
            try:
                packet, descriptors, _, _ = socket.recv_fds(self._socket, MAX_INLINE + 1, MAX_DESCRIPTORS + 1)
            except BlockingIOError:
                return
            except ConnectionError as error:
                raise EOFError from error
            if not packet:
                raise EOFError
            self._descriptors += descriptors
            kind, payload = packet[:1], packet[1:]
            if kind == _MORE_DESCRIPTORS:
                continue
            if kind == _IN_FILE:
                payload = _read_whole(self._descriptors.pop())
            complete, self._descriptors = self._descriptors, []
            for descriptor in complete:
                os.set_inheritable(descriptor, False)
            yield pickle.loads(payload), complete  # noqa: S301 our own words, from our own parent or child

    def close(self) -> None:
        """Close this end; the other one reads the end of the stream."""
        self._socket.close()
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors.clear()


def _read_whole(descriptor: int) -> bytes:
    with open(descriptor, "rb") as file:
        file.seek(0)
        return file.read()
