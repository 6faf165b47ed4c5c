"""A worker's pool: its servers and their states are what the control process says."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable

from vsproxy.upstream.entry import ServerEntry
from vsproxy.upstream.pool import Pool
from vsproxy.upstream.server import Server


class FollowingPool(Pool):
    """See the module. Nothing is decided here: failures go to `judge`, states come by `follow`."""

    def follow(self, entries: Iterable[ServerEntry]) -> None:
        """Make servers and states be those of `entries`; servers that stay keep their counts and connections."""
        known = {server.serial: server for server in self.servers}
        gone = list(self.servers)
        self.servers = []
        changed: list[Server] = []
        for entry in entries:
            server = known.get(entry.serial)
            if server is None:
                server = self._server_of(entry)
                self._join(server)
            else:
                gone.remove(server)
                self.servers.append(server)
                self._reconfigure(server, entry.weight, entry.backup, entry.max_connections)
            if server.state != entry.state:
                self._change(server, entry.state, entry.state_reason, logging.DEBUG)
                changed.append(server)
            server.state_reason = entry.state_reason
            server.state_since = entry.state_since
        for server in gone:
            self.servers.append(server)
            self._remove(server)
        self._rebuild()
        for server in changed:
            self._tell_down(server)
        self._servers_changed()

    def _server_of(self, entry: ServerEntry) -> Server:
        server = Server(
            self.name, entry.name, entry.host, entry.port, entry.weight, entry.backup, entry.max_connections,
            entry.state,
        )  # fmt: skip
        server.slot = entry.slot
        server.serial = entry.serial
        if entry.ramping_since > 0:
            self.begin_slow_start(server, max(0.0, time.time() - entry.ramping_since))
        return server
