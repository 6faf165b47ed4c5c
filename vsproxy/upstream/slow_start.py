"""Slow start: a server that came up grows to its full weight over a while, so that cold caches are not run down."""

from __future__ import annotations

import time

from vsproxy.timers import NEVER
from vsproxy.upstream.server import UP, Server

#: Seconds between two steps.
RAMP_STEP = 0.5
#: The share of its weight with which a slow start begins.
RAMP_START = 0.1


class SlowStart:
    """The servers of one pool that are on their way, by when they began (`time.monotonic()`)."""

    def __init__(self) -> None:
        self._began: dict[Server, float] = {}

    def __contains__(self, server: Server) -> bool:
        return server in self._began

    def begin(self, server: Server, duration: float, elapsed: float = 0.0) -> None:
        """Start `server` on a way of `duration` seconds, of which `elapsed` have gone by."""
        if elapsed < duration:
            self._began[server] = time.monotonic() - elapsed
            server.effective_weight = server.weight * max(RAMP_START, elapsed / duration)

    def forget(self, server: Server) -> None:
        """`server` is gone; no effect if it was not on its way."""
        self._began.pop(server, None)

    def since(self, server: Server) -> float:
        """When `server` began, in seconds since 1970; 0 if it is not on its way."""
        began = self._began.get(server)
        return 0.0 if began is None else time.time() - time.monotonic() + began

    def step(self, now: float, duration: float) -> bool:
        """Set the weights as of `now`; whether there was anything to do."""
        if not self._began:
            return False
        for server, began in list(self._began.items()):
            share = (now - began) / duration if duration > 0 else 1.0
            server.effective_weight = server.weight * min(1.0, max(RAMP_START, share))
            if share >= 1.0 or server.state != UP:
                server.effective_weight = float(server.weight)
                del self._began[server]
        return True

    def next_step(self) -> float:
        """When `step` has to be called next, `NEVER` if nobody is on the way."""
        return time.monotonic() + RAMP_STEP if self._began else NEVER
