"""Which nameservers are asked, and how: the system's resolver configuration under what ours says."""

from __future__ import annotations

import io
import re
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import dns.asyncresolver
import dns.exception
import dns.inet
import dns.name
import dns.nameserver
import dns.resolver

from vsproxy.config.model import ResolverSection
from vsproxy.upstream.watched_file import WatchedFile

RESOLVER_FILE = "/etc/resolv.conf"
#: Seconds that a nameserver may take if nothing is said: libc's 5 are too many while clients wait.
TIMEOUT = 2.0
#: How often each nameserver is asked if nothing is said (resolv.conf(5), `attempts`).
TRIES = 2

# What resolv.conf(5) says about a file that names none.
_LOCAL_NAMESERVER = "127.0.0.1"
_ATTEMPTS = re.compile(r"^options\b.*\battempts:([1-9])\b", re.MULTILINE)
_NAMESERVER = re.compile(r"^nameserver[ \t]+(\S+)")


@dataclass(frozen=True)
class Nameservers:
    """Those that are asked. `lifetime` is how long one question may take in all, in seconds."""

    resolver: dns.asyncresolver.Resolver
    lifetime: float

    def candidates(self, name: str) -> list[dns.name.Name]:
        """The absolute names that `name` may mean, in the order to try them (resolv.conf(5), `search`)."""
        relative = dns.name.from_text(name, None)
        if relative.is_absolute():
            return [relative]
        absolute = relative.concatenate(dns.name.root)
        resolver = self.resolver
        domains = resolver.search or ([resolver.domain] if resolver.domain != dns.name.root else [])
        searched: list[dns.name.Name] = []
        for domain in domains:
            # A name that would be too long is none.
            with suppress(dns.name.NameTooLong):
                searched.append(relative.concatenate(domain))
        ndots = 1 if resolver.ndots is None else resolver.ndots
        return [absolute, *searched] if len(relative) > ndots else [*searched, absolute]


class NameserverSource:
    """The nameservers as of now: resolv.conf is read again when it has changed."""

    def __init__(self, config: ResolverSection, path: str = RESOLVER_FILE) -> None:
        self._file = WatchedFile(path, partial(read_nameservers, config))

    def current(self) -> Nameservers:
        """Whom to ask at this moment."""
        return self._file.current()


def read_nameservers(config: ResolverSection, text: str) -> Nameservers:
    """What `text`, in the form of resolv.conf(5), and `config`, which goes first, say together."""
    resolver = dns.asyncresolver.Resolver(configure=False)
    # A file that names no nameserver is as good as one that names the local host.
    with suppress(dns.resolver.NoResolverConfiguration):
        resolver.read_resolv_conf(io.StringIO("\n".join(filter(_is_sound, text.splitlines()))))
    if config.nameservers:
        resolver.nameservers = [
            dns.nameserver.Do53Nameserver(bind.host, bind.port) for bind in config.nameservers
        ]
    elif not resolver.nameservers:
        resolver.nameservers = [_LOCAL_NAMESERVER]
    resolver.timeout = config.timeout or resolver.timeout or TIMEOUT
    attempts = _ATTEMPTS.findall(text)
    tries = config.tries or (int(attempts[-1]) if attempts else TRIES)
    return Nameservers(resolver, resolver.timeout * tries * len(resolver.nameservers))


def _is_sound(line: str) -> bool:
    """Whether dnspython can read the line; it gives up on the whole file where libc passes a line over."""
    named = _NAMESERVER.match(line)
    if named:
        return dns.inet.is_address(named[1])
    if line.startswith(("search", "domain")):
        try:
            for domain in line.split()[1:]:
                dns.name.from_text(domain)
        except dns.exception.DNSException:
            return False
    return True
