"""The parent of all processes: binds, forks, reaps, passes signals on. No event loop and no threads.

It does nothing that could fail for lack of a server or a client, so that it is there when others fail.
"""

from __future__ import annotations

import gc
import logging
import os
import selectors
import signal
import socket
import time

from vsproxy.channel import Channel
from vsproxy.children import ChildProcess
from vsproxy.commands import Commands
from vsproxy.config.model import Config
from vsproxy.control_process import ControlProcess
from vsproxy.errors import VsproxyError
from vsproxy.in_force import InForce
from vsproxy.lending import Lending
from vsproxy.messages import MessageLog
from vsproxy.orders import Drain, Failed, Found, Prepared, Ready, Renew, Stop, Switched
from vsproxy.process import run_child
from vsproxy.reload_desk import FIRST_VERSION, ReloadDesk
from vsproxy.remote import RemoteCall
from vsproxy.shared_state import SharedState, publish_json
from vsproxy.systemd import Notifier
from vsproxy.version import version_line
from vsproxy.worker import Worker

#: Seconds beyond `shutdown_timeout` after which a worker that has not ended is killed.
STOP_MARGIN = 10.0
#: Seconds that control gets to end, once the workers have.
CONTROL_TIME = 5.0
#: The longest time between two looks at what is due.
TICK = 1.0
#: Seconds without a beat after which a process is taken for hung, and replaced. It should beat ten times a second.
HUNG_AFTER = 20.0
#: Seconds between two looks that say that we were not running ourselves.
MISSED_LOOKS = 5.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD)

log = logging.getLogger("vsproxy")


