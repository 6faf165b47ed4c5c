"""The files of a certificate that is in use: whether there is a new one in them, and whether that is any good."""

from __future__ import annotations

import logging
import os
import time
from typing import NamedTuple

from vsproxy.config.tls import PairFiles
from vsproxy.errors import VsproxyError
from vsproxy.tls_pair import Pair, fingerprint, make_pair, read_bytes

#: Seconds after a change of a file in which its content may change without showing in its time, by the clock of the
#: system that has it.
UNSETTLED = 2.0

log = logging.getLogger("vsproxy")

#: What `stat` says of both files: a new file in the place of the old one, a link that leads elsewhere and a change of
#: the content all show in it.
Signature = tuple[tuple[int, ...], ...]


class ChangeCounts(NamedTuple):
    """What became of the changes of one pair: taken, refused. `refused_now` is of the content that was refused and
    is still there, in hex; empty if what is there is in use."""

    taken: int = 0
    refused: int = 0
    refused_now: str = ""


class Look(NamedTuple):
    """What was found: `content` tells it from anything else. `pair` is None if it is known, or no pair for the reason
    `problem`. `signature` is None where a later change might not show in it."""

    signature: Signature | None
    content: bytes
    pair: Pair | None = None
    problem: str = ""


def look_at(files: PairFiles, seen: Signature | None, known: tuple[bytes, ...]) -> Look | None:
    """Look at files that were seen with the signature `seen`; None if nothing has changed. Contents that are `known`
    are not judged. May take any time where the files are on a network."""
    found: Signature = tuple(map(_signature_of, files))
    if found == seen:
        return None
    newest = max((moment for file in found for moment in file[-2:]), default=0)
    signature = found if time.time_ns() - newest > UNSETTLED * 1e9 else None
    try:
        cert, key = read_bytes(files)
    except VsproxyError as error:
        # The same reason at two looks is the same, as with contents.
        return Look(signature, fingerprint(str(error).encode(), b""), problem=str(error))
    content = fingerprint(cert, key)
    if content in known:
        return Look(signature, content)
    try:
        return Look(signature, content, make_pair(files, cert, key))
    except VsproxyError as error:
        return Look(signature, content, problem=str(error))


def _signature_of(path: str) -> tuple[int, ...]:
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


class WatchedPair:
    """A pair in use, and what was last seen in its files."""

    def __init__(self, files: PairFiles, pair: Pair, counts: ChangeCounts) -> None:
        self.files = files
        self.pair = pair
        self.counts = counts
        self.seen: Signature | None = None
        # What was bad at the last look, and is refused if it still is there at the next.
        self._doubtful = b""

    @property
    def known(self) -> tuple[bytes, ...]:
        """The contents that need not be judged: ours, and the one that was refused."""
        return self.pair.fingerprint, bytes.fromhex(self.counts.refused_now)

    def follow(self, pair: Pair) -> None:
        """`pair` is in use now."""
        if pair != self.pair:
            self.counts = ChangeCounts(self.counts.taken + 1, self.counts.refused)
        self.pair = pair
        self.seen = None

    def judge(self, look: Look) -> bool:
        """Whether what was found is new and good.

        What is no pair is refused if it is the same at two looks: the one file is often written a moment before the
        other.
        """
        self.seen = look.signature
        doubtful, self._doubtful = self._doubtful, b""
        if look.pair is not None:
            # Until somebody says that it is in use, it is found again.
            self.seen = None
            return True
        if look.content == self.pair.fingerprint:
            self.counts = self.counts._replace(refused_now="")
        elif look.content.hex() == self.counts.refused_now:
            pass
        elif look.content == doubtful:
            self.counts = ChangeCounts(self.counts.taken, self.counts.refused + 1, look.content.hex())
            log.error("a new certificate is refused, the old one stays: %s", look.problem)
        else:
            self._doubtful = look.content
            self.seen = None
        return False
