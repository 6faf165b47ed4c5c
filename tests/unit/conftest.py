"""What the tests of commands to a running supervisor have in common."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.supervising import Desk


@pytest.fixture
def file(tmp_path: Path) -> str:
    """The configuration file that a supervisor answers for."""
    path = tmp_path / "lb.toml"
    path.touch()
    return str(path)


@pytest.fixture
def desk(file: str) -> Iterator[Desk]:
    """Who answers for `file`."""
    desk = Desk(file)
    yield desk
    desk.close()
