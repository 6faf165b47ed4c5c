"""One running proxy for the tests of a module."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from abuse.ordeal import Ordeal, ordeal


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def target(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ordeal]:
    """The proxy, with the module's LISTENER."""
    async with ordeal(tmp_path_factory.mktemp("abuse"), getattr(request.module, "LISTENER", {})) as one:
        yield one
