"""One storm from beginning to end: servers, the command, clients, and all that happens to them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from storm import sockets
from storm.fleet import Fleet
from storm.killing import ProcessKiller, ServerKiller
from storm.ledger import Ledger
from storm.load import KEPT, Load
from storm.plan import WORKERS, Layout, State
from storm.reloads import Reloader
from storm.scene import Scene
from storm.verdict import Verdict, judge
from storm.witness import Truth, Witness
from support.certificates import make_certificates
from support.ports import Ports
from support.proxies import ProxyProcess, eventually, in_subprocess

CONTROL = "vsproxy-control"
WORKER_NAMES = [f"vsproxy-worker{n}" for n in range(WORKERS)]
#: Who is killed when. One that has not lived long has to wait for its successor, and others take its clients.
VICTIMS = [WORKER_NAMES[0], WORKER_NAMES[1], WORKER_NAMES[1], WORKER_NAMES[0]]


@dataclass(frozen=True, slots=True)
class Options:
    """How a storm blows; times in seconds. In one round each server is killed once."""

    rounds: int = 1
    good_reloads: int = 20
    reload_period: float = 1.0
    control_period: float = 5.5
    worker_period: float = 3.5
    server_pause: float = 2.0
    kill_processes: bool = True


@dataclass(slots=True)
class Result:
    """What is left of a storm. `children`: the command's at the end; `left`: those that outlived it."""

    ledger: Ledger
    verdict: Verdict
    seconds: float
    exit_status: int
    children: list[str]
    left: list[int]
    log: list[str]


async def blow(directory: Path, options: Options) -> Result:
    """Play a storm in `directory`. Raises only if the storm itself cannot go on."""
    scene = Scene()
    with Ports() as ports, taken_port() as taken:
        layout = make_layout(directory, ports, taken)
        fleet = layout.fleet
        began = time.monotonic()
        async with fleet.running(), in_subprocess(layout.settings(State()), directory) as proxy:
            with no_orphans(proxy.pid):
                await proxy.wait_for_line("ready$")
                await play(scene, layout, proxy, directory / "lb.toml", options)
                children = sockets.children(proxy.pid)
                proxy.signal(signal.SIGTERM)
                exit_status = await proxy.wait()
            left = [pid for pid in children if sockets.is_alive(pid)]
    verdict = judge(scene.ledger, fleet.received())
    seconds = time.monotonic() - began
    return Result(scene.ledger, verdict, seconds, exit_status, sorted(children.values()), left, proxy.log)


def make_layout(directory: Path, ports: Ports, taken: int) -> Layout:
    """Servers, listeners and certificates for one storm."""
    certificates = (make_certificates(directory / "one"), make_certificates(directory / "two"))
    main, second, tls = (ports.take() for _ in range(3))
    return Layout(Fleet(directory, ports), certificates, main, second, tls, taken)


@contextlib.contextmanager
def taken_port() -> Iterator[int]:
    """A port that somebody else listens on."""
    with socket.socket() as somebody:
        somebody.bind(("127.0.0.1", 0))
        somebody.listen()
        yield int(somebody.getsockname()[1])


@contextlib.contextmanager
def no_orphans(pid: int) -> Iterator[None]:
    """If the storm breaks off, the children of the command die with it; they would hold its log open."""
    try:
        yield
    except BaseException:
        children = sockets.children(pid) if sockets.is_alive(pid) else {}
        for process in (pid, *children):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        raise


async def play(scene: Scene, layout: Layout, proxy: ProxyProcess, file: Path, options: Options) -> None:
    """Clients first, then everything that disturbs them; at the end the clients finish what they have."""
    truth, load = Truth(), Load(scene, layout)
    witness = Witness(scene, truth, [load.main, load.tls])
    reloader = Reloader(scene, layout, truth, witness, proxy, file, load.second)
    truth.becomes(*reloader.facts(State()))
    ports = {listener.port for listener in load.listeners}
    async with asyncio.TaskGroup() as tasks:
        clients = load.clients()
        scene.ledger.expect(client.kind for client in clients)
        for client in (*clients, witness):
            tasks.create_task(client.run())
        killing = [
            tasks.create_task(ProcessKiller(scene, proxy.pid, ports, names).run(period))
            for names, period in ((VICTIMS, options.worker_period), ([CONTROL], options.control_period))
            if options.kill_processes
        ]
        servers = ServerKiller(scene, layout.fleet.killable).run(options.rounds, options.server_pause)
        killing_servers = tasks.create_task(servers)
        await reloader.run(options.rounds * options.good_reloads, options.reload_period)
        await killing_servers
        scene.calm.set()
        await asyncio.gather(*killing)
        await wait_for_websockets(scene, load)
        scene.end(load.listeners)


async def wait_for_websockets(scene: Scene, load: Load) -> None:
    """Until the last ones that a kill has cost are open again."""
    with contextlib.suppress(AssertionError):
        await eventually(lambda: load.kept_open() == KEPT * len(load.listeners), 15.0)
    scene.ledger.websockets_alive = load.kept_open()
