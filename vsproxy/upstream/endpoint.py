"""One address that a configured server stands for."""

from __future__ import annotations

from typing import NamedTuple


class Endpoint(NamedTuple):
    """What a name resolved to. An SRV record says more than an address: a share, and who is a backup.

    `weight` 0 means that nothing was said: the configured weight holds. `backup` adds to the configured one.
    """

    host: str
    port: int
    weight: int = 0
    backup: bool = False
