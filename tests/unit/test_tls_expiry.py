"""When a certificate expires, as its file says it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from support.certificates import load_generator
from vsproxy.errors import VsproxyError
from vsproxy.tls_expiry import certificate_expiry

DAY = 24 * 3600


def write(directory: Path, days: float) -> tuple[Path, Path, Path]:
    generator = load_generator()
    ca, cert, key = generator.write(generator.issue(days=days), directory)
    return ca, cert, key


def test_the_end_of_the_certificate(tmp_path: Path) -> None:
    _, cert, _ = write(tmp_path, 10)
    assert certificate_expiry(str(cert)) == pytest.approx(time.time() + 10 * DAY, abs=60)


def test_the_first_certificate_counts_wherever_the_key_stands(tmp_path: Path) -> None:
    _, soon, key = write(tmp_path / "soon", 10)
    _, later, _ = write(tmp_path / "later", 20)
    file = tmp_path / "all.pem"
    file.write_bytes(key.read_bytes() + soon.read_bytes() + later.read_bytes())
    assert certificate_expiry(str(file)) == pytest.approx(time.time() + 10 * DAY, abs=60)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(VsproxyError, match=r"missing\.pem: No such file or directory"):
        certificate_expiry(str(tmp_path / "missing.pem"))
    file = tmp_path / "empty.pem"
    file.write_text("no certificate\n")
    with pytest.raises(VsproxyError, match=r"empty\.pem: no usable certificate in PEM form"):
        certificate_expiry(str(file))
