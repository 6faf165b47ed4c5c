"""A process that lives and does nothing is replaced like one that died."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

import vsproxy
from support.proxies import children_of, comm_of, eventually, settings, to_toml

# The command, with less patience; with more than a healthy process on a busy machine may need.
PATIENT = "import vsproxy.supervisor as s; s.HUNG_AFTER = 3.0; from vsproxy.cli import main; main()"


@pytest.mark.parametrize("name", ["vsproxy-worker0", "vsproxy-control"])
async def test_it_is_killed_and_its_successor_serves(tmp_path: Path, name: str) -> None:
    file = tmp_path / "lb.toml"
    file.write_text(to_toml({**settings("127.0.0.1:1"), "proxy": {"workers": 2, "shutdown_timeout": "100ms"}}))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PATIENT, "--config", str(file),
        env={**os.environ, "PYTHONPATH": str(Path(vsproxy.__file__).parent.parent)},
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    try:
        async with asyncio.timeout(30):
            while b" ready" not in await process.stderr.readline():
                pass
            [hung] = [child for child in children_of(process.pid) if comm_of(child) == name]
            others = {child for child in children_of(process.pid) if child != hung}
            os.kill(hung, signal.SIGSTOP)
            while b"has hung" not in (line := await process.stderr.readline()):
                assert line
        found = await eventually(
            lambda: [
                child for child in children_of(process.pid) if child not in {hung, *others} and comm_of(child) == name
            ],
            what="a successor",
        )
        assert len(found) == 1
        assert others <= set(children_of(process.pid))
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 20) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
