"""Looks once a second for new certificates in the files of those in use, and says which ones expire.

By `stat`, since shared volumes do not tell of changes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

from vsproxy.certificate_expiry import ExpiryWarnings, written_date
from vsproxy.certificate_files import ChangeCounts, Look, Signature, WatchedPair, look_at
from vsproxy.config.tls import PairFiles
from vsproxy.tls_pair import CLIENTS, Pair, Pairs

#: Seconds between two looks.
INTERVAL = 1.0

log = logging.getLogger("vsproxy")

#: The files, their last signature, and the contents that are known.
_Task = tuple[PairFiles, Signature | None, tuple[bytes, ...]]


class CertificateWatch:
    """The pairs in use. `on_found` gets new ones, and says with `renewed` when they are in use.

    `counts` are those that an earlier process in our place had, by the file of the certificate.
    """

    def __init__(self, on_found: Callable[[Pairs], None], counts: Mapping[str, ChangeCounts] | None = None) -> None:
        self._on_found = on_found
        self._earlier = dict(counts or {})
        self._watched: dict[PairFiles, WatchedPair] = {}
        self._warnings = ExpiryWarnings()
        self._task: asyncio.Task[None] | None = None

    @property
    def pairs(self) -> dict[PairFiles, Pair]:
        """What is in use."""
        return {files: watched.pair for files, watched in self._watched.items()}

    @property
    def counts(self) -> dict[str, ChangeCounts]:
        """By the file of the certificate."""
        return {files.cert: watched.counts for files, watched in self._watched.items()}

    def follow(self, pairs: Pairs) -> None:
        """These, and no others, are in use from now on."""
        old, self._watched = self._watched, {}
        for files, pair in pairs.items():
            if pair.kind == CLIENTS:
                # What says who may come in takes a reload.
                continue
            watched = old.get(files)
            if watched is None:
                watched = WatchedPair(files, pair, self._earlier.pop(files.cert, ChangeCounts()))
            else:
                watched.follow(pair)
            self._watched[files] = watched
        self._warnings.look(self.pairs)

    def renewed(self, pairs: Pairs) -> None:
        """These are in use now, in the place of what was in the same files."""
        for files, pair in pairs.items():
            watched = self._watched.get(files)
            if watched is not None and watched.pair != pair:
                watched.follow(pair)
                log.info("a new certificate is in use, until %s: %s", written_date(pair.expiry), files.cert)
        self._warnings.look(self.pairs)

    def start(self) -> None:
        """Look once a second from now on. Needs a running loop."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL)
            try:
                await self._look()
            except Exception:
                # Ours, and no reason to look no more.
                log.exception("looking for new certificates broke")

    async def _look(self) -> None:
        tasks = [(files, watched.seen, watched.known) for files, watched in self._watched.items()]
        if not tasks:
            return
        found: dict[PairFiles, Pair] = {}
        for (files, _, known), look in zip(tasks, await asyncio.to_thread(_look_at_all, tasks), strict=True):
            watched = self._watched.get(files)
            # What is in use may have changed meanwhile: then the next look tells.
            if look is None or watched is None or watched.pair.fingerprint != known[0]:
                continue
            if watched.judge(look) and look.pair is not None:
                found[files] = look.pair
        if found:
            self._on_found(found)
        self._warnings.look(self.pairs)


def _look_at_all(tasks: Sequence[_Task]) -> list[Look | None]:
    return [look_at(*task) for task in tasks]
