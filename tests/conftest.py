"""Fixtures of the black-box suites. Tests run on the loop that the product runs on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import uvloop

from support.stage import Stage


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Every test runs on uvloop; the few about other loops make their own."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    """Servers, proxy and clients of one test."""
    stage = Stage(tmp_path)
    try:
        yield stage
    finally:
        await stage.clear()
