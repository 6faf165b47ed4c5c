"""The control process: checks, names, verdicts on failures and the admin port, once for all workers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from functools import partial

from vsproxy.admin.server import AdminServer
from vsproxy.binding import BoundAddress
from vsproxy.certificate_files import ChangeCounts
from vsproxy.certificate_watch import CertificateWatch
from vsproxy.channel import Channel
from vsproxy.config.model import Config
from vsproxy.control import PoolControl, follow_all
from vsproxy.directory import Directory, Registry, read_directory, write_directory
from vsproxy.errors import VsproxyError
from vsproxy.messages import MessageLog
from vsproxy.metrics import Metrics
from vsproxy.orders import Cancel, Commit, Drain, Found, Prepare, Prepared, Ready, Renew, Switched
from vsproxy.process import Child, Pulse
from vsproxy.rows import check_record, failures_of, restore_checks
from vsproxy.shared_state import SharedState, publish_json, read_json
from vsproxy.socket_passing import unpacked
from vsproxy.timers import Sweep
from vsproxy.tls_pair import Pairs
from vsproxy.totals import Totals
from vsproxy.turns import turns_of
from vsproxy.upstream.endpoint import Endpoint
from vsproxy.upstream.names import Names
from vsproxy.upstream.pool import Pool
from vsproxy.upstream.server import Server
from vsproxy.upstream.tls import ClientTls, load_pool_tls
from vsproxy.upstream.tls_watch import TlsWatch

#: Seconds in which changes are gathered before they are published: a pool that comes up is one publication.
GATHER = 0.005
#: Seconds in which failures are gathered before they are looked at, which takes a walk over all servers.
GATHER_FAILURES = 0.02
#: Failures are looked at on every so manyth beat in any case; of servers that are written in turns, once in so many
#: rounds.
LOOK_EVERY = 10

log = logging.getLogger("vsproxy")


class ControlProcess(Child):
    """`admin` is bound by the supervisor, so that scrapes wait for us when we are started again; `pairs` are the
    certificates in force, `pool_tls` is what was loaded for pools."""

    def __init__(
        self, version: int, config: Config, channel: Channel, state: SharedState, admin: BoundAddress | None,
        pool_tls: Mapping[str, ClientTls], pairs: Pairs, messages: MessageLog,
    ) -> None:  # fmt: skip
        super().__init__(channel)
        self.config = config
        self.pools: dict[str, Pool] = {}
        self._version = version
        self._state = state
        self._admin_address = admin
        self._messages = messages
        self._names = Names(config.resolver)
        self._controls: dict[str, PoolControl] = {}
        self._fresh: dict[str, PoolControl] = {}
        self._pool_tls = pool_tls
        self._prepared: Prepare | None = None
        self._prepared_tls: Mapping[str, ClientTls] = {}
        self._prepared_admin: BoundAddress | None = None
        self._sweep = Sweep(asyncio.get_running_loop())
        self._tls_watch = TlsWatch(self._sweep)
        self._predecessor = read_directory(state.directory)
        self._registry = Registry(self._predecessor, state.servers.slots, state.pools.slots)
        self._admitted: set[Server] = set()
        self._admitted_pools: set[Pool] = set()
        self._failures: dict[Server, dict[str, int]] = {}
        self._publication: asyncio.TimerHandle | None = None
        self._unpublished = False
        self._beats = 0
        self._look: asyncio.TimerHandle | None = None
        self._pairs = pairs
        earlier = {cert: ChangeCounts(*counts) for cert, counts in read_json(state.certificates).items()}
        self.watch = CertificateWatch(self._on_found, earlier)
        self._told_counts: object = None
        self._totals = Totals(state, self)
        self._admin: AdminServer | None = None

    # Life

    async def start(self) -> None:
        """See `Child`: names are resolved, as far as that goes quickly, before workers hear of the pools."""
        loop = asyncio.get_running_loop()
        self._sweep.start()
        self._sweep.add(Pulse(self._beat))
        loop.add_reader(self._state.control_poke.descriptor, self._on_poke)
        await self._prepare_pools(self.config, self._pool_tls)
        self._controls, self._fresh = self._fresh, {}
        self._take_pools()
        self._tls_watch.follow(self.config, self.pools, self._pool_tls)
        self._registry.forget_predecessor()
        self._predecessor = Directory()
        self._publish()
        await self._open_admin(self._admin_address)
        self.watch.follow(self._pairs)
        self.watch.start()
        self._state.beat(self._state.control_row, True)
        self.channel.send(Ready(self._admin.address if self._admin is not None else None))

    async def finish(self) -> None:
        """See `Child`."""
        for handle in (self._publication, self._look):
            if handle is not None:
                handle.cancel()
        await self.watch.stop()
        for control in (*self._controls.values(), *self._fresh.values()):
            await control.stop()
        await self._names.close()
        if self._admin is not None:
            await self._admin.stop()
        self._sweep.stop()

    def reopen_logs(self) -> None:
        """See `Child`."""
        self._messages.reopen()

    # Orders

    async def obey(self, order: object, descriptors: list[int]) -> None:
        """See `Child`."""
        if isinstance(order, Prepare):
            self.channel.send(Prepared(order.version, await self._prepare(order, descriptors)))
        elif isinstance(order, Commit) and self._prepared is not None:
            await self._switch(self._prepared)
            self.channel.send(Switched(order.version))
        elif isinstance(order, Cancel):
            await self._cancel()
        elif isinstance(order, Renew):
            self.watch.renewed(order.pairs)
        elif isinstance(order, Drain):
            self._totals.draining = True

    async def _prepare(self, order: Prepare, descriptors: list[int]) -> str:
        await self._cancel()
        self._prepared = order
        # Nothing comes if the admin port stays where it is.
        self._prepared_admin = next(iter(unpacked(order.sockets, descriptors).values()), None)
        # What is new is asked of the new nameservers.
        self._names.configure(order.config.resolver)
        section = order.config.log
        try:
            self._messages.prepare(section.level, section.path)
            self._prepared_tls = load_pool_tls(order.config.pools, self._tls_watch.current)
            await self._prepare_pools(order.config, self._prepared_tls)
        except (OSError, VsproxyError) as error:
            await self._cancel()
            return str(error)
        except Exception as error:
            # Ours, and no reason to let everybody wait for an answer.
            log.exception("preparing for a configuration broke")
            await self._cancel()
            return f"preparing for it broke: {error}"
        return ""

    async def _prepare_pools(self, config: Config, tls: Mapping[str, ClientTls]) -> None:
        for name, pool_config in config.pools.items():
            if name not in self._controls:
                pool = Pool(name, pool_config, self._sweep, tls.get(name))
                control = self._fresh[name] = PoolControl(pool, self._names.look_up)
                self._registry.admit_pool(pool)
                self._admitted_pools.add(pool)
                pool.on_server_added = partial(self._admit, pool)
        async with asyncio.TaskGroup() as group:
            for name, control in self._controls.items():
                if name in config.pools:
                    group.create_task(control.prepare(config.pools[name]))
            for name, control in self._fresh.items():
                group.create_task(control.start(self._remembered(name)))

    def _take_pools(self) -> None:
        """From here on, what happens to the pools is published."""
        self.pools = {name: control.pool for name, control in self._controls.items()}
        for pool in self.pools.values():
            pool.on_changed = self._publish_soon

    def _remembered(self, pool: str) -> Mapping[str, Sequence[Endpoint]]:
        """What the names of a pool stood for when our predecessor looked last."""
        found: dict[str, list[Endpoint]] = {}
        entry = self._predecessor.pools.get(pool)
        for server in entry.servers if entry is not None else ():
            if server.host:
                endpoint = Endpoint(server.host, server.port, server.weight, server.backup)
                found.setdefault(server.name, []).append(endpoint)
        return found

    async def _cancel(self) -> None:
        self._prepared = None
        self._prepared_tls = {}
        self._names.configure(self.config.resolver)
        fresh, self._fresh = self._fresh, {}
        for control in fresh.values():
            await control.end()
        if self._prepared_admin is not None:
            self._prepared_admin.close()
            self._prepared_admin = None
        self._messages.cancel()
        self._release()

    async def _switch(self, order: Prepare) -> None:
        config = order.config
        self._prepared = None
        self._controls.update(self._fresh)
        self._fresh = {}
        gone = [control for name, control in self._controls.items() if name not in config.pools]
        self._controls = {name: self._controls[name] for name in config.pools}
        self._take_pools()
        self._messages.commit()
        tls, self._prepared_tls = self._prepared_tls, {}
        follow_all(self._controls, self.config, config, tls)
        self._tls_watch.follow(config, self.pools, tls)
        self.config = config
        self.watch.follow(order.pairs)
        # Not before all of it is so: workers switch when they read it.
        self._version = order.version
        self._publish()
        for control in gone:
            await control.end()
        self._release()
        admin, self._prepared_admin = self._prepared_admin, None
        if admin is not None or config.admin is None:
            await self._open_admin(admin)

    async def _open_admin(self, bound: BoundAddress | None) -> None:
        """Serve the admin port on `bound` instead of where it was."""
        old, self._admin = self._admin, None
        if bound is not None:
            self._admin = AdminServer(bound, self._totals, Metrics(self._totals))
            await self._admin.start()
        if old is not None:
            await old.stop()

    # What workers are told

    def _admit(self, pool: Pool, server: Server) -> None:
        if not self._registry.admit_server(pool, server):
            log.error("pool %s: no room for %s until a restart", server.pool_name, server.address)
            return
        self._admitted.add(server)
        record = self._state.checks.record(0, server.slot, server.serial)
        if record is not None:
            restore_checks(server, record)
        self._failures[server] = self._failures_of(server)

    def _release(self) -> None:
        """Give back the slots of servers and pools that are no more."""
        pools = {control.pool for control in (*self._controls.values(), *self._fresh.values())}
        present = {server for pool in pools for server in pool.servers}
        for server in self._admitted - present:
            self._registry.release_server(server)
            self._failures.pop(server, None)
        for pool in self._admitted_pools - pools:
            self._registry.release_pool(pool)
        self._admitted &= present
        self._admitted_pools &= pools

    def _publish_soon(self) -> None:
        """At once, so that nobody sees what a successor would not know; but what follows in a moment is gathered."""
        if self._publication is not None:
            self._unpublished = True
        else:
            self._publish()
            self._publication = asyncio.get_running_loop().call_later(GATHER, self._publish_rest)

    def _publish_rest(self) -> None:
        self._publication = None
        if self._unpublished:
            self._publish_soon()

    def _publish(self) -> None:
        self._unpublished = False
        self._release()
        # Before anybody can see what follows from them: a successor goes on from there.
        self._write_checks(1)
        write_directory(self._state.directory, self._version, self._registry.serial, self.pools)
        self._state.poke_workers()

    # What workers tell

    def _on_poke(self) -> None:
        self._state.control_poke.clear()
        if self._look is None:
            self._look = asyncio.get_running_loop().call_later(GATHER_FAILURES, self._look_at_failures)

    def _look_at_failures(self) -> None:
        if self._look is not None:
            self._look.cancel()
            self._look = None
        for pool in self.pools.values():
            for server in tuple(pool.servers):
                if server.slot < 0 or pool.judge is None:
                    continue
                seen, now = self._failures.get(server, {}), self._failures_of(server)
                self._failures[server] = now
                for kind, count in now.items():
                    for _ in range(min(count - seen.get(kind, 0), max(1, pool.config.max_fails))):
                        pool.judge(server, kind)

    def _failures_of(self, server: Server) -> dict[str, int]:
        """The failures of `server`, over all workers."""
        total: dict[str, int] = {}
        for record in self._state.servers.records(server.slot, server.serial):
            for kind, count in failures_of(record).items():
                total[kind] = total.get(kind, 0) + count
        return total

    def _beat(self) -> None:
        """Ten times a second."""
        self._state.beat(self._state.control_row, bool(self.pools) or not self.config.pools)
        turns = turns_of(sum(len(pool.servers) for pool in self.pools.values()))
        self._write_checks(turns)
        self._write_counts()
        self._beats += 1
        if self._beats % (LOOK_EVERY * turns) == 0:
            # Whoever had a failure has poked us; this is for the one who died before it could.
            self._look_at_failures()

    def _on_found(self, pairs: Pairs) -> None:
        """There are new certificates: the supervisor tells all, and us. If it did not hear, they are found again."""
        self.channel.send(Found(pairs))

    def _write_counts(self) -> None:
        """What became of new certificates: for a successor."""
        counts = self.watch.counts
        if counts != self._told_counts:
            self._told_counts = counts
            publish_json(self._state.certificates, counts)

    def _write_checks(self, turns: int) -> None:
        """Of one in `turns` servers, whose turn it is."""
        servers = [server for pool in self.pools.values() for server in pool.servers if server.slot >= 0]
        for server in servers[self._beats % turns :: turns]:
            self._state.checks.write(0, server.slot, check_record(server))
