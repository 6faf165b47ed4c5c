"""One background task per key, and no way to lose one."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Hashable, KeysView
from typing import Any, Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


class KeyedTasks(Generic[Key]):
    """Tasks by key. One that was told to end is held on to until it has."""

    def __init__(self) -> None:
        self._tasks: dict[Key, asyncio.Task[None]] = {}
        self._ending: set[asyncio.Task[None]] = set()

    def __contains__(self, key: Key) -> bool:
        return key in self._tasks

    def keys(self) -> KeysView[Key]:
        """The keys with a task."""
        return self._tasks.keys()

    def start(self, key: Key, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run `work` under `key`, which has no task yet. Needs a running loop."""
        self._tasks[key] = asyncio.create_task(work, name=name)

    def end(self, key: Key) -> None:
        """Cancel the task of `key`."""
        task = self._tasks.pop(key)
        task.cancel()
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def finished(self, key: Key) -> None:
        """Called by the task of `key` as it ends by itself; another task under the key is left alone."""
        if self._tasks.get(key) is asyncio.current_task():
            del self._tasks[key]

    async def stop(self) -> None:
        """Cancel all tasks and wait until they have ended."""
        tasks = {*self._tasks.values(), *self._ending}
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
