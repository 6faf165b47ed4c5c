"""Programs that are clients, run to their end."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass

#: Seconds after which a client that has not ended hangs.
PATIENCE = 60.0


@dataclass(slots=True)
class Ran:
    """How a program has ended and what it said."""

    status: int
    output: bytes
    errors: str

    @property
    def text(self) -> str:
        """The output as text."""
        return self.output.decode(errors="replace")


async def run(*arguments: str, given: bytes = b"", seconds: float = PATIENCE) -> Ran:
    """Run a program with `given` as its standard input; kills it and fails the test when it does not end.

    No proxy of the environment is used.
    """
    clean = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    process = await asyncio.create_subprocess_exec(
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=clean,
    )
    try:
        async with asyncio.timeout(seconds):
            output, errors = await process.communicate(given)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise AssertionError(f"{' '.join(arguments)} did not end within {seconds} s") from None
    assert process.returncode is not None
    return Ran(process.returncode, output, errors.decode(errors="replace"))
