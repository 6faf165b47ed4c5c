"""What it means to look a name up: what is asked, what comes back, and how it fails."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from vsproxy.config.units import Bind
from vsproxy.errors import VsproxyError
from vsproxy.upstream.endpoint import Endpoint

#: The two record types of addresses.
IPV4 = "A"
IPV6 = "AAAA"


class LookupFailed(VsproxyError):
    """There was no answer, or one without an address. The text is the reason, fit for a log line."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The endpoints that a name stands for, each once; none: the service is said not to be offered.

    `ttl` is how long that holds, in seconds, infinity if nothing was said. `found` has the addresses by the
    name that was asked for and the record type (`IPV4`, `IPV6`): of use to the next lookup.
    """

    endpoints: tuple[Endpoint, ...]
    ttl: float = math.inf
    found: Mapping[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)


#: Looks up the host of a `Bind` of kind `tcp` or `srv`. The last good answer, if any, fills in for the parts
#: of this one that fail: a family of addresses, a target of several. Raises LookupFailed if nothing is found.
Lookup = Callable[[Bind, Answer | None], Awaitable[Answer]]


def family_of(host: str) -> str:
    """The record type that an address comes from."""
    return IPV6 if ":" in host else IPV4
