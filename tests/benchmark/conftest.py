"""What the tests of the benchmark share."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.native_programs import Programs, compile_programs


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    """The load and the servers, compiled."""
    directory: Path = tmp_path_factory.mktemp("programs")
    return compile_programs(directory)
