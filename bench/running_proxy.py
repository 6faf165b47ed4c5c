"""A proxy of a scenario, in front of its servers."""

from __future__ import annotations

from pathlib import Path

from bench.peers.base import Peer, Setup
from bench.processes import Cores, Process


class RunningProxy:
    """Started at once; `wait` until it accepts, `stop` at the end."""

    def __init__(self, peer: Peer, setup: Setup, cores: Cores) -> None:
        self.peer = peer
        self.setup = setup
        # Two workers need two cores, and share the second with load and servers.
        on = str(cores.proxy) if setup.workers == 1 else cores.both
        command = peer.command(peer.write_config(setup), setup)
        self.process = Process(peer.name, command, on, setup.directory, peer.environment(setup))

    @property
    def pid(self) -> int:
        """Of the first of its processes."""
        return self.process.pid

    def wait(self) -> None:
        """Raises BenchError if it ends or does not listen."""
        self.process.wait_for_port(self.setup.port)

    @property
    def files(self) -> Path:
        """Where its configuration and its logs are."""
        return self.setup.directory
