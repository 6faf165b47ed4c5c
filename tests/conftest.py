"""Fixtures of the black-box suites. Tests run on the loop that the product runs on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import uvloop
from hypothesis import HealthCheck, settings

from support.stage import Stage

# How long an example takes says something about what else this machine does, and nothing about us.
settings.register_profile("patient", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


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
