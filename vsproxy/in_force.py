"""What the supervisor holds of the configuration in force: sockets and certificates, from before any fork.

A child that is started again gets all of it by inheritance, so it needs no file that may have gone since.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vsproxy.binding import ADMIN_BACKLOG, BoundAddress, ListenerKey, listener_keys, open_address
from vsproxy.config.model import Config
from vsproxy.front_stock import FrontStock, Lease, Leases, numbers
from vsproxy.slot_sockets import PerWorker, SlotSockets, close_all
from vsproxy.tls_clients import read_all
from vsproxy.tls_front import ServerTls, make_tls
from vsproxy.tls_pair import Pairs
from vsproxy.upstream.tls import ClientTls, load_pool_tls


@dataclass(frozen=True)
class Opened:
    """What a configuration needs beyond what is there. `admin` is None if the admin port stays, or there is none."""

    config: Config
    sockets: Mapping[ListenerKey, PerWorker]
    pairs: Pairs
    leases: Leases
    tls: Mapping[ListenerKey, ServerTls]
    pool_tls: Mapping[str, ClientTls]
    admin: BoundAddress | None

    @property
    def unshared(self) -> list[str]:
        """The TLS listeners for which there was no front left."""
        return [key[0] for key, lease in self.leases.items() if lease.number is None]

    def disown(self) -> None:
        """After a fork: files of Unix sockets are the other process's to remove."""
        for per_worker in self.sockets.values():
            for bound in per_worker:
                bound.disown()
        if self.admin is not None:
            self.admin.disown()


class InForce:
    """The configuration of version `version`, for `workers` workers.

    Certificates may change under it: `pairs` are what is in use. `tls` has the contexts as they were made with the
    configuration, which whoever is born later shares as far as they still fit.
    """

    def __init__(self, config: Config, workers: int) -> None:
        self.config = config
        self.version = 0
        self.sockets = SlotSockets(workers)
        self.stock = FrontStock(config)
        self.pairs: Pairs = {}
        self.leases: dict[ListenerKey, Lease] = {}
        self.tls: dict[ListenerKey, ServerTls] = {}
        self.pool_tls: Mapping[str, ClientTls] = {}
        self.admin: BoundAddress | None = None

    def open(self, config: Config) -> Opened:
        """Open what `config` needs. Raises VsproxyError, and leaves nothing open then."""
        pool_tls = load_pool_tls(config.pools, self.pool_tls)
        pairs = read_all(config)
        leases = self.stock.lease(config, pairs, self.leases)
        sockets: Mapping[ListenerKey, PerWorker] = {}
        try:
            tls = self._make_tls(config, pairs, leases)
            sockets = self.sockets.open_new(config)
            admin = None
            if config.admin is not None and (self.admin is None or config.admin != self.config.admin):
                admin = open_address(config.admin.bind, ADMIN_BACKLOG)
        except BaseException:
            close_all(sockets)
            self.stock.discard(leases, self.leases)
            raise
        return Opened(config, sockets, pairs, leases, tls, pool_tls, admin)

    def _make_tls(self, config: Config, pairs: Pairs, leases: Leases) -> dict[ListenerKey, ServerTls]:
        fronts = self.stock.of(numbers(leases))
        return {
            key: make_tls(listener.tls, pairs, fronts.get(key), self.tls.get(key))
            for key, listener in zip(listener_keys(config), config.listeners, strict=True)
            if listener.tls is not None
        }

    def discard(self, opened: Opened) -> None:
        """`opened` is not to be."""
        close_all(opened.sockets)
        self.stock.discard(opened.leases, self.leases)
        if opened.admin is not None:
            opened.admin.give_up()

    def switch(self, opened: Opened, version: int) -> None:
        """`opened` is in force now, as `version`.

        Sockets that are no more wanted are closed here; the workers close theirs after they have accepted what
        is queued.
        """
        config = opened.config
        self.sockets.adopt(opened.sockets)
        close_all(self.sockets.gone(config))
        self.stock.switch(self.leases, opened.leases)
        self.leases = dict(opened.leases)
        self.pairs = opened.pairs
        self.tls = dict(opened.tls)
        self.pool_tls = opened.pool_tls
        for tls in self.tls.values():
            tls.front.use(tls.table)
        if opened.admin is not None or config.admin is None:
            if self.admin is not None:
                self.admin.give_up()
            self.admin = opened.admin
        self.config = config
        self.version = version

    def renew(self, pairs: Pairs) -> Pairs:
        """New pairs for files that are in use, which are returned; others are no more wanted."""
        fresh = {files: pair for files, pair in pairs.items() if files in self.pairs}
        self.pairs = {**self.pairs, **fresh}
        return fresh

    def close(self) -> None:
        """Give up all addresses; children that have copies go on until they close them."""
        self.sockets.close()
        if self.admin is not None:
            self.admin.give_up()
            self.admin = None

    def forget_others(self, worker: int | None) -> None:
        """In a child (`None`: control): close what is not for it."""
        self.sockets.forget_others(worker)
        if self.admin is not None:
            self.admin.disown()
            if worker is not None:
                self.admin.close()
