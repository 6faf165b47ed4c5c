"""What the supervisor holds of the configuration in force: sockets and certificates, from before any fork.

A child that is started again gets all of it by inheritance, so it needs no file that may have gone since.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vsproxy.binding import ADMIN_BACKLOG, BoundAddress, ListenerKey, listener_keys, open_address
from vsproxy.config.model import Config
from vsproxy.slot_sockets import PerWorker, SlotSockets, close_all
from vsproxy.tls import ServerTls, load_server_tls
from vsproxy.upstream.tls import ClientTls, load_pool_tls


@dataclass(frozen=True)
class Opened:
    """What a configuration needs beyond what is there. `admin` is None if the admin port stays, or there is none."""

    config: Config
    sockets: Mapping[ListenerKey, PerWorker]
    tls: Mapping[ListenerKey, ServerTls]
    pool_tls: Mapping[str, ClientTls]
    admin: BoundAddress | None

    def disown(self) -> None:
        """After a fork: files of Unix sockets are the other process's to remove."""
        for per_worker in self.sockets.values():
            for bound in per_worker:
                bound.disown()
        if self.admin is not None:
            self.admin.disown()


class InForce:
    """The configuration of version `version`, for `workers` workers."""

    def __init__(self, config: Config, workers: int) -> None:
        self.config = config
        self.version = 0
        self.sockets = SlotSockets(workers)
        self.tls: dict[ListenerKey, ServerTls] = {}
        self.pool_tls: Mapping[str, ClientTls] = {}
        self.admin: BoundAddress | None = None

    def open(self, config: Config) -> Opened:
        """Open what `config` needs. Raises VsproxyError, and leaves nothing open then."""
        tls = {
            key: load_server_tls(listener.tls, self.tls.get(key))
            for key, listener in zip(listener_keys(config), config.listeners, strict=True)
            if listener.tls is not None
        }
        pool_tls = load_pool_tls(config.pools, self.pool_tls)
        sockets = self.sockets.open_new(config)
        try:
            admin = None
            if config.admin is not None and (self.admin is None or config.admin != self.config.admin):
                admin = open_address(config.admin.bind, ADMIN_BACKLOG)
        except BaseException:
            close_all(sockets)
            raise
        return Opened(config, sockets, tls, pool_tls, admin)

    def discard(self, opened: Opened) -> None:
        """`opened` is not to be."""
        close_all(opened.sockets)
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
        self.tls = dict(opened.tls)
        self.pool_tls = opened.pool_tls
        if opened.admin is not None or config.admin is None:
            if self.admin is not None:
                self.admin.give_up()
            self.admin = opened.admin
        self.config = config
        self.version = version

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
