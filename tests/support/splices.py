"""Who watches the splices of a proxy in this process."""

from __future__ import annotations

from typing import Any

import pytest

from vsproxy.splice import Splice, Splicer


class Watched:
    """Every splice that has begun, and their splicers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun: list[Splice] = []
        self.splicers: set[Splicer] = set()
        original = Splicer.start

        def start(splicer: Splicer, splice: Splice) -> bool:
            begun = original(splicer, splice)
            if begun:
                self.begun.append(splice)
                self.splicers.add(splicer)
            return begun

        monkeypatch.setattr(Splicer, "start", start)

    def kinds(self) -> list[str]:
        """Download or Upload, in the order in which they began."""
        return [type(splice).__name__ for splice in self.begun]

    @property
    def held(self) -> list[int]:
        """The bytes in the pipe of each."""
        return [splice.held for splice in self.begun]

    def all_over(self) -> bool:
        """Whether none is on its way, and every pipe is back."""
        return all(splice.over for splice in self.begun) and all(not each.pipes.used for each in self.splicers)

    def option(self, on: bool) -> dict[str, Any]:
        """The section of the configuration that turns it on or off."""
        return {"proxy": {"shutdown_timeout": "200ms", "splice": on}}
