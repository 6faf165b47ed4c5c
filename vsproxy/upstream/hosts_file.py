"""Names that the system knows by itself: the hosts file, and localhost."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from vsproxy.upstream.watched_file import WatchedFile

HOSTS_FILE = "/etc/hosts"

_LOOPBACK = ("127.0.0.1", "::1")


class HostsFile:
    """The file of hosts(5), read again when it has changed."""

    def __init__(self, path: str = HOSTS_FILE) -> None:
        self._file = WatchedFile(path, parse_hosts)

    def addresses(self, name: str) -> tuple[str, ...]:
        """The addresses of `name` in the order of the file, empty if it is not known here.

        `localhost` and what is below it are always known (RFC 6761 section 6.3).
        """
        name = name.lower().removesuffix(".")
        found = self._file.current().get(name, ())
        if not found and (name == "localhost" or name.endswith(".localhost")):
            return _LOOPBACK
        return found


def parse_hosts(text: str) -> Mapping[str, tuple[str, ...]]:
    """Addresses by name in lower case; lines that do not begin with an address are passed over."""
    found: dict[str, dict[str, None]] = {}
    for line in text.splitlines():
        address, *names = line.partition("#")[0].split() or [""]
        try:
            address = str(ipaddress.ip_address(address))
        except ValueError:
            continue
        for name in names:
            found.setdefault(name.lower().removesuffix("."), {})[address] = None
    return {name: tuple(addresses) for name, addresses in found.items()}
