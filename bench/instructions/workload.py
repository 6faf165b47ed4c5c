"""What a workload is."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

#: One request, or one head, or one pick. It leaves everything as it found it, so that each costs the same.
Step = Callable[[], object]


class Workload(NamedTuple):
    """`factory` is `module:function`: the function takes nothing and returns a `Step`."""

    name: str
    factory: str
