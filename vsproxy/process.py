"""What a worker and the control process have in common: the channel to the supervisor, signals, the pulse."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Callable
from contextlib import suppress

import uvloop

from vsproxy.channel import Channel
from vsproxy.errors import VsproxyError
from vsproxy.orders import Failed, Stop
from vsproxy.timers import Timed

log = logging.getLogger("vsproxy")


class Pulse(Timed):
    """Calls `beat` on every sweep."""

    def __init__(self, beat: Callable[[], None]) -> None:
        super().__init__()
        self._beat = beat
        self.deadline = 0.0

    def on_deadline(self, now: float) -> None:
        """A tenth of a second has gone by."""
        self._beat()


class Child:
    """A process below the supervisor. `start`, `obey` and `finish` are what it does of its own."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.stopping = asyncio.Event()
        self._orders: asyncio.Queue[tuple[object, list[int]]] = asyncio.Queue()

    async def start(self) -> None:
        """Begin to serve, and tell the supervisor. Raises VsproxyError or OSError if that is not possible."""
        raise NotImplementedError

    async def obey(self, order: object, descriptors: list[int]) -> None:
        """Do what the supervisor says; the descriptors are ours."""
        raise NotImplementedError

    async def finish(self) -> None:
        """End in order."""
        raise NotImplementedError

    def reopen_logs(self) -> None:
        """The log files were renamed."""
        raise NotImplementedError

    async def run(self) -> int:
        """Serve until the supervisor says stop, or is gone; the exit status."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, self.reopen_logs)
        loop.add_reader(self.channel.fileno(), self._on_orders)
        if not await self._started():
            await self.finish()
            return 0 if self.stopping.is_set() else 1
        carrying_out = asyncio.create_task(self._carry_out())
        try:
            await self.stopping.wait()
        finally:
            loop.remove_reader(self.channel.fileno())
            carrying_out.cancel()
            await asyncio.gather(carrying_out, return_exceptions=True)
            await self.finish()
        return 0

    async def _started(self) -> bool:
        """Start, unless it fails or is no more wanted before it is done."""
        starting = asyncio.create_task(self.start())
        unwanted = asyncio.create_task(self.stopping.wait())
        try:
            await asyncio.wait({starting, unwanted}, return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                return False
            await starting
        except (OSError, VsproxyError) as error:
            self.channel.send(Failed(str(error)))
            return False
        finally:
            for task in (starting, unwanted):
                task.cancel()
            await asyncio.gather(starting, unwanted, return_exceptions=True)
        return True

    def _on_orders(self) -> None:
        try:
            for order, descriptors in self.channel.receive():
                if isinstance(order, Stop):
                    self.stopping.set()
                else:
                    self._orders.put_nowait((order, descriptors))
        except EOFError:
            # The supervisor is gone: nobody would start us again, or stop us.
            log.error("the supervisor is gone: stopping")
            asyncio.get_running_loop().remove_reader(self.channel.fileno())
            self.stopping.set()

    async def _carry_out(self) -> None:
        """One order after the other: none finds the work of another half done."""
        while True:
            order, descriptors = await self._orders.get()
            try:
                await self.obey(order, descriptors)
            except Exception:
                log.exception("an order of the supervisor could not be carried out: %s", type(order).__name__)


def _on_unraisable(report: sys.UnraisableHookArgs) -> None:
    """Python: an exception where none can be raised. A name that a client asks for in TLS and that is not ASCII is
    one; `ssl` refuses that client by itself, and anybody could fill our log with what it has to say of it."""
    if isinstance(report.exc_value, UnicodeDecodeError) and isinstance(report.object, bytes):
        log.debug("no TLS: a name that is not ASCII: %r", report.object)
    else:
        sys.__unraisablehook__(report)


def run_child(make: Callable[[], Child], name: str) -> int:
    """Be the process `name` until the end; the exit status. `make` is called inside the loop."""
    # What ps and top show, at most 15 bytes; where that cannot be set, it is no reason not to serve.
    with suppress(OSError), open("/proc/self/comm", "wb") as comm:
        comm.write(f"vsproxy-{name}".encode())

    sys.unraisablehook = _on_unraisable

    async def serve() -> int:
        return await make().run()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(serve())
