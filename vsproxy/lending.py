"""While a worker is down, a sibling accepts on its sockets, so that clients the kernel gave to it do not wait."""

from __future__ import annotations

from collections.abc import Sequence

from vsproxy.children import ChildProcess
from vsproxy.in_force import InForce
from vsproxy.orders import Lend, Unlend
from vsproxy.socket_passing import packed


class Lending:
    """Who has the sockets of whom."""

    def __init__(self, in_force: InForce, workers: Sequence[ChildProcess]) -> None:
        self._in_force = in_force
        self._workers = workers
        self._borrowers: dict[ChildProcess, ChildProcess] = {}

    def begin(self, dead: ChildProcess) -> None:
        """`dead` does not accept: its sockets, and those it had borrowed, go to a worker that is ready.

        No effect if somebody has them already.
        """
        if dead not in self._workers or dead in self._borrowers:
            return
        orphans = [dead, *(lender for lender, borrower in self._borrowers.items() if borrower is dead)]
        ready = [worker for worker in self._workers if worker.ready and worker is not dead]
        for number, lender in enumerate(orphans):
            self._borrowers.pop(lender, None)
            if ready:
                self._lend(lender, ready[number % len(ready)])

    def renew(self, dead: ChildProcess) -> None:
        """There are other sockets than before."""
        self._borrowers.pop(dead, None)
        self.begin(dead)

    def _lend(self, lender: ChildProcess, borrower: ChildProcess) -> None:
        sockets, descriptors = packed(self._in_force.sockets.of(lender.row))
        self._borrowers[lender] = borrower
        borrower.send(Lend(lender.row, sockets), descriptors)

    def end(self, worker: ChildProcess) -> None:
        """`worker` is there again."""
        borrower = self._borrowers.pop(worker, None)
        if borrower is not None:
            borrower.send(Unlend(worker.row))
