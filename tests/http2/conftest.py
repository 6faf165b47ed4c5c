"""Fixtures of the suites about HTTP/2."""

from __future__ import annotations

import pytest

from support.certificates import Certificates, make_certificates
from support.h2_front import H2C, TLS, Front
from support.stage import Stage


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Those of every TLS listener of these suites."""
    return make_certificates(tmp_path_factory.mktemp("certs"))


@pytest.fixture(params=[H2C, TLS])
def front(request: pytest.FixtureRequest, stage: Stage, certificates: Certificates) -> Front:
    """Both ways in, for what depends on how bytes move."""
    return Front(stage, request.param, certificates)


@pytest.fixture
def plain(stage: Stage, certificates: Certificates) -> Front:
    """Prior knowledge alone, for what does not."""
    return Front(stage, H2C, certificates)


@pytest.fixture
def secure(stage: Stage, certificates: Certificates) -> Front:
    """TLS alone."""
    return Front(stage, TLS, certificates)
