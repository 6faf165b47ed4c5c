"""SIGKILL for workers, for control and for servers, with what each had at that moment."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from storm import sockets
from storm.fleet import Killable, kill
from storm.ledger import ProcessKill
from storm.scene import Scene
from support.proxies import eventually

#: How long (s) a process stands still at most before it is killed.
FROZEN = 0.1
#: How long (s) until a process that was killed has a successor.
REPLACED = 10.0
#: How long (s) a server stays away.
AWAY = 1.0
#: How long (s) until a server that has returned has traffic again.
RETURNED = 15.0


@dataclass(slots=True)
class ProcessKiller:
    """Kills children of the supervisor `pid` by name, in turn; `ports` are those of the listeners."""

    scene: Scene
    pid: int
    ports: Collection[int]
    names: Sequence[str]
    successors: dict[str, int] = field(default_factory=dict)

    async def run(self, period: float) -> None:
        """One every `period` s, until the calm."""
        number = 0
        await self.scene.storm_on(period)
        while not self.scene.calm.is_set():
            began = time.monotonic()
            try:
                await self._kill(self.names[number % len(self.names)])
            except (AssertionError, ProcessLookupError) as error:
                self.scene.ledger.disappointments.append(f"killing a child: {error}")
            number += 1
            await self.scene.storm_on(max(0.0, began + period - time.monotonic()))

    async def _kill(self, name: str) -> None:
        """Stop the child, let clients queue up, write down what it has, kill it, wait for its successor."""
        ledger = self.scene.ledger
        pid = await self._find(name)
        if pid != self.successors.get(name, pid):
            ledger.disappointments.append(f"{name} {self.successors[name]} has ended by itself")
        sockets.freeze(pid)
        stopped = time.monotonic()
        await self.scene.pause(random.uniform(0.0, FROZEN))
        wires, waiting = sockets.connections(pid, self.ports), sockets.waiting(self.ports)
        killed = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        ledger.process_kills.append(ProcessKill(name, pid, stopped, wires, waiting))
        self.successors[name] = await self._find(name, pid)
        ledger.replaced.setdefault(name, []).append(time.monotonic() - killed)

    async def _find(self, name: str, but: int = 0) -> int:
        """The one child of this `name`, other than the process `but`."""

        def found() -> list[int]:
            children = sockets.children(self.pid)
            return [pid for pid, comm in children.items() if comm == name and pid != but]

        return (await eventually(found, REPLACED, what=f"a {name} other than {but}"))[0]


@dataclass(slots=True)
class ServerKiller:
    """Kills each of `servers` once and brings it back, the next one only when it has traffic again."""

    scene: Scene
    servers: list[Killable]

    async def run(self, rounds: int, pause: float) -> None:
        """`rounds` times through all of them, with `pause` s before each."""
        for server in self.servers * rounds:
            await self.scene.pause(pause)
            self.scene.ledger.server_kills.append(await kill(server))
            await self.scene.pause(AWAY)
            await server.start()
            await self._has_traffic(server.name)

    async def _has_traffic(self, name: str) -> None:
        ledger = self.scene.ledger
        try:
            await eventually(lambda: ledger.servers[name], RETURNED, what=f"{name} answers")
        except AssertionError as error:
            ledger.disappointments.append(str(error))
