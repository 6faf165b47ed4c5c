"""Where reloads are asked for, carried out one after the other, and reported."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence

from vsproxy.children import ChildProcess
from vsproxy.config.check import load_checked
from vsproxy.config.model import Config
from vsproxy.errors import ConfigError, VsproxyError
from vsproxy.front_stock import numbers
from vsproxy.in_force import InForce, Opened
from vsproxy.messages import MessageLog
from vsproxy.orders import Prepare
from vsproxy.reloading import Reload
from vsproxy.remote import RemoteCall
from vsproxy.shared_state import SharedState
from vsproxy.socket_passing import packed
from vsproxy.systemd import Notifier

#: The version of the configuration at start. Each one that is tried gets the next, in force or not.
FIRST_VERSION = 1

log = logging.getLogger("vsproxy")


class ReloadDesk:
    """For `control` and `workers`. `on_news()` is called when there is something to tell."""

    def __init__(
        self,
        path: str,
        in_force: InForce,
        state: SharedState,
        notifier: Notifier,
        messages: MessageLog,
        control: ChildProcess,
        workers: Sequence[ChildProcess],
        on_news: Callable[[], None],
    ) -> None:
        self.current: Reload | None = None
        self.succeeded = 0
        self.refused = 0
        self.last_ok = True
        self.last_time = time.time()
        self._path = path
        self._in_force = in_force
        self._state = state
        self._notifier = notifier
        self._messages = messages
        self._control = control
        self._workers = workers
        self._open_for_business = False
        self._on_news = on_news
        self._version = FIRST_VERSION
        self._opened: Opened | None = None
        self._notes: list[str] = []
        self._callers: list[RemoteCall] = []
        self._next_wanted = False
        self._next_callers: list[RemoteCall] = []

    @property
    def deadline(self) -> float:
        """When `look_at_time` has to be called, in `time.monotonic()`; infinite if nothing is under way."""
        return self.current.deadline if self.current is not None else float("inf")

    def look_at_time(self) -> None:
        """The deadline may have passed."""
        if self.current is not None and self.current.deadline <= time.monotonic():
            self.current.expired()

    def ask(self, caller: RemoteCall | None = None) -> None:
        """Reload; or once more after the one that is under way, since the file may have changed after it was read;
        or once the start is over."""
        if self.current is None and self._open_for_business:
            self._callers = [caller] if caller is not None else []
            self._begin()
        else:
            self._next_wanted = True
            if caller is not None:
                self._next_callers.append(caller)

    def open(self) -> None:
        """The start is over: what was asked for meanwhile is done."""
        self._open_for_business = True
        self._begin_next()

    def close(self, reason: str) -> None:
        """There will be no reload any more, and the one under way is not to be, unless there is no way back."""
        if self.current is not None and not self.current.switching:
            self.current.abandon()
            self._discard()
        self.current = None
        self._open_for_business = False
        for caller in (*self._callers, *self._next_callers):
            caller.refuse(reason)
        self._callers, self._next_callers, self._next_wanted = [], [], False

    def _begin(self) -> None:
        self._notifier.reloading()
        try:
            if not os.path.isfile(self._path):
                # Of a pipe we might read for ever, and everybody would wait for us.
                raise VsproxyError(f"{self._path} is not a file")
            config = load_checked(self._path, os.environ)
            problem = self._state.fits(config)
            if problem:
                raise VsproxyError(problem)
            self._opened = self._in_force.open(config)
            self._messages.prepare(config.log.level, config.log.path)
        except ConfigError as error:
            for mistake in error.problems:
                log.error("%s", mistake)
            self._refuse(f"{len(error.problems)} mistakes", [str(mistake) for mistake in error.problems])
        except (OSError, VsproxyError) as error:
            self._discard()
            self._refuse(str(error), [])
        except Exception as error:
            # Ours. Whatever is in a file, it must not end what runs.
            log.exception("reading %s broke", self._path)
            self._discard()
            self._refuse(f"reading it broke: {error}", [])
        else:
            self._notes = self._restart_notes(config)
            self._version += 1
            self.current = Reload(self, self._version, config, self._control)
            self.current.begin([child for child in (self._control, *self._workers) if child.alive])

    def _restart_notes(self, config: Config) -> list[str]:
        assert self._opened is not None
        notes = [
            f"there is no front context left for {address}: until a restart, a TLS session there is resumed only by "
            "the worker with which it began"
            for address in self._opened.unshared
        ]
        old, new = self._in_force.config.proxy.workers, config.proxy.workers
        if old != new:
            workers = self._state.workers
            notes.append(f"proxy.workers = {new!r} takes effect at the next start; it is {workers} until then")
        return notes

    # For Reload

    def send_prepare(self, reload: Reload, child: ChildProcess) -> None:
        """See `Host`."""
        assert self._opened is not None
        bound = {}
        if child.row < self._state.workers:
            bound = {key: per_worker[child.row] for key, per_worker in self._opened.sockets.items()}
        elif self._opened.admin is not None:
            bound = {("admin", 0): self._opened.admin}
        sockets, descriptors = packed(bound)
        opened = self._opened
        prepare = Prepare(reload.version, reload.config, sockets, opened.pairs, numbers(opened.leases))
        child.send(prepare, descriptors)

    def before_switch(self, reload: Reload) -> None:
        """See `Host`."""
        assert self._opened is not None
        self._in_force.switch(self._opened, reload.version)
        self._messages.commit()
        self._opened = None

    def after_reload(self, reload: Reload) -> None:
        """See `Host`."""
        self.current = None
        if reload.problem:
            self._discard()
            self._refuse(reload.problem, [])
            return
        seconds = time.monotonic() - reload.began
        for note in self._notes:
            log.warning("%s", note)
        log.info("reloaded %s in %.0f ms", self._path, seconds * 1000)
        self.succeeded += 1
        self._report(True, f"reloaded in {seconds * 1000:.0f} ms", [], self._notes)

    def forget_opened(self) -> None:
        """In a child that is born during a reload: what the parent has opened comes with `Prepare`."""
        if self._opened is not None:
            self._opened.disown()
        self._discard()

    def _discard(self) -> None:
        if self._opened is not None:
            self._in_force.discard(self._opened)
        self._messages.cancel()
        self._opened = None

    def _refuse(self, reason: str, problems: list[str]) -> None:
        log.error("not reloaded, the old configuration stays: %s", reason)
        self.refused += 1
        self._report(False, f"not reloaded, the old configuration stays: {reason}", problems, [])

    def _report(self, ok: bool, message: str, problems: list[str], notes: list[str]) -> None:
        self.last_ok, self.last_time = ok, time.time()
        self._notifier.ready()
        self._on_news()
        callers, self._callers = self._callers, []
        for caller in callers:
            caller.reply({"ok": ok, "message": message, "problems": problems, "notes": notes})
        self._begin_next()

    def _begin_next(self) -> None:
        if self._next_wanted:
            self._next_wanted = False
            self._callers, self._next_callers = self._next_callers, []
            self._begin()
