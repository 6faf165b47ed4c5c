"""A workload of `bench.instructions` that has lost its speed."""

from __future__ import annotations

from bench.instructions.heads import bare_request
from bench.instructions.workload import Step


def twice() -> Step:
    """Does what `bare_request` does two times over."""
    once = bare_request()

    def step() -> None:
        once()
        once()

    return step


def broken() -> Step:
    """Does not come about."""
    raise LookupError("there is nothing to count")
