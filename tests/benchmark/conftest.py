"""What the tests of the benchmark share."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.native_programs import Programs, compile_programs


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    """The load and the servers, compiled."""
    directory: Path = tmp_path_factory.mktemp("programs")
    return compile_programs(directory)


@pytest.fixture(autouse=True)
def open_files() -> Iterator[None]:
    """A run of the benchmark raises the limit, which other tests have a use for as it was."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
