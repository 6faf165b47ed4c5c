"""A server as the control process tells the workers about it."""

from __future__ import annotations

from typing import NamedTuple


class ServerEntry(NamedTuple):
    """What a worker has to know of a server. `serial` is its identity, `slot` where its counts are shared.

    `name` is the address as configured, `host` and `port` what to connect to (see `Server`); `ramping_since`
    is when its slow start began, in seconds since 1970, 0 for none.
    """

    serial: int
    slot: int
    name: str
    host: str
    port: int
    weight: int
    backup: bool
    max_connections: int
    state: int
    state_reason: str
    state_since: float
    ramping_since: float