class Supervisor:
    """Serves `config`, which was read from `path`, with `workers` workers."""

    def __init__(self, config: Config, path: str, workers: int, messages: MessageLog) -> None:
        self._path = path
        self._messages = messages
        self._state = SharedState(workers, config)
        self._in_force = InForce(config, workers)
        self._notifier = Notifier(os.environ)
        self._workers = [ChildProcess(f"worker {number}", number) for number in range(workers)]
        self._control = ChildProcess("control", self._state.control_row)
        self._lending = Lending(self._in_force, self._workers)
        self._desk = ReloadDesk(
            path, self._in_force, self._state, self._notifier, messages, self._control, self._workers,
            self._after_reload,
        )
        self._selector = selectors.DefaultSelector()
        self._signals: tuple[socket.socket, socket.socket] | None = None
        self._arrived: set[int] = set()
        self._commands = Commands(path, self._selector, self._on_command)
        self._admin_address: str | None = None
        self._announced = False
        self._stopping = False
        self._control_told = False
        self._stop_by = float("inf")
        self._next_ping = 0.0
        self._last_look = self._watching_since = time.monotonic()
        self._status = 0

    def _children(self) -> list[ChildProcess]:
        return [self._control, *self._workers]

    def run(self) -> int:
        """Serve until the end; the exit status."""
        try:
            self._in_force.switch(self._in_force.open(self._in_force.config), FIRST_VERSION)
        except (OSError, VsproxyError) as error:
            log.error("cannot start: %s", error)
            return 1
        self._watch_signals()
        self._commands.open()
        # Children share these pages for as long as nobody writes to them, which the collector would.
        gc.collect()
        gc.freeze()
        for child in self._children():
            if not self._stopping:
                self._start(child)
        while self._step():
            pass
        self._in_force.close()
        if not self._status:
            log.info("stopped")
        return self._status

    # Children

    def _start(self, child: ChildProcess) -> None:
        try:
            child.fork(self._control_main if child is self._control else lambda end: self._worker_main(child, end))
        except OSError as error:
            log.error("%s cannot be started: %s", child.name, error.strerror)
            if not self._announced:
                self._fail("cannot start")
            return
        assert child.channel is not None
        self._selector.register(child.channel, selectors.EVENT_READ, lambda: self._on_message(child))
        if self._desk.current is not None:
            self._desk.current.joined(child)
        self._publish_news()

    def _worker_main(self, child: ChildProcess, channel: Channel) -> int:
        """In the child."""
        number = child.row
        in_force = self._in_force
        self._leave_parent(child.name, number)
        return run_child(
            lambda: Worker(
                number, in_force.version, in_force.config, channel, self._state, in_force.sockets.of(number),
                in_force.pairs, in_force.tls, in_force.pool_tls, in_force.stock, self._messages,
            ),
            f"worker{number}",
        )  # fmt: skip

    def _control_main(self, channel: Channel) -> int:
        """In the child."""
        in_force = self._in_force
        self._leave_parent("control", None)
        return run_child(
            lambda: ControlProcess(
                in_force.version, in_force.config, channel, self._state, in_force.admin, in_force.pool_tls,
                in_force.pairs,
                self._messages,
            ),
            "control",
        )  # fmt: skip

    def _leave_parent(self, name: str, worker: int | None) -> None:
        """In a child: give up what is the parent's or a sibling's."""
        self._messages.renamed(name)
        self._selector.close()
        for end in self._signals or ():
            end.close()
        self._commands.close()
        for sibling in self._children():
            if sibling.channel is not None:
                sibling.channel.close()
        self._in_force.forget_others(worker)
        self._desk.forget_opened()

    def _on_message(self, child: ChildProcess) -> None:
        if child.channel is None:
            return
        try:
            for message, _ in child.channel.receive():
                if isinstance(message, Failed):
                    log.error("%s cannot start: %s", child.name, message.reason)
                elif not child.alive:
                    # What it had done is gone with it.
                    continue
                elif isinstance(message, Ready):
                    self._on_ready(child, message)
                elif isinstance(message, Found):
                    self._renew(message)
                elif isinstance(message, Prepared | Switched) and self._desk.current is not None:
                    self._desk.current.answered(child, message)
        except EOFError:
            # Its end is reported by SIGCHLD too, which has the exit status.
            self._unregister(child)

    def _renew(self, message: Found) -> None:
        """There are new certificates: who is started from here on has them, and all others are told."""
        pairs = self._in_force.renew(message.pairs)
        for child in self._children():
            if pairs and child.alive:
                child.send(Renew(pairs))

    def _unregister(self, child: ChildProcess) -> None:
        if child.channel is not None and child.channel in self._selector.get_map():
            self._selector.unregister(child.channel)

    def _on_ready(self, child: ChildProcess, message: Ready) -> None:
        child.ready = True
        if child is self._control:
            self._admin_address = message.admin_address
        else:
            self._lending.end(child)
            for worker in self._workers:
                if not worker.ready and self._announced:
                    self._lending.begin(worker)
        if not self._announced and not self._stopping and all(one.ready for one in self._children()):
            self._announced = True
            self._announce()
            self._desk.open()

    def _announce(self) -> None:
        log.info("%s, pid %d, %d workers", version_line(), os.getpid(), len(self._workers))
        config = self._in_force.config
        for listener, address in zip(config.listeners, self._in_force.sockets.addresses(config), strict=True):
            log.info("listening on %s", _url(address, listener.tls is not None))
        if self._admin_address is not None:
            log.info("admin on %s", _url(self._admin_address, False))
        log.info("ready")
        self._notifier.ready()

    def _reap(self) -> None:
        """Bury whoever has ended. As the first process of a container we also get orphans that are not ours."""
        by_pid = {child.pid: child for child in self._children() if child.alive}
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid in by_pid:
                self._on_death(by_pid[pid], status)

    def _on_death(self, child: ChildProcess, status: int) -> None:
        # First of all: from here on its pid may be another's.
        pid, child.pid = child.pid, 0
        self._on_message(child)
        self._unregister(child)
        child.buried()
        self._state.bury(child.row)
        if not self._stopping:
            log.error("%s (pid %d) has ended: %s", child.name, pid, _how(status))
            if not self._announced:
                self._fail("cannot start")
            else:
                self._lending.begin(child)
        if self._desk.current is not None:
            self._desk.current.left(child)
        self._publish_news()

    def _fail(self, reason: str) -> None:
        log.error("%s", reason)
        self._status = 1
        self._stop_by = time.monotonic() + CONTROL_TIME
        self._begin_stop()

    def _publish_news(self) -> None:
        """What control tells on the admin port about all of us."""
        processes = [("supervisor", os.getpid(), 0)]
        processes += [(child.name.replace(" ", ""), child.pid, child.restarts) for child in self._children()]
        desk = self._desk
        reloads = [desk.succeeded, desk.refused, desk.last_ok, desk.last_time]
        publish_json(self._state.news, {"processes": processes, "reloads": reloads})

    def _after_reload(self) -> None:
        for worker in self._workers:
            if not worker.alive:
                self._lending.renew(worker)
        self._publish_news()

    # The loop

    def _step(self) -> bool:
        """Wait for what comes next and do it; False at the end."""
        for key, _ in self._selector.select(self._until_due()):
            try:
                key.data()
            except Exception:
                # Ours. Whatever it was, everybody else depends on us.
                log.exception("an event was not dealt with")
        self._obey_signals()
        self._reap()
        now = time.monotonic()
        self._desk.look_at_time()
        for child in self._children():
            if child.due and child.due <= now and not self._stopping:
                child.restarts += 1
                self._start(child)
        if not self._stopping:
            self._commands.look_after()
        self._look_after_hearts(now)
        if self._notifier.watchdog_interval is not None and now >= self._next_ping:
            self._next_ping = now + self._notifier.watchdog_interval
            self._notifier.watchdog()
        return not self._stopping or self._go_on_stopping(now)

    def _until_due(self) -> float:
        times = [child.due for child in self._children() if child.due and not self._stopping]
        soonest = min([*times, self._desk.deadline, self._stop_by])
        tick = min(TICK, self._notifier.watchdog_interval or TICK)
        return max(0.0, min(tick, soonest - time.monotonic()))

    def _look_after_hearts(self, now: float) -> None:
        if now - self._last_look > MISSED_LOOKS:
            # We were stopped ourselves, and all of us with us: nobody had the time to say anything.
            self._watching_since = now
        self._last_look = now
        for child in self._children():
            age = min(self._state.heartbeat_age(child.row), now - self._watching_since)
            if child.ready and age > HUNG_AFTER:
                log.error("%s (pid %d) has hung for %g s: killing it", child.name, child.pid, HUNG_AFTER)
                child.ready = False
                child.kill()

    # Signals and commands

    def _watch_signals(self) -> None:
        ours, theirs = self._signals = socket.socketpair()
        for end in self._signals:
            end.setblocking(False)
        # The bytes only wake us: there may be more signals than a socket has room for.
        signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        for number in _SIGNALS:
            signal.signal(number, lambda number, frame: self._arrived.add(number))
        self._selector.register(ours, selectors.EVENT_READ, lambda: ours.recv(4096))

    def _obey_signals(self) -> None:
        while self._arrived:
            number = self._arrived.pop()
            if number == signal.SIGHUP and not self._stopping:
                self._desk.ask()
            elif number == signal.SIGUSR1:
                self._messages.reopen()
                for child in self._children():
                    if child.alive:
                        os.kill(child.pid, signal.SIGUSR1)
            elif number in (signal.SIGTERM, signal.SIGINT):
                self._on_stop_signal(number)

    def _on_stop_signal(self, number: int) -> None:
        if self._stopping:
            # Whoever asks twice does not want to wait for anything.
            for child in self._children():
                child.kill()
            self._in_force.close()
            os._exit(128 + number)
        timeout = self._in_force.config.proxy.shutdown_timeout
        log.info("stopping: exchanges in flight have %gs", timeout)
        self._stop_by = time.monotonic() + timeout + STOP_MARGIN
        self._notifier.stopping(timeout + STOP_MARGIN + CONTROL_TIME)
        self._begin_stop()

    def _on_command(self, call: RemoteCall, command: str) -> None:
        if command != "reload":
            call.refuse(f"{command!r} is not a command; there is: reload")
        elif self._stopping:
            call.refuse("it is stopping")
        else:
            self._desk.ask(call)

    # The end

    def _begin_stop(self) -> None:
        self._stopping = True
        self._desk.close("it is stopping")
        # The workers' copies are the last: what is queued on them is still accepted.
        self._in_force.sockets.close()
        self._control.send(Drain())
        for child in self._workers:
            child.send(Stop())

    def _go_on_stopping(self, now: float) -> bool:
        """False once everybody has ended."""
        if any(child.alive for child in self._workers):
            if now >= self._stop_by:
                self._kill([child for child in self._workers if child.alive])
            return True
        if not self._control.alive:
            return False
        if not self._control_told:
            self._control_told = True
            self._control.send(Stop())
            self._stop_by = now + CONTROL_TIME
        elif now >= self._stop_by:
            self._kill([self._control])
        return True

    def _kill(self, children: list[ChildProcess]) -> None:
        for child in children:
            log.error("%s (pid %d) does not end: killing it", child.name, child.pid)
            child.kill()
        self._status = 1
        self._stop_by = time.monotonic() + CONTROL_TIME


def _how(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"


def _url(address: str, tls: bool) -> str:
    if address.startswith("unix:"):
        return f"{address} (https)" if tls else address
    return f"{'https' if tls else 'http'}://{address}"


