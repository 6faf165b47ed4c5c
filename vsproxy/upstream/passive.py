"""Passive checks: a server that fails traffic too often within a window goes down."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from vsproxy.upstream.pool import Pool
from vsproxy.upstream.server import CHECKING, DOWN, UP, Server


class PassiveJudge:
    """Decides for one pool, by its `max_fails` and `fail_window`. `on_ejected(server)` is told of a verdict."""

    def __init__(self, pool: Pool, on_ejected: Callable[[Server], None]) -> None:
        self._pool = pool
        self._on_ejected = on_ejected
        self._failures: dict[Server, deque[float]] = {}

    def note(self, server: Server, kind: str) -> None:
        """Traffic met a failure of `server`: connect, timeout, reset or bad_response."""
        pool = self._pool
        config = pool.config
        if config.max_fails == 0 or server.state not in (UP, CHECKING) or server.removed:
            return
        if kind != "connect" and pool.up_count <= 1:
            # The last server that still accepts connections is better than none at all.
            return
        now = time.monotonic()
        window = self._failures.setdefault(server, deque())
        window.append(now)
        while window[0] < now - config.fail_window:
            window.popleft()
        if len(window) >= config.max_fails:
            # It starts with a clean slate when it comes back.
            del self._failures[server]
            pool.set_state(
                server, DOWN, f"passive: {len(window)} failures in {config.fail_window:g} s, last: {kind}"
            )
            self._on_ejected(server)

    def sync(self) -> None:
        """Forget servers that are gone, and failures from before a server went down for another reason."""
        kept = {server for server in self._pool.servers if server.state in (UP, CHECKING)}
        for server in self._failures.keys() - kept:
            del self._failures[server]
