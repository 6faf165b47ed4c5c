"""An ECDSA P-256 certificate for the proxies, made for a run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from bench.peers.base import Certificate

_GENERATE = Path(__file__).parents[1] / "certs" / "generate.py"


def make_certificate(directory: Path) -> Certificate:
    """Signed by a CA of its own, for localhost and 127.0.0.1; the files are in `directory`."""
    subprocess.run([sys.executable, str(_GENERATE), "--out", str(directory)], check=True, capture_output=True)
    certificate, key, both = directory / "server.pem", directory / "server.key", directory / "both.pem"
    both.write_bytes(certificate.read_bytes() + key.read_bytes())
    return Certificate(ca=directory / "ca.pem", certificate=certificate, key=key, both=both)
