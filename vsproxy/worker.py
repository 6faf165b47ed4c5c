"""A worker: carries traffic, and follows what control says about pools and the supervisor about configuration."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from vsproxy.binding import BoundAddress, ListenerKey
from vsproxy.channel import Channel
from vsproxy.config.model import Config
from vsproxy.directory import Directory, PoolEntry, read_directory
from vsproxy.errors import VsproxyError
from vsproxy.front_stock import FrontStock
from vsproxy.messages import MessageLog
from vsproxy.orders import (
    Cancel,
    Commit,
    Lend,
    Prepare,
    Prepared,
    Ready,
    Renew,
    Switched,
    Unlend,
)
from vsproxy.process import Child, Pulse
from vsproxy.rows import restore_pool, restore_server
from vsproxy.shared_state import SharedState, read_json
from vsproxy.socket_passing import unpacked
from vsproxy.tls_front import ServerTls
from vsproxy.tls_pair import Pairs
from vsproxy.traffic import Change, LogCounts, Traffic
from vsproxy.upstream.following import FollowingPool
from vsproxy.upstream.server import Server
from vsproxy.upstream.tls import ClientTls
from vsproxy.worker_board import add_counts
from vsproxy.worker_report import Reporter

#: Seconds that a start waits for control to say which servers there are: it may itself have to wait for its turn to
#: be started again, and for names.
DIRECTORY_WAIT = 25.0
#: Seconds in which failures are gathered before control hears of them.
GATHER = 0.005
#: Seconds until what was not possible for lack of memory or descriptors is tried again.
RETRY = 1.0

log = logging.getLogger("vsproxy")


class Worker(Child):
    """Number `number` of the workers. `sockets` are those of its slot, `pairs` the certificates of all listeners,
    `tls` what was made for these, with front contexts of `stock`, as those of later configurations will be;
    `pool_tls` what was loaded for pools."""

    def __init__(
        self,
        number: int,
        version: int,
        config: Config,
        channel: Channel,
        state: SharedState,
        sockets: Mapping[ListenerKey, BoundAddress],
        pairs: Pairs,
        tls: Mapping[ListenerKey, ServerTls],
        pool_tls: Mapping[str, ClientTls],
        stock: FrontStock,
        messages: MessageLog,
    ) -> None:
        super().__init__(channel)
        self.config = config
        self._number = number
        self._version = version
        self._state = state
        self._sockets = sockets
        self._pairs = pairs
        self._tls = tls
        self._pool_tls = pool_tls
        self._stock = stock
        self._unused_pairs: Pairs = {}
        self._messages = messages
        self._pools: dict[str, FollowingPool] = {}
        self._traffic = Traffic(messages.lock, state.workers)
        self._change: Change | None = None
        self._fresh_sockets: dict[ListenerKey, BoundAddress] = {}
        self._directory = Directory()
        self._generation = 0
        self._followed: dict[str, PoolEntry] = {}
        self._directory_came = asyncio.Event()
        self._ready = False
        self._reporter = Reporter(state, number, self._traffic)
        self._report_due = False

    # Life

    async def start(self) -> None:
        """See `Child`: waits for control's first directory, then accepts."""
        # Before the first beat writes over what an earlier process has left.
        saved = read_json(self._state.boards[self._number])
        loop = asyncio.get_running_loop()
        poke = self._state.worker_pokes[self._number]
        loop.add_reader(poke.descriptor, self._on_poke)
        self._traffic.sweep.add(Pulse(self._beat))
        change = self._traffic.prepare(
            self.config, self._sockets, self._pairs, tls=self._tls, pool_tls=self._pool_tls
        )
        self._traffic.log_counts = LogCounts(*saved.get("log", (0, 0)))
        for served in change.fresh.values():
            listener = served.listener
            add_counts(listener.stats, saved.get("listeners", {}).get(listener.address, {}))
        self._on_poke()
        try:
            async with asyncio.timeout(DIRECTORY_WAIT):
                await self._directory_of(self._version)
        except TimeoutError:
            log.error("control says nothing of the pools of this configuration: serving without it")
        self._switch(change)
        self._ready = True
        self._beat()
        self.channel.send(Ready())

    async def finish(self) -> None:
        """See `Child`: exchanges in flight have `shutdown_timeout`."""
        self._ready = False
        await self._traffic.close(self.config.proxy.shutdown_timeout)
        self._reporter.report(self._pools.values(), at_once=True)

    def reopen_logs(self) -> None:
        """See `Child`."""
        self._traffic.reopen_logs()
        self._messages.reopen()

    # Orders

    async def obey(self, order: object, descriptors: list[int]) -> None:
        """See `Child`."""
        if isinstance(order, Prepare):
            self.channel.send(Prepared(order.version, self._prepare(order, descriptors)))
        elif isinstance(order, Commit) and self._change is not None:
            change, self._change = self._change, None
            self._fresh_sockets = {}
            # As long as control does not say what the new pools are, the old configuration goes on.
            await self._directory_of(order.version)
            self._unused_pairs = {}
            self._switch(change)
            self._messages.commit()
            self.channel.send(Switched(order.version))
        elif isinstance(order, Cancel):
            self._cancel()
        elif isinstance(order, Renew):
            self._unused_pairs = {**self._unused_pairs, **order.pairs}
            self._renew()
        elif isinstance(order, Lend):
            for key, bound in unpacked(order.sockets, descriptors).items():
                self._borrow(order.worker, key, bound)
        elif isinstance(order, Unlend):
            for listener in self._traffic.listeners:
                listener.give_back(order.worker)

    def _renew(self) -> None:
        """Use the new certificates; all that can keep us from it is that something is short, for a while."""
        pairs, self._unused_pairs = self._unused_pairs, {}
        if not pairs:
            return
        try:
            self._traffic.renew(pairs)
        except (OSError, VsproxyError) as error:
            log.error("new certificates cannot be used yet: %s", error)
            self._unused_pairs = pairs
            asyncio.get_running_loop().call_later(RETRY, self._renew)

    def _prepare(self, order: Prepare, descriptors: list[int]) -> str:
        """What is wrong, empty if nothing is."""
        self._cancel()
        self._fresh_sockets = unpacked(order.sockets, descriptors)
        section = order.config.log
        try:
            self._messages.prepare(section.level, section.path)
            fronts = self._stock.of(order.fronts)
            self._change = self._traffic.prepare(order.config, self._fresh_sockets, order.pairs, fronts)
        except (OSError, VsproxyError) as error:
            self._cancel()
            return str(error)
        return ""

    def _cancel(self) -> None:
        change, self._change = self._change, None
        if change is not None:
            self._traffic.cancel(change)
        self._messages.cancel()
        for bound in self._fresh_sockets.values():
            bound.close()
        self._fresh_sockets = {}

    def _borrow(self, lender: int, key: ListenerKey, bound: BoundAddress) -> None:
        listener = self._traffic.listener(key)
        if listener is None:
            bound.close()
        else:
            listener.borrow(lender, bound.sockets)

    def _switch(self, change: Change) -> None:
        config = change.config
        old, self._pools = self._pools, {}
        for name, pool_config in config.pools.items():
            pool = old.pop(name, None)
            if pool is None:
                pool = self._new_pool(name, change)
            else:
                pool.configure(pool_config)
            self._pools[name] = pool
        self._follow()
        self._traffic.commit(change, self._pools)
        self.config = config
        for pool in old.values():
            pool.retire()

    def _new_pool(self, name: str, change: Change) -> FollowingPool:
        pool = FollowingPool(name, change.config.pools[name], self._traffic.sweep, change.pool_tls.get(name))
        pool.on_server_added = self._restore_server
        pool.judge = self._on_failure
        self._followed.pop(name, None)
        entry = self._directory.pools.get(name)
        if entry is not None:
            pool.slot, pool.serial = entry.slot, entry.serial
            record = self._state.pools.record(self._number, entry.slot, entry.serial)
            if record is not None:
                restore_pool(pool, record)
        return pool

    # What control says

    async def _directory_of(self, version: int) -> None:
        """Wait until control has published the pools of configuration `version`."""
        while self._directory.version < version:
            self._directory_came.clear()
            await self._directory_came.wait()

    def _on_poke(self) -> None:
        self._state.worker_pokes[self._number].clear()
        self._look_at_directory()

    def _look_at_directory(self) -> None:
        if self._state.directory.generation != self._generation:
            self._generation = self._state.directory.generation
            self._directory = read_directory(self._state.directory)
            self._follow()
            self._directory_came.set()

    def _follow(self) -> None:
        for name, pool in self._pools.items():
            entry = self._directory.pools.get(name)
            if entry is not None and entry != self._followed.get(name):
                self._followed[name] = entry
                pool.slot, pool.serial = entry.slot, entry.serial
                pool.follow(entry.servers)

    def _restore_server(self, server: Server) -> None:
        """A server is new here; if an earlier process of this row knew it, its counts go on."""
        server.claim = self._reporter.first_claim(server)
        if server.slot < 0:
            return
        record = self._state.servers.record(self._number, server.slot, server.serial)
        if record is not None:
            restore_server(server, record)

    # What is reported

    def _on_failure(self, server: Server, kind: str) -> None:
        """Traffic met a failure: control decides what follows, soon."""
        if not self._report_due:
            self._report_due = True
            asyncio.get_running_loop().call_later(GATHER, self._report_failures)

    def _report_failures(self) -> None:
        self._report_due = False
        self._reporter.report(self._pools.values(), at_once=True)
        self._state.control_poke.set()

    def _beat(self) -> None:
        """Ten times a second: write our counts, read those of the others."""
        self._state.beat(self._number, self._ready)
        self._look_at_directory()
        self._reporter.report(self._pools.values())
        self._reporter.read_others(self._pools.values())
