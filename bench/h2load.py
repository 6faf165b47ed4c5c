"""nghttp2's h2load, for HTTP/2: its statuses, the bytes it counts, and its log of every request."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from bench.errors import BenchError, VoidError
from bench.load import Answered, Load
from bench.statistics import quantile

_STREAMS = 10
_LONGEST_S = 120.0
_DONE = re.compile(r"requests: (\d+) total, \d+ started, \d+ done, (\d+) succeeded")
_DATA = re.compile(r"\((\d+)\) data$", re.MULTILINE)
_SECONDS = re.compile(r"finished in ([\d.]+)(s|ms|us),")
_UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}


def run_h2load(core: int, port: int, load: Load, count: int) -> Answered:
    """`count` requests. Raises VoidError if one has failed or a body has another length than `load.size`."""
    if shutil.which("h2load") is None:
        raise BenchError("h2load is not installed (Debian: nghttp2-client)")
    with tempfile.TemporaryDirectory(prefix="bench-h2load-") as directory:
        log = Path(directory, "requests")
        command = ["taskset", "-c", str(core), "h2load", f"-n{count}", f"-c{load.connections}", f"-m{_STREAMS}"]
        # As native/channel.c has it for the others.
        command += [
            "--tls13-ciphers=TLS_AES_128_GCM_SHA256",
            f"--log-file={log}",
            f"https://127.0.0.1:{port}/b/{load.size}",
        ]
        try:
            result = subprocess.run(command, capture_output=True, text=True, timeout=_LONGEST_S, check=False)
        except subprocess.TimeoutExpired as error:
            raise VoidError(f"h2load took more than {_LONGEST_S:.0f} s") from error
        if result.returncode:
            raise VoidError(f"h2load failed: {result.stderr.strip()}")
        return read_output(result.stdout, log.read_text(), count, load.size)


def read_output(text: str, log: str, count: int, size: int) -> Answered:
    """What it says, checked against what was wanted. Raises VoidError if that is something else."""
    done, data, seconds = _DONE.search(text), _DATA.search(text), _SECONDS.search(text)
    if done is None or data is None or seconds is None:
        raise VoidError(f"h2load says something unknown: {text}")
    if int(done.group(2)) != count:
        raise VoidError(f"{done.group(2)} of {count} requests succeeded")
    if int(data.group(1)) != count * size:
        raise VoidError(f"{data.group(1)} bytes of bodies instead of {count * size}")
    rows = [line.split("\t") for line in log.splitlines()]
    wrong = [row for row in rows if row[1] != "200"]
    if wrong or len(rows) != count:
        raise VoidError(f"{len(wrong)} answers of {len(rows)} had another status than 200")
    taken = [float(row[2]) for row in rows]
    return Answered(
        requests=count,
        seconds=float(seconds.group(1)) * _UNITS[seconds.group(2)],
        bytes=int(data.group(1)),
        reopened=0,
        p50_us=quantile(taken, 0.5),
        p99_us=quantile(taken, 0.99),
        p999_us=quantile(taken, 0.999),
        max_us=max(taken),
    )
