"""A change of configuration in all processes: first all prepare, then all switch; one refusal cancels."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from typing import Protocol

from vsproxy.children import ChildProcess
from vsproxy.config.model import Config
from vsproxy.orders import Cancel, Commit, Prepared, Switched

#: Seconds for everybody to prepare (control may wait five for names), and to switch.
PREPARE_TIME = 20.0
SWITCH_TIME = 15.0

log = logging.getLogger("vsproxy")


class Host(Protocol):
    """What the supervisor does at the turns of a reload."""

    def send_prepare(self, reload: Reload, child: ChildProcess) -> None:
        """Send `child` what it has to prepare."""

    def before_switch(self, reload: Reload) -> None:
        """All are prepared, and there is no way back."""

    def after_reload(self, reload: Reload) -> None:
        """It is over: `problem` says why nothing changed, empty if it did."""


class Reload:
    """One change. Children that die meanwhile are no obstacle, those that are born take part."""

    def __init__(self, host: Host, version: int, config: Config, control: ChildProcess) -> None:
        self.version = version
        self.config = config
        self.problem = ""
        self.began = time.monotonic()
        self.deadline = self.began + PREPARE_TIME
        self.switching = False
        self._host = host
        self._control = control
        self._members: set[ChildProcess] = set()
        self._waiting: set[ChildProcess] = set()

    def begin(self, children: Iterable[ChildProcess]) -> None:
        """Ask all to prepare."""
        for child in children:
            self.joined(child)

    def joined(self, child: ChildProcess) -> None:
        """`child` has just been started, with the old configuration if we are not switching yet."""
        if not self.switching:
            self._members.add(child)
            self._waiting.add(child)
            self._host.send_prepare(self, child)

    def left(self, child: ChildProcess) -> None:
        """`child` has died; its successor has the new configuration if we are switching."""
        self._members.discard(child)
        self._waiting.discard(child)
        self._go_on()

    def answered(self, child: ChildProcess, answer: Prepared | Switched) -> None:
        """`child` has prepared, or refuses, or has switched."""
        if answer.version != self.version or child not in self._waiting:
            return
        if isinstance(answer, Prepared) and not self.switching:
            if answer.problem:
                self._cancel(f"{child.name}: {answer.problem}")
                return
            self._waiting.discard(child)
        elif isinstance(answer, Switched) and self.switching:
            self._waiting.discard(child)
        self._go_on()

    def expired(self) -> None:
        """The deadline has passed."""
        if self.switching and not self._has_switched(self._control):
            # Workers go on with what they have until control has told them of the new pools.
            log.error("control has not switched to the new configuration yet: waiting for it")
            self.deadline = time.monotonic() + SWITCH_TIME
        elif self.switching:
            # Old and new must not live side by side: a successor begins with the new configuration.
            for child in self._waiting:
                child.kill()
            self._waiting.clear()
            self._go_on()
        else:
            names = ", ".join(sorted(child.name for child in self._waiting)) or "nobody"
            self._cancel(f"not prepared within {PREPARE_TIME:g} s: {names}")

    def abandon(self) -> None:
        """Nothing is to come of it; nobody is told but those who have prepared."""
        for child in self._members:
            child.send(Cancel(self.version))

    def _go_on(self) -> None:
        if self._waiting:
            return
        if not self.switching and self._control not in self._members:
            # It is down, and takes part as soon as it is back: without it nobody knows the new pools' servers.
            return
        if self.switching:
            self._host.after_reload(self)
            return
        self.switching = True
        self.deadline = time.monotonic() + SWITCH_TIME
        self._host.before_switch(self)
        self._waiting = set(self._members)
        for child in tuple(self._members):
            child.send(Commit(self.version))

    def _has_switched(self, child: ChildProcess) -> bool:
        return child.ready and child not in self._waiting

    def _cancel(self, problem: str) -> None:
        self.problem = problem
        self.abandon()
        self._host.after_reload(self)


