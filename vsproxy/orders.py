"""What the supervisor and its children say to each other, each as one message of a `Channel`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vsproxy.binding import ListenerKey
from vsproxy.config.model import Bind, Config
from vsproxy.tls_pair import Pairs


@dataclass(frozen=True)
class SocketsOf:
    """Which of the descriptors that come with a message belong to a listener: the next `count`."""

    key: ListenerKey
    bind: Bind
    count: int


# From the supervisor


@dataclass(frozen=True)
class Prepare:
    """Make what `config` needs. Descriptors: the sockets of its new listeners; for control, of the admin port.

    `pairs` are all its certificates, as they were read once for all. `fronts` has the number of the front context of
    each TLS listener, None for one of the worker's own.
    """

    version: int
    config: Config
    sockets: tuple[SocketsOf, ...]
    pairs: Pairs
    fronts: Mapping[ListenerKey, int | None]


@dataclass(frozen=True)
class Commit:
    """Switch to what was prepared."""

    version: int


@dataclass(frozen=True)
class Cancel:
    """Forget what was prepared."""

    version: int


@dataclass(frozen=True)
class Lend:
    """Accept for the sibling `worker`, which is down. Descriptors: its sockets."""

    worker: int
    sockets: tuple[SocketsOf, ...]


@dataclass(frozen=True)
class Unlend:
    """The sibling `worker` is there again."""

    worker: int


@dataclass(frozen=True)
class Renew:
    """These certificates have taken the place of what was in the same files."""

    pairs: Pairs


@dataclass(frozen=True)
class Drain:
    """The whole is about to stop; for control, which goes on until the workers have ended."""


@dataclass(frozen=True)
class Stop:
    """Finish what is in flight and end."""


# From a child


@dataclass(frozen=True)
class Ready:
    """It serves."""

    admin_address: str | None = None


@dataclass(frozen=True)
class Failed:
    """It cannot start."""

    reason: str


@dataclass(frozen=True)
class Prepared:
    """The answer to `Prepare`; `problem` is empty if all is well."""

    version: int
    problem: str = ""


@dataclass(frozen=True)
class Switched:
    """The answer to `Commit`."""

    version: int


@dataclass(frozen=True)
class Found:
    """From control: there are new certificates in files that are in use, and they are good."""

    pairs: Pairs
