"""What carries traffic in one process: listeners, routes, connections, the access log. Pools are handed in.

A change of configuration is prepared first, which is where it can fail, and then committed, which cannot:
connections and exchanges keep what they have, what comes after gets the new.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from vsproxy.access_log import AccessLog
from vsproxy.background import Background
from vsproxy.binding import BoundAddress, ListenerKey, listener_keys
from vsproxy.config.model import Config, ListenerConfig, LogSection
from vsproxy.descriptors import RESERVE, Descriptors, current_limit
from vsproxy.downstream.choice import PrefaceReader, new_negotiated
from vsproxy.downstream.http1 import new_connection
from vsproxy.downstream.serving import ListenerSettings, Serving
from vsproxy.errors import VsproxyError
from vsproxy.listener import Listener, Terms
from vsproxy.relay import IS_AVAILABLE, Relay
from vsproxy.routing import Route, Router
from vsproxy.splice import Splicer, is_available, pipes_for
from vsproxy.timers import Sweep
from vsproxy.tls_front import Front, ServerTls, make_tls
from vsproxy.tls_pair import Pairs
from vsproxy.upstream.http1 import WRITE_HIGH
from vsproxy.upstream.pool import Pool
from vsproxy.upstream.server import Server
from vsproxy.upstream.tls import ClientTls, load_pool_tls
from vsproxy.upstream.tls_watch import TlsWatch

#: Seconds between the end of `shutdown_timeout` and the reset of what is still there.
LAST_WORDS = 1.0

logger = logging.getLogger("vsproxy.traffic")


class Offer(NamedTuple):
    """What a client gets that comes from now on: how it is accepted, and the settings of its connection."""

    terms: Terms
    settings: ListenerSettings


class ServedListener:
    """A listener, and the settings that its connections get."""

    def __init__(
        self,
        config: ListenerConfig,
        bound: BoundAddress,
        serving: Serving,
        budget: Descriptors,
        tls: ServerTls | None,
        sharers: int,
        number: int,
    ) -> None:
        self._serving = serving
        self._address = str(bound.bind)
        self._offer = self._make_offer(config, tls)
        loop = asyncio.get_running_loop()
        self.listener = Listener(
            config, loop, self._offer.terms.make_protocol, budget, tls=tls, sharers=sharers, number=number
        )
        self.listener.bind(bound)

    def _make_offer(self, config: ListenerConfig, tls: ServerTls | None) -> Offer:
        settings = ListenerSettings(config, self._address)
        # The settings of the moment of the accept: a handshake that began under the old ones ends under them.
        # A compiled class has no base class; the loop calls the protocol's methods by name.
        make: Any = new_connection
        if config.tls is not None:
            make = new_negotiated
        elif config.h2c:
            make = PrefaceReader
        make_protocol: Any = partial(make, self._serving, settings)
        return Offer(Terms(config, make_protocol, tls), settings)

    def offer_for(self, config: ListenerConfig, pairs: Pairs, front: Front | None) -> Offer:
        """What `switch` takes; the present one if nothing differs. Raises as `make_tls` does."""
        old = self._offer.terms
        tls = make_tls(config.tls, pairs, front, old.tls) if config.tls is not None else None
        if config != old.config:
            return self._make_offer(config, tls)
        if tls is old.tls:
            return self._offer
        # Other certificates are no reason for connections to end.
        return Offer(old._replace(tls=tls), self._offer.settings)

    def switch(self, offer: Offer) -> None:
        """Serve new clients by `offer`; those that are there come back for it after their next answer."""
        if offer is not self._offer:
            if offer.settings is not self._offer.settings:
                self._offer.settings.retired = True
            self._offer = offer
            self.listener.switch(offer.terms)

    def renew(self, pairs: Pairs) -> None:
        """Serve new clients with these, where they come from files that are ours. Raises as `make_tls` does."""
        tls = self._offer.terms.tls
        if tls is not None and any(tls.table.made_of.get(files) not in (None, pair) for files, pair in pairs.items()):
            self.switch(self.offer_for(self._offer.terms.config, {**tls.table.made_of, **pairs}, tls.front))

    def leave(self) -> None:
        """The address is given up: no new clients, and those that are there are told with their next answer."""
        self._offer.settings.retired = True
        self.listener.stop_accepting()


@dataclass
class Change:
    """A configuration that `Traffic.commit` can switch to."""

    config: Config
    offers: dict[ListenerKey, Offer]
    fresh: dict[ListenerKey, ServedListener]
    pool_tls: Mapping[str, ClientTls]
    access_log: AccessLog | None


class LogCounts(NamedTuple):
    """Lines of the access log."""

    written: int = 0
    lost: int = 0


class Traffic:
    """See the module. Has to be made in a running loop.

    `log_lock` is for `AccessLog`; `sharers` is how many processes share what a listener may hold.
    """

    def __init__(self, log_lock: int | None = None, sharers: int = 1) -> None:
        self.sweep = Sweep(asyncio.get_running_loop())
        self.serving = Serving(self.sweep, Router(()), None)
        self.draining = False
        self._log_lock = log_lock
        self._sharers = sharers
        self._log_section: LogSection | None = None
        #: What was counted by logs that are closed, also those of an earlier process in our place.
        self.log_counts = LogCounts()
        self._closing: list[AccessLog] = []
        limit = current_limit()
        pipes = pipes_for(limit)
        self._splicer = Splicer(asyncio.get_running_loop(), pipes, WRITE_HIGH)
        self._relay = Relay(asyncio.get_running_loop())
        self.serving.relay = self._relay if IS_AVAILABLE else None
        self._can_splice: bool | None = None
        self._budget = Descriptors(limit, RESERVE + 2 * pipes)
        self._served: dict[ListenerKey, ServedListener] = {}
        self._tls_watch = TlsWatch(self.sweep)
        # Listeners that were given up, until the last handshake there is over.
        self._left: list[Listener] = []
        self._background = Background()
        self.sweep.start()

    @property
    def listeners(self) -> Sequence[Listener]:
        """In the order of the configuration."""
        return [served.listener for served in self._served.values()]

    @property
    def access_log(self) -> AccessLog | None:
        """None: nothing is logged."""
        return self.serving.access_log

    def listener(self, key: ListenerKey) -> Listener | None:
        """The listener of a configured address."""
        served = self._served.get(key)
        return served.listener if served is not None else None

    # Changes

    def prepare(
        self,
        config: Config,
        bound: Mapping[ListenerKey, BoundAddress],
        pairs: Pairs,
        fronts: Mapping[ListenerKey, Front] | None = None,
        tls: Mapping[ListenerKey, ServerTls] | None = None,
        pool_tls: Mapping[str, ClientTls] | None = None,
    ) -> Change:
        """Make what `config` needs; `bound` has the sockets of those of its listeners that are new, `pairs` all its
        certificates, `fronts` the front contexts that are not for us alone, `tls` what was made of these before,
        `pool_tls` what was loaded for pools.

        Raises VsproxyError or OSError that says what is unusable, and leaves nothing behind then; `bound` stays
        open.
        """
        if pool_tls is None:
            pool_tls = load_pool_tls(config.pools, self._tls_watch.current)
        access_log = self._open_log(config.log)
        change = Change(config, {}, {}, pool_tls, access_log)
        try:
            for key, listener_config in zip(listener_keys(config), config.listeners, strict=True):
                served = self._served.get(key)
                front = (fronts or {}).get(key)
                if served is None:
                    of_tls = listener_config.tls
                    made = make_tls(of_tls, pairs, front, (tls or {}).get(key)) if of_tls is not None else None
                    change.fresh[key] = ServedListener(
                        listener_config, bound[key], self.serving, self._budget, made, self._sharers, key[1]
                    )
                else:
                    change.offers[key] = served.offer_for(listener_config, pairs, front)
        except BaseException:
            self.cancel(change)
            raise
        return change

    def _open_log(self, section: LogSection) -> AccessLog | None:
        """A new access log where `section` asks for another one than there is, else the present one."""
        old = self._log_section
        if old is not None and (old.access, old.access_path) == (section.access, section.access_path):
            return self.access_log
        if section.access == "off":
            return None
        access_log = AccessLog(section.access, section.access_path, self._log_lock)
        try:
            access_log.start()
        except OSError as exc:
            raise VsproxyError(f"{section.access_path}: {exc.strerror or exc}") from exc
        return access_log

    def cancel(self, change: Change) -> None:
        """Drop what was prepared; the sockets of new listeners stay open."""
        if change.access_log is not None and change.access_log is not self.access_log:
            change.access_log.close()

    def commit(self, change: Change, pools: Mapping[str, Pool]) -> None:
        """Switch to what was prepared. `pools` has every pool of the configuration."""
        for pool in pools.values():
            pool.on_down = self._move_on
        config = change.config
        self._tls_watch.follow(config, pools, change.pool_tls)
        self.serving.router = Router(Route(route, pools[route.pool]) for route in config.routes)
        self.serving.splicer = self._splicer if config.proxy.splice and self._may_splice() else None
        old_log = self.access_log
        self.serving.access_log = change.access_log
        if change.access_log is not None and change.access_log is not old_log:
            # It may have been renamed after it was opened.
            change.access_log.reopen()
            self.sweep.add(change.access_log)
        self._log_section = config.log
        if old_log is not None and old_log is not change.access_log:
            self.sweep.remove(old_log)
            self._closing.append(old_log)
            self._background.run(self._close_log(old_log))
        old, self._served = self._served, {}
        for key in listener_keys(config):
            served = change.fresh.get(key) or old.pop(key)
            if key in change.offers:
                served.switch(change.offers[key])
            self._served[key] = served
        for served in old.values():
            served.leave()
            # Nothing hurries them: their handshakes have the time that they always have.
            self._background.run(self._see_off(served.listener))
        for served in change.fresh.values():
            served.listener.start()

    def renew(self, pairs: Pairs) -> None:
        """Clients that come from now on get these certificates. Raises OSError or VsproxyError if something is short;
        asked again, it goes on with what is left."""
        for served in self._served.values():
            served.renew(pairs)

    def _may_splice(self) -> bool:
        if self._can_splice is None:
            self._can_splice = is_available()
            if not self._can_splice:
                logger.info("this system has no splice: large bodies pass through the process (proxy.splice)")
        return self._can_splice

    async def _see_off(self, listener: Listener) -> None:
        self._left.append(listener)
        await listener.settle(listener.config.handshake_timeout)
        self._left.remove(listener)

    async def _close_log(self, log: AccessLog) -> None:
        await asyncio.to_thread(log.close)
        self._closing.remove(log)
        self.log_counts = _added(self.log_counts, log)

    @property
    def log_lines(self) -> LogCounts:
        """Lines written and lost since the start, over all logs that there were."""
        total = self.log_counts
        for log in (*self._closing, *((self.access_log,) if self.access_log is not None else ())):
            total = _added(total, log)
        return total

    def _move_on(self, server: Server) -> None:
        """A server is down: whoever waits for it goes to another. Rare, so a walk over all will do."""
        for connection in list(self.serving.connections):
            connection.on_server_down(server)

    def reopen_logs(self) -> None:
        """Open the access log's file again, after it was renamed."""
        if self.access_log is not None:
            self.access_log.reopen()

    # The end

    async def close(self, shutdown_timeout: float) -> None:
        """Stop accepting, finish what is in flight within `shutdown_timeout` seconds, close everything."""
        self.draining = True
        self.serving.draining = True
        for listener in self.listeners:
            listener.stop_accepting()
        await asyncio.gather(*(listener.settle() for listener in (*self.listeners, *self._left)))
        await self._drain(shutdown_timeout)
        await self._background.ended()
        self.sweep.stop()
        self._splicer.close()
        self._relay.close()
        if self.access_log is not None:
            await asyncio.to_thread(self.access_log.close)

    async def _drain(self, shutdown_timeout: float) -> None:
        serving = self.serving
        for connection in list(serving.connections):
            connection.drain()
        try:
            async with asyncio.timeout(shutdown_timeout):
                await serving.vacant.wait()
            return
        except TimeoutError:
            pass
        # Tunnels are told by a close of their streams; everything else had its time.
        for listener in self.listeners:
            await listener.abort_pending()
        for connection in list(serving.connections):
            connection.give_notice()
        try:
            async with asyncio.timeout(LAST_WORDS):
                await serving.vacant.wait()
        except TimeoutError:
            for connection in list(serving.connections):
                connection.cut()
            await asyncio.sleep(0)


def _added(counts: LogCounts, log: AccessLog) -> LogCounts:
    return LogCounts(counts.written + log.written, counts.lost + log.lost)
