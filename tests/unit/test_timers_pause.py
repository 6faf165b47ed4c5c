"""A sweep after a pause of the whole process."""

from __future__ import annotations

import asyncio
import time

from vsproxy.timers import PAUSE, SWEEP_INTERVAL, Sweep, Timed


class Peer(Timed):
    """Notes when it was judged."""

    __slots__ = ("judged",)

    def __init__(self, deadline: float) -> None:
        super().__init__()
        self.deadline = deadline
        self.judged: list[float] = []

    def on_deadline(self, now: float) -> None:
        self.judged.append(now)
        self.deadline = now + 60.0


async def test_after_a_pause_nobody_is_judged_before_the_loop_has_read() -> None:
    sweep = Sweep(asyncio.get_running_loop())
    sweep.start()
    heard, silent = Peer(sweep.now + 0.5), Peer(sweep.now + 0.5)
    sweep.add(heard)
    sweep.add(silent)
    # What was sent meanwhile is read in the turn after the one in which the sweep is due.
    time.sleep(PAUSE + 0.5)  # noqa: ASYNC251
    while sweep.now < heard.deadline:
        await asyncio.sleep(0)
    assert (heard.judged, silent.judged) == ([], [])
    heard.deadline = sweep.now + 60.0
    await asyncio.sleep(3 * SWEEP_INTERVAL)
    sweep.stop()
    assert heard.judged == []
    assert len(silent.judged) == 1
