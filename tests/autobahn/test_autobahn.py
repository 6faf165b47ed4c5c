"""The cases of the Autobahn test suite give the same result through the proxy as without it.

All cases run but those of compression, of which there are 216: of these, three of each kind. `VSPROXY_AUTOBAHN=all` in
the environment runs all of them, which takes some minutes.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from support.autobahn import Verdicts, fuzz
from support.echo_server import EchoServer
from support.proxies import in_subprocess, settings

#: Of each kind of compression: messages of 16 bytes and of 1 KiB, and of 8 KiB in frames of 256 bytes.
SAMPLED = ("1", "4", "11")
COMPRESSION = [f"12.{kind}" for kind in range(1, 6)] + [f"13.{kind}" for kind in range(1, 8)]
WHOLE = os.environ.get("VSPROXY_AUTOBAHN") == "all"
#: What fails without a proxy: the server closes with 1002 where a fragment follows a close, and the case wants 1000.
FAILING = {"7.1.5"}
JUDGED = {"OK", "NON-STRICT", "INFORMATIONAL"}


@pytest.mark.timeout(1800 if WHOLE else 240)
@pytest.mark.parametrize(
    ("cases", "exclude", "least"),
    [
        pytest.param(["*"], ["12.*", "13.*"], 301, id="protocol"),
        pytest.param(
            [f"{kind}.{size}" for kind in COMPRESSION for size in (["*"] if WHOLE else SAMPLED)],
            [],
            216 if WHOLE else 36,
            id="compression",
        ),
    ],
)
async def test_every_case_ends_as_it_does_without_the_proxy(
    tmp_path: Path, cases: list[str], exclude: list[str], least: int
) -> None:
    async with EchoServer() as echo, in_subprocess(settings(echo.address), tmp_path) as proxy:
        direct = await fuzz(f"ws://{echo.address}/", cases, exclude)
        through = await fuzz(f"ws://{proxy.address}/", cases, exclude)
        assert len(direct) >= least
        assert through.keys() == direct.keys()
        if doubtful := sorted({*different(direct, through), *(failed(direct) - FAILING)}):
            # A second is all that a case has for its end, which is little on a machine that is busy: once more, alone.
            direct |= await fuzz(f"ws://{echo.address}/", doubtful, at_once=1)
            through |= await fuzz(f"ws://{proxy.address}/", doubtful, at_once=1)
    assert failed(direct) <= FAILING
    assert different(direct, through) == {}


def different(direct: Verdicts, through: Verdicts) -> dict[str, Any]:
    """Both verdicts of the cases in which they are not the same."""
    return {case: (verdict, through[case]) for case, verdict in direct.items() if through[case] != verdict}


def failed(verdicts: Verdicts) -> set[str]:
    """The cases that did not go well: a comparison of failures would compare nothing."""
    return {case for case, verdict in verdicts.items() if verdict["behavior"] not in JUDGED}
