"""A worker that has no room for new certificates tries again."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path
from typing import Any

import pytest

from support.certificates import make_certificates
from support.proxies import eventually
from vsproxy import worker
from vsproxy.orders import Renew
from vsproxy.tls_pair import Pairs, read_pair
from vsproxy.worker import Worker


class FullTraffic:
    """Has no descriptors for as long as it is `full`."""

    def __init__(self) -> None:
        self.full = True
        self.tries = 0
        self.used: list[Pairs] = []

    def renew(self, pairs: Pairs) -> None:
        self.tries += 1
        if self.full:
            raise OSError(errno.EMFILE, "Too many open files")
        self.used.append(dict(pairs))


def make_worker(traffic: FullTraffic) -> Worker:
    """Only what has to do with certificates."""
    made: Any = Worker.__new__(Worker)
    made._traffic = traffic
    made._unused_pairs = {}
    return made  # type: ignore[no-any-return]


async def test_it_is_tried_again_until_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker, "RETRY", 0.01)
    one, two = (make_certificates(tmp_path / name) for name in "ab")
    first, second = {one.files: read_pair(one.files)}, {two.files: read_pair(two.files)}
    traffic = FullTraffic()
    serving = make_worker(traffic)
    await serving.obey(Renew(first), [])
    await serving.obey(Renew(second), [])
    await eventually(lambda: traffic.tries >= 5, what="some tries")
    assert "new certificates cannot be used yet: [Errno 24] Too many open files" in caplog.text
    traffic.full = False
    await eventually(lambda: traffic.used, what="use of them")
    assert traffic.used[0] == {**first, **second}
    # The other try that was due has nothing left to do.
    await asyncio.sleep(0.05)
    assert len(traffic.used) == 1
