"""Certificates for tests, made by the project's own generator, `certs/generate.py`."""

from __future__ import annotations

import importlib.util
import ssl
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from vsproxy.config.tls import PairFiles, TlsConfig
from vsproxy.tls_front import load_tls

GENERATOR = Path(__file__).parents[2] / "certs" / "generate.py"


@dataclass(frozen=True)
class Certificates:
    """The files of one run of the generator."""

    ca: Path
    cert: Path
    key: Path

    @property
    def tls(self) -> TlsConfig:
        """A listener's TLS with these files."""
        return TlsConfig(cert=str(self.cert), key=str(self.key))

    def server_context(self) -> ssl.SSLContext:
        """What the connections of a listener with these files begin with."""
        tls = load_tls(self.tls)
        tls.front.use(tls.table)
        return tls.front.context

    @property
    def files(self) -> PairFiles:
        """Certificate and key."""
        return PairFiles(str(self.cert), str(self.key))

    @property
    def settings(self) -> dict[str, str]:
        """Certificate and key as they stand in a file."""
        return {"cert": str(self.cert), "key": str(self.key)}

    def client_context(self) -> ssl.SSLContext:
        """A client that trusts the CA, and checks the name."""
        return ssl.create_default_context(cafile=str(self.ca))


def load_generator() -> ModuleType:
    """The generator as a module; `certs/` is not a package."""
    spec = importlib.util.spec_from_file_location("certs_generate", GENERATOR)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def make_certificates(
    directory: Path, *names: str, only: bool = False, rsa: bool = False, days: float = 365
) -> Certificates:
    """A CA and a server certificate for localhost (unless `only`) and `names`, in `directory`."""
    generator = load_generator()
    ca, cert, key = generator.write(generator.issue(names, days, only, rsa), directory)
    return Certificates(ca, cert, key)
