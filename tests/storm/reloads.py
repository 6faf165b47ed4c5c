"""Reloads, by SIGHUP and by `vsproxy reload`, with a check that each did what it says and nothing else."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import ssl
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import vsproxy
from storm import sockets
from storm.http_client import Listener
from storm.ledger import Reload
from storm.plan import GOOD_BEFORE_BAD, Bad, Layout, State, good, host_of
from storm.scene import Scene
from storm.witness import Truth, Witness
from support.proxies import ProxyProcess, eventually, to_toml

#: How long (s) a reload may take; a healthy one takes a fraction of a second.
LIMIT = 15.0
OUTCOME = re.compile(r"not reloaded|reloaded \S*lb\.toml")
WAYS = ("signal", "command")
#: How many are asked after each reload which configuration they meet.
ASKED = 8


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a reload went: whether it was done, in what time, and all that was said about it."""

    done: bool
    seconds: float
    said: str
    status: int


@dataclass(slots=True)
class Reloader:
    """Walks through the plan: four good reloads, a bad one, again; by signal and by the command in turn."""

    scene: Scene
    layout: Layout
    truth: Truth
    witness: Witness
    proxy: ProxyProcess
    file: Path
    second: Listener
    state: State = field(default_factory=State)

    async def run(self, count: int, period: float) -> None:
        """`count` good reloads and the bad ones between them, one begun every `period` s or later."""
        plan, bad = good(self.state), self.layout.bad(self.state)
        for number in range(1, count + 1):
            began = time.monotonic()
            await self._good(*next(plan), WAYS[number % 2])
            await asyncio.sleep(began + period - time.monotonic())
            if number % GOOD_BEFORE_BAD == 0:
                began = time.monotonic()
                await self._bad(next(bad), WAYS[number // GOOD_BEFORE_BAD % 2])
                await asyncio.sleep(began + period - time.monotonic())

    def facts(self, state: State) -> tuple[str, bytes]:
        """What clients are told under the configuration of `state`."""
        pem = self.layout.certificates[state.certificate].cert.read_text()
        end = "-----END CERTIFICATE-----\n"
        return host_of(state.generation), ssl.PEM_cert_to_DER_cert(pem[: pem.index(end) + len(end)])

    async def _good(self, what: str, state: State, way: str) -> None:
        if not state.second:
            self.second.serving.clear()
        self.truth.becomes(*self.facts(self.state), *self.facts(state))
        outcome = await self._reload(to_toml(self.layout.settings(state)), way)
        mistake = "" if outcome.done else outcome.said
        if outcome.done:
            self.state = state
            self.truth.becomes(*self.facts(state))
            await self.witness.ask_all(ASKED)
            mistake = await self._second_is_wrong()
        if state.second:
            self.second.serving.set()
        self._note(Reload(what, way, True, outcome.seconds, mistake))

    async def _second_is_wrong(self) -> str:
        """What is wrong with the second listener, as clients see it; empty if nothing is."""
        if self.state.second == sockets.accepts(self.second.port):
            return ""
        try:
            # One that goes is emptied before it is closed.
            await eventually(lambda: self.state.second == sockets.accepts(self.second.port), 2.0)
        except AssertionError:
            return f"the second listener {'does not accept' if self.state.second else 'still accepts'}"
        return ""

    async def _bad(self, bad: Bad, way: str) -> None:
        outcome = await self._reload(bad.text, way)
        missing = [name for name in bad.named if name not in outcome.said]
        mistake = ""
        if outcome.done:
            mistake = "a bad file was taken"
        elif missing:
            mistake = f"does not name {missing}: {outcome.said}"
        elif way == "command" and outcome.status != bad.status:
            mistake = f"exit status {outcome.status} instead of {bad.status}: {outcome.said}"
        await self.witness.ask_all(ASKED)
        self._note(Reload(bad.what, way, False, outcome.seconds, mistake))

    def _note(self, reload: Reload) -> None:
        self.scene.ledger.reloads.append(reload)

    async def _reload(self, text: str, way: str) -> Outcome:
        self.file.write_text(text)
        began = time.monotonic()
        try:
            done, said, status = await (self._by_signal() if way == "signal" else self._by_command())
        except (AssertionError, TimeoutError) as error:
            done, said, status = False, f"no outcome: {error}", -1
        return Outcome(done, time.monotonic() - began, said, status)

    async def _by_signal(self) -> tuple[bool, str, int]:
        log = self.proxy.log
        before = len(log)
        self.proxy.signal(signal.SIGHUP)
        await eventually(lambda: any(map(OUTCOME.search, log[before:])), LIMIT, what="the outcome in the log")
        said = "\n".join(log[before:])
        return "not reloaded" not in said, said, 0

    async def _by_command(self) -> tuple[bool, str, int]:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "vsproxy", "reload", "--config", str(self.file)),
            cwd=self.file.parent,
            env={**os.environ, "PYTHONPATH": str(Path(vsproxy.__file__).parent.parent)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(LIMIT):
                output, _ = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise
        return process.returncode == 0, output.decode(), process.returncode or 0
