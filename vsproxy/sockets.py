"""What is asked of a socket by its descriptor alone, on the way of every request or connection.

Compiled modules take these from `sockets.pxd`, where they are single system calls of C.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct


def is_quiet(descriptor: int) -> bool:
    """Whether the kernel has neither a FIN, a reset nor stray bytes: an idle connection is what it seems.

    The loop may not have told us yet; a look costs one system call.
    """
    probe = socket.socket(fileno=descriptor)
    try:
        probe.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        probe.detach()
    return False


def send(descriptor: int, data: bytes) -> int:
    """Hand bytes to the kernel; how many it took, 0 if it has no room or the connection is broken."""
    try:
        return os.write(descriptor, data)
    except OSError:
        # Whoever writes through the loop next is told what it was.
        return 0


def send_parts(descriptor: int, head: bytes, body: bytes, tail: bytes) -> int:
    """`send` for three pieces in one call, none of which is copied together; how many bytes of all were taken."""
    try:
        return os.writev(descriptor, (head, body, tail))
    except OSError:
        return 0


def receive(descriptor: int, buffer: bytearray) -> int:
    """Take what has come into `buffer`; how many bytes, 0 at the end, -1 if nothing is there, -2 if it is broken."""
    try:
        return os.readv(descriptor, [buffer])
    except BlockingIOError:
        return -1
    except OSError:
        return -2


def forward(descriptor: int, buffer: bytearray, count: int) -> int:
    """As `send`, of the first `count` bytes of `buffer`."""
    try:
        return os.write(descriptor, memoryview(buffer)[:count])
    except OSError:
        return 0


def accept(listening: int) -> tuple[int, bytes]:
    """Take in who waits at a non-blocking socket: the new descriptor, and the packed address of its peer.

    The number is that of an error, negative, if it fails. The address may be empty, if it is not one of an IP network.
    """
    door = socket.socket(fileno=listening)
    try:
        accepted: int = door._accept()[0]  # type: ignore[attr-defined]
    except OSError as error:
        return -(error.errno or errno.EINVAL), b""
    finally:
        door.detach()
    return accepted, b""


def look(epoll: select.epoll, descriptor: int, found: bytearray) -> int:
    """What `epoll` has now, without waiting, as pairs of a descriptor and a mask in `found`; how many pairs.

    `descriptor` is that of `epoll`: C asks it.
    """
    pairs = epoll.poll(0, len(found) // 8)
    struct.pack_into(f"{2 * len(pairs)}i", found, 0, *(number for pair in pairs for number in pair))
    return len(pairs)


def found_at(found: bytearray, index: int) -> int:
    """The number at `index` of what `look` has left."""
    number: int = struct.unpack_from("i", found, 4 * index)[0]
    return number
