"""A running proxy, bystanders who use it, and what an attack does to both.

The proxy has one worker, so everybody shares one loop. Bystanders ask two hundred times a second each, over HTTP/1.1
and over HTTP/2, and have a server of their own. The attacker's bytes are made before they are sent, and after each
attack there is a pause several times as long, so that it takes a small part of a processor: what a bystander waits
longer for is what the proxy itself does for the attacker in one go, and this is what the limits bound. A turn of the
loop takes 128 frames of one connection at most, and what floods is ended before it has made more work than a few
hundred requests do.

Memory is that of the worker. The kernel is asked for the most that there was, which no look now and then could miss.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path

from abuse.watch import PROTOCOLS, Bystanders, bystanders, p99
from support.http import Request
from support.peer import Ended
from support.proxies import ProxyProcess, Settings, settings
from support.scraping import samples
from support.server import Conversation, Server
from support.stage import Stage
from vsproxy import timers

MIB = 1 << 20
MOST_MEMORY = 16 * MIB
#: A p99 below this (s) is what a machine shows that does something else as well; not compiled, all takes several times
#: as long.
NOISE = 0.05 if not timers.__file__.endswith(".py") else 0.2
#: The figures of a machine that is busy with other things are not ours: so often is it tried whether they stay bad.
TRIES = 6
#: Answers to each bystander, in quiet and under attack.
ANSWERS = 80
#: Of what an attack took, and within these bounds (s), there is a pause before the next.
SHARE, SHORTEST_PAUSE, LONGEST_PAUSE = 4, 0.02, 0.3

Attack = Callable[[], Awaitable[None]]


class Ordeal:
    """See the module. `server` is the attacker's."""

    def __init__(self, process: ProxyProcess, calm: Bystanders, server: Server) -> None:
        self.process = process
        self.calm = calm
        self.server = server
        (self.worker,) = process.workers

    @property
    def address(self) -> str:
        """Of the listener."""
        return self.process.address

    async def events(self) -> dict[str, int]:
        """What the proxy has counted of HTTP/2."""
        return {
            dict(labels)["event"]: int(value)
            for (name, labels), value in (await samples(self.process)).items()
            if name == "vsproxy_listener_http2_events_total"
        }

    async def counted(self, before: Mapping[str, int], least: Mapping[str, int]) -> None:
        """Wait until each event was counted so often since `before`; what a worker counts it tells in beats."""
        found: dict[str, int] = {}
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(10):
                while True:
                    now = await self.events()
                    found = {event: now.get(event, 0) - before.get(event, 0) for event in now}
                    if all(found.get(event, 0) >= count for event, count in least.items()):
                        return
                    await asyncio.sleep(0.05)
        raise AssertionError(f"counted {found}, not {least}")

    async def endure(self, attack: Attack, events: Mapping[str, int]) -> None:
        """The attack, again and again, changes little for others; so many `events` are counted each time."""
        before = await self.events()
        attacks = 0
        for _ in range(TRIES):
            began, memory = await self._quiet()
            since, used = time.monotonic(), processor_time(self.worker)
            first = attacks
            while attacks == first or not self.calm.had(since, ANSWERS):
                at = time.monotonic()
                await attack()
                attacks += 1
                await asyncio.sleep(min(max(SHARE * (time.monotonic() - at), SHORTEST_PAUSE), LONGEST_PAUSE))
            ended = time.monotonic()
            grown = status(self.worker, "VmHWM") - memory
            used = processor_time(self.worker) - used
            took = ended - since
            print(f"{attacks - first} attacks in {took:.2f} s, {grown // 1024} KiB, worker {used * 1e3:.0f} ms")
            assert grown <= MOST_MEMORY, f"{grown // 1024} KiB more"
            await self.calm.enough(ended, 1)
            worse = self._compare((began, since), (since, ended))
            if not worse:
                break
        else:
            raise AssertionError(worse)
        await self.counted(before, {event: attacks * count for event, count in events.items()})

    async def _quiet(self) -> tuple[float, int]:
        """A time without an attack: when it began, and the worker's memory at its end, from which on peaks are seen."""
        began = time.monotonic()
        await self.calm.enough(began, ANSWERS)
        memory = status(self.worker, "VmRSS")
        # See proc(5): the peak begins anew.
        Path(f"/proc/{self.worker}/clear_refs").write_text("5")
        return began, memory

    def _compare(self, quiet: tuple[float, float], attacked: tuple[float, float]) -> str:
        worse = ""
        for name in PROTOCOLS:
            usual, now = (p99(self.calm.between(name, *span)) for span in (quiet, attacked))
            told = f"{name}: p99 {usual * 1e3:.1f} ms, under attack {now * 1e3:.1f} ms"
            print(told)
            if now > max(2 * usual, NOISE):
                worse = told
        return worse


def status(pid: int, key: str) -> int:
    """A size in /proc/PID/status, in bytes."""
    found = re.search(rf"^{key}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) * 1024


def processor_time(pid: int) -> float:
    """Seconds that all threads of a process have run."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def answer(peer: Conversation, request: Request) -> None:
    """The attacker's server: /N has N bytes, the others have none; what is sent to /taken is read."""
    what = request.target[1:]
    if what in ("never", "unread"):
        while not peer.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            await asyncio.sleep(0.1)
        raise Ended("reset", b"")
    if what == "taken":
        await peer.read_to_end()
        raise Ended(peer.ended or "", b"")
    size = int(what) if what.isdigit() else 0
    # Or the kernel takes megabytes of each body, which is work that the attacker would not have.
    peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 256 * 1024)
    await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
    while size > 0:
        await peer.send(bytes(min(size, 65536)))
        size -= 65536


@contextlib.asynccontextmanager
async def ordeal(directory: Path, listener: Settings) -> AsyncIterator[Ordeal]:
    """Everything started; the attacker's requests go to `answer`, the bystanders' to their own server."""
    stage = Stage(directory)
    async with bystanders() as calm:
        try:
            server = await stage.server(answer, read_body=False)
            config = settings(
                server,
                listener={"h2c": True, "max_requests": 10_000_000, **listener},
                admin={"bind": "127.0.0.1:0"},
            )
            config["pools"]["calm"] = {"servers": [{"address": calm.server}]}
            config["routes"].insert(0, {"host": "calm.example", "path": "/", "pool": "calm"})
            process = await stage.run(config)
            await calm.begin(process.address)
            one = Ordeal(process, calm, server)
            await calm.enough(time.monotonic(), ANSWERS)
            yield one
            assert process.workers == [one.worker], "the worker has died"
        finally:
            server.failures.clear()  # whatever the attacker has sent
            await stage.clear()
