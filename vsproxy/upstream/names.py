"""Looks names up: in the hosts file, then in the DNS; addresses, and services by their SRV records."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import dns.asyncbackend
import dns.exception
import dns.name
import dns.resolver

from vsproxy.config.model import ResolverSection
from vsproxy.config.units import Bind
from vsproxy.upstream.endpoint import Endpoint
from vsproxy.upstream.hosts_file import HOSTS_FILE, HostsFile
from vsproxy.upstream.lookup import IPV4, IPV6, Answer, LookupFailed, family_of
from vsproxy.upstream.nameservers import RESOLVER_FILE, Nameservers, NameserverSource
from vsproxy.upstream.srv import Target, endpoints_of

#: Questions in the air at once, each with a socket of its own; further ones wait.
MAX_QUESTIONS = 64

_SERVICE = "SRV"
_FAMILIES = {"all": (IPV4, IPV6), "ipv4": (IPV4,), "ipv6": (IPV6,)}

Known = Mapping[tuple[str, str], tuple[str, ...]]


class _NoSuchName(LookupFailed):
    """The nameservers know for sure that there is nothing."""


@dataclass(slots=True)
class _Found:
    """What the nameservers said about one name: by record type the good answers, and why there is none."""

    answers: dict[str, dns.resolver.Answer] = field(default_factory=dict)
    failures: dict[str, dns.exception.DNSException] = field(default_factory=dict)

    @property
    def ttl(self) -> float:
        """Seconds for which all of it holds; aliases on the way count."""
        return min(float(answer.chaining_result.minimum_ttl) for answer in self.answers.values())


@dataclass(frozen=True, slots=True)
class _Host:
    """The addresses of a host by record type."""

    addresses: Mapping[str, tuple[str, ...]]
    ttl: float = math.inf

    @property
    def all(self) -> tuple[str, ...]:
        """The addresses of both families, each once."""
        return tuple(dict.fromkeys(address for family in self.addresses.values() for address in family))


class Names:
    """The lookups of one process. Files and sockets are open only while a question is.

    The hosts file goes first, then DNS, whatever nsswitch.conf says; other sources of libc are not asked.
    """

    def __init__(
        self, config: ResolverSection, hosts_file: str = HOSTS_FILE, resolver_file: str = RESOLVER_FILE
    ) -> None:
        self._resolver_file = resolver_file
        self._backend = dns.asyncbackend.get_backend("asyncio")
        self._hosts = HostsFile(hosts_file)
        self._slots = asyncio.Semaphore(MAX_QUESTIONS)
        self._lookups: set[asyncio.Task[Answer]] = set()
        self._closed = False
        self.configure(config)

    def configure(self, config: ResolverSection) -> None:
        """Ask as `config` says from now on; what is being asked ends as it began."""
        self._families = _FAMILIES[config.addresses]
        self._nameservers = NameserverSource(config, self._resolver_file)

    async def close(self) -> None:
        """End what is being asked, which fails with LookupFailed, as does any further lookup."""
        self._closed = True
        lookups = list(self._lookups)
        for lookup in lookups:
            lookup.cancel()
        await asyncio.gather(*lookups, return_exceptions=True)

    async def look_up(self, bind: Bind, last: Answer | None = None) -> Answer:
        """The endpoints of `bind`, of kind `tcp` or `srv`; a `Lookup`. Raises LookupFailed."""
        if self._closed:
            raise LookupFailed("lookups have ended")
        lookup = asyncio.create_task(self._look_up(bind, last.found if last else {}), name=f"look up {bind}")
        self._lookups.add(lookup)
        lookup.add_done_callback(self._lookups.discard)
        try:
            return await lookup
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if caller is not None and caller.cancelling():
                raise
            raise LookupFailed("lookups have ended") from None

    async def _look_up(self, bind: Bind, known: Known) -> Answer:
        try:
            if bind.kind == "srv":
                return await self._service(bind.host, known)
            host = await self._host(bind.host, known)
        except dns.exception.DNSException as error:
            # A name that does not fit into a question.
            raise LookupFailed(str(error)) from error
        found = {(bind.host, family): addresses for family, addresses in host.addresses.items()}
        return Answer(tuple(Endpoint(address, bind.port) for address in host.all), host.ttl, found)

    async def _service(self, name: str, known: Known) -> Answer:
        """RFC 2782. A target whose addresses cannot be told now keeps those it had."""
        service = await self._search(name, (_SERVICE,))
        # A target of "." says that the service is not offered; port 0 cannot be connected to.
        records = [one for one in service.answers[_SERVICE] if one.target != dns.name.root and one.port]
        if not records:
            return Answer((), service.ttl)
        names = list(dict.fromkeys(record.target.to_text() for record in records))
        found_hosts = await asyncio.gather(*(self._target(name, known) for name in names))
        hosts = dict(zip(names, found_hosts, strict=True))
        endpoints = endpoints_of(
            Target(record.priority, record.weight, record.port, hosts[record.target.to_text()].all)
            for record in records
        )
        if not endpoints:
            raise LookupFailed("no target has an address")
        ttl = min(service.ttl, *(host.ttl for host in hosts.values()))
        found = {
            (name, family): addresses
            for name, host in hosts.items()
            for family, addresses in host.addresses.items()
        }
        return Answer(endpoints, ttl, found)

    async def _target(self, name: str, known: Known) -> _Host:
        try:
            return await self._host(name, known)
        except _NoSuchName:
            return _Host({})
        except LookupFailed:
            return _Host({family: known.get((name, family), ()) for family in self._families})

    async def _host(self, name: str, known: Known) -> _Host:
        """The addresses of a host; those of a family that cannot be told now are the ones in `known`."""
        local = self._hosts.addresses(name)
        by_family = {
            family: tuple(address for address in local if family_of(address) == family)
            for family in self._families
        }
        if any(by_family.values()):
            return _Host(by_family)
        found = await self._search(name, self._families)
        for family in self._families:
            if family in found.failures:
                by_family[family] = known.get((name, family), ())
            elif family in found.answers:
                by_family[family] = tuple(record.address for record in found.answers[family])
        return _Host(by_family, found.ttl)

    async def _search(self, name: str, types: Sequence[str]) -> _Found:
        """The first of the names that `name` may mean for which there is a record of any of `types`.

        As in libc, a nameserver that cannot tell about one of them does not keep the next from being tried,
        and one that does not answer does.
        """
        nameservers = self._nameservers.current()
        failure: dns.exception.DNSException | None = None
        for candidate in nameservers.candidates(name):
            found = await self._ask(nameservers, candidate, types)
            if found.answers:
                return found
            failure = next(iter(found.failures.values()), failure)
            if isinstance(failure, dns.exception.Timeout):
                break
        if failure is not None:
            raise LookupFailed(str(failure)) from failure
        raise _NoSuchName(f"no {' or '.join(types)} record")

    async def _ask(self, nameservers: Nameservers, name: dns.name.Name, types: Sequence[str]) -> _Found:
        """One question for each of `types`, side by side."""
        found = _Found()

        async def ask(wanted: str) -> None:
            try:
                async with self._slots:
                    answer = await nameservers.resolver.resolve(
                        name,
                        wanted,
                        raise_on_no_answer=False,
                        lifetime=nameservers.lifetime,
                        backend=self._backend,
                    )
            except dns.resolver.NXDOMAIN:
                return
            except dns.exception.DNSException as error:
                found.failures[wanted] = error
                return
            if answer.rrset is not None:
                found.answers[wanted] = answer

        async with asyncio.TaskGroup() as questions:
            for wanted in types:
                questions.create_task(ask(wanted))
        return found
