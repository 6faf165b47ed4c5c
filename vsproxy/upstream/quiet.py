"""Whether an idle connection is still what the loop takes it for."""

from __future__ import annotations

import socket


def is_quiet(descriptor: int) -> bool:
    """Whether the kernel has neither a FIN, a reset nor stray bytes for a connected socket.

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
