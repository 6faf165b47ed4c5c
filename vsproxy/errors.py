"""The exceptions of vsproxy, and what a mistake in a configuration is made of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


class VsproxyError(Exception):
    """Base of every exception that vsproxy raises on purpose."""


class BadMessage(VsproxyError):
    """A peer sent something that is not, or not unambiguously, HTTP (RFC 9112).

    `status` is what the exchange becomes: a 4xx or 5xx for a request, 502 for a response. `reason` is short,
    fit for a log line and a metric label.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.status}: {self.reason}"


class BadProxyHeader(VsproxyError):
    """What a connection began with is not a header of the PROXY protocol; the text says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a configuration.

    `key` is the path of the key, as in `pools.web.servers[0].weight`; `line` counts from 1, 0 when there
    is no file or the place is unknown. `accepted` may be empty, then `found` says everything.
    """

    file: str
    line: int
    key: str
    found: str
    accepted: str = ""

    @property
    def message(self) -> str:
        """What was found and what is accepted, without the place."""
        text = f"found {self.found}" if self.accepted else self.found
        return f"{text}; accepted {self.accepted}" if self.accepted else text

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return ": ".join(part for part in (place, self.key, self.message) if part)


class ConfigError(VsproxyError, ValueError):
    """A configuration that cannot be used; `problems` holds every mistake that was found, in file order."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))
