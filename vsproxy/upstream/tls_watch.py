"""Follows the files of what pools make their connections with: what changes in them is used for new connections."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping

from vsproxy.config.model import Config
from vsproxy.errors import VsproxyError
from vsproxy.timers import NEVER, Sweep, Timed
from vsproxy.upstream.pool import Pool
from vsproxy.upstream.tls import ClientTls, files_of, load_pool_tls

#: Seconds between two looks.
INTERVAL = 2.0
#: What tells a file from what it was before: time of change, size, inode; zeros if it is not there.
Stamp = tuple[int, int, int]

logger = logging.getLogger("vsproxy.tls")


class TlsWatch(Timed):
    """`current` is by pool what is in use. Files that cannot be used are told of, and what is in use stays."""

    def __init__(self, sweep: Sweep) -> None:
        super().__init__()
        self.current: Mapping[str, ClientTls] = {}
        self._sweep = sweep
        self._config: Config | None = None
        self._pools: Mapping[str, Pool] = {}
        self._stamps: dict[str, list[Stamp]] = {}

    def follow(self, config: Config, pools: Mapping[str, Pool], tls: Mapping[str, ClientTls]) -> None:
        """Let `pools` use what was loaded for `config`; its files are followed from now on.

        The first look may find that they have changed since they were loaded, perhaps by an earlier process.
        """
        self._config = config
        self._pools = pools
        self.current = tls
        self._stamps = {}
        for name, pool in pools.items():
            pool.use_tls(tls.get(name))
        self._sweep.add(self)
        self.deadline = self._sweep.now + INTERVAL if tls else NEVER

    def on_deadline(self, now: float) -> None:
        """Time for a look."""
        self.deadline = now + INTERVAL
        assert self._config is not None
        for name in self.current:
            tls = self._config.pools[name].tls
            stamps = [_stamp(path) for path in files_of(tls)] if tls is not None else []
            if stamps != self._stamps.get(name):
                self._stamps[name] = stamps
                self._renew(self._config, name)

    def _renew(self, config: Config, name: str) -> None:
        try:
            fresh = load_pool_tls({name: config.pools[name]}, self.current)
        except VsproxyError as error:
            logger.error("pool %s: TLS goes on with what it had: %s", name, error)
            return
        if fresh[name] is not self.current[name]:
            logger.info("pool %s: TLS with other contents of its files from now on", name)
            self.current = {**self.current, **fresh}
            self._pools[name].use_tls(fresh[name])


def _stamp(path: str) -> Stamp:
    try:
        found = os.stat(path)
    except OSError:
        return 0, 0, 0
    return found.st_mtime_ns, found.st_size, found.st_ino
