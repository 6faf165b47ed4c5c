"""Debian's Chromium without a display, pointed at one page."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import os
import shutil
import signal
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

CHROMIUM = shutil.which("chromium")

OPTIONS = (
    "--headless",
    # Tests run as root, and in containers that give /dev/shm 64 MiB.
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--mute-audio",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--enable-logging=stderr",
)


def key_digest(cert: Path) -> str:
    """What Chromium calls the SPKI of a certificate file: the SHA-256 of its public key, in base64."""
    key = x509.load_pem_x509_certificate(cert.read_bytes()).public_key()
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(der).digest()).decode()


class Chromium:
    """The browser as an asynchronous context, showing `url`; killed at the end, with all its processes.

    Of what it does not trust by itself it accepts the certificate in the file `cert`, and no other. `profile` is a
    folder of its own. What it says on stderr is printed at the end, and shown when the test has failed.
    """

    def __init__(self, url: str, cert: Path, profile: Path) -> None:
        self.url = url
        self.cert = cert
        self.profile = profile
        self._process: asyncio.subprocess.Process | None = None
        self._log = profile.with_suffix(".log")

    async def __aenter__(self) -> Self:
        assert CHROMIUM is not None
        self.profile.mkdir()
        with self._log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                CHROMIUM,
                *OPTIONS,
                f"--user-data-dir={self.profile}",
                f"--ignore-certificate-errors-spki-list={key_digest(self.cert)}",
                self.url,
                env={**os.environ, "HOME": str(self.profile)},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self

    @property
    def returncode(self) -> int | None:
        """None while it runs."""
        assert self._process
        return self._process.returncode

    async def __aexit__(self, *exc: object) -> None:
        assert self._process
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()
        # There is no D-Bus, which it says every time that it looks.
        print("\n".join(line for line in self._log.read_text(errors="replace").splitlines() if "dbus" not in line))
