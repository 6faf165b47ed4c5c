"""The Autobahn test suite's cases as a client, by `kosoku`; run as a program by `fuzz`.

A process of its own: the suite puts folders of its own in front of `sys.path` and changes the standard library.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from kosoku import FailureError, run_fuzzingclient

Verdicts = dict[str, dict[str, Any]]


async def fuzz(url: str, cases: Sequence[str], exclude: Sequence[str] = (), at_once: int = 4) -> Verdicts:
    """Run `cases` (ids, or globs such as `9.*`) against the echo server at `url`; what came of each, by its id."""
    given = json.dumps({"url": url, "cases": cases, "exclude": exclude, "at_once": at_once})
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", __file__, given),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    verdicts: Verdicts = json.loads(output)
    return verdicts


def verdict(result: Any) -> dict[str, Any]:
    """What a client can tell of a case: how it was judged, what came back, and how the connection ended."""
    return {
        "behavior": result.behavior.value,
        "close": result.behavior_close.value,
        "received": hashlib.sha256(repr(result.received).encode()).hexdigest(),
        "code": result.remote_close_code,
        "reason": result.remote_close_reason,
        "clean": result.was_clean,
        "dropped_late": result.was_server_connection_drop_timeout,
    }


async def main(given: dict[str, Any]) -> None:
    """Run the cases and print the verdicts."""
    try:
        results = await run_fuzzingclient(given["url"], given["cases"], given["exclude"], concurrency=given["at_once"])
    except FailureError as failure:
        results = failure.results
    print(json.dumps({result.case_id: verdict(result) for result in results}), flush=True)


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
    # One in twenty times the suite's threads abort an interpreter that ends in the ordinary way.
    os._exit(0)
