"""Tasks that nobody waits for at once, held on to so that the loop does not lose them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


class Background:
    """The background tasks of one owner."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def run(self, work: Coroutine[Any, Any, None], name: str | None = None) -> None:
        """Begin `work`, and hold on to it until it has ended. Needs a running loop."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def ended(self) -> None:
        """Wait until what runs now has ended. Raises what one of it raised."""
        await asyncio.gather(*self._tasks)
