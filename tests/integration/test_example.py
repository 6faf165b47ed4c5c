"""The example program of the README runs as it is."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import vsproxy

EXAMPLE = Path(__file__).parents[2] / "examples" / "embed.py"


async def test_the_embedding_example_balances_and_fails_over() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(EXAMPLE),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(vsproxy.__file__).parent.parent)},
    )
    output, errors = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0, errors.decode()
    lines = output.decode().splitlines()
    assert lines[0] == "both servers: {'first': 5, 'second': 5}"
    assert lines[1] == "first stopped: {'second': 10}"
    assert [line.split()[1] for line in lines[2:]] == ["down,", "up,"]
