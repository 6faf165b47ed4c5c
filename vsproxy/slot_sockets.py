"""The listening sockets of all workers, as the supervisor holds them.

Each worker has its own per TCP address (SO_REUSEPORT, socket(7)), so that the kernel spreads clients over them and
nobody is woken in vain; a Unix socket is one for all. The supervisor keeps every one open: what clients have
queued survives the death of a worker.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from vsproxy.binding import BoundAddress, ListenerKey, check_free, listener_keys, open_address, open_like
from vsproxy.config.model import Config, ListenerConfig

PerWorker = list[BoundAddress]


class SlotSockets:
    """For `workers` workers."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._bound: dict[ListenerKey, PerWorker] = {}

    def open_new(self, config: Config) -> dict[ListenerKey, PerWorker]:
        """Open what `config` has and we have not. Raises VsproxyError, and leaves nothing open then."""
        fresh: dict[ListenerKey, PerWorker] = {}
        try:
            for key, listener in zip(listener_keys(config), config.listeners, strict=True):
                if key not in self._bound:
                    fresh[key] = self._open(listener)
        except BaseException:
            close_all(fresh)
            raise
        return fresh

    def _open(self, listener: ListenerConfig) -> PerWorker:
        bind, backlog = listener.bind, listener.backlog
        if bind.kind == "unix":
            first = open_address(bind, backlog)
            return [first, *(_shared(first) for _ in range(self._workers - 1))]
        if bind.port not in self._own_ports():
            # With SO_REUSEPORT the kernel would let us share the port with a stranger of the same user.
            check_free(bind)
        opened = [open_address(bind, backlog, reuse_port=True)]
        try:
            for _ in range(self._workers - 1):
                opened.append(open_like(opened[0], backlog))
        except BaseException:
            for bound in opened:
                bound.close()
            raise
        return opened

    def _own_ports(self) -> set[int]:
        """Ports on which we listen already, as when an address is widened from one interface to all."""
        return {per_worker[0].bind.port for per_worker in self._bound.values()} - {0}

    def adopt(self, fresh: Mapping[ListenerKey, PerWorker]) -> None:
        """Hold what `open_new` opened."""
        self._bound.update(fresh)

    def gone(self, config: Config) -> dict[ListenerKey, PerWorker]:
        """Those that `config` has no more; they are no longer held, and the caller closes them."""
        kept = set(listener_keys(config))
        return {key: self._bound.pop(key) for key in tuple(self._bound) if key not in kept}

    def of(self, worker: int) -> dict[ListenerKey, BoundAddress]:
        """The sockets of one worker."""
        return {key: per_worker[worker] for key, per_worker in self._bound.items()}

    def addresses(self, config: Config) -> list[str]:
        """The bound addresses, in the order of the listeners."""
        return [str(self._bound[key][0].bind) for key in listener_keys(config)]

    def forget_others(self, worker: int | None) -> None:
        """In a child: close the sockets that are not for it, so that only their owner can accept on them."""
        for per_worker in self._bound.values():
            for number, bound in enumerate(per_worker):
                if number == worker:
                    bound.disown()
                else:
                    bound.close()

    def close(self) -> None:
        """Close everything; workers that have copies go on accepting what is queued."""
        close_all(self._bound)
        self._bound = {}


def _shared(bound: BoundAddress) -> BoundAddress:
    return BoundAddress(bound.bind, [sock.dup() for sock in bound.sockets], owner=False)


def close_all(bound: Mapping[ListenerKey, Iterable[BoundAddress]]) -> None:
    """Close sockets, and remove the files of Unix sockets."""
    for per_worker in bound.values():
        for address in per_worker:
            address.give_up()
