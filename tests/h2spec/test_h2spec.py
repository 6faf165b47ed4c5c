"""HTTP/2 conformance of vsproxy, cleartext and TLS; and that the suite can tell, by servers that are less careful."""

from __future__ import annotations

import itertools
import ssl

import pytest

from h2spec.dialog import Target
from h2spec.run import CASES, Outcome, run
from support.certificates import Certificates, make_certificates
from support.ngh2_server import ngh2_server
from support.proxies import Settings
from support.server import Conversation
from support.stage import Stage
from vsproxy.wire.http2_frames import FrameCheck

PATIENCE = 30.0  # what has to come comes at once: this is for a machine that does much else
SOON = 1.0  # what does not come within this is taken not to come
BODY = b"a body of some length\n"
SECTIONS = [section for section, _ in itertools.groupby(CASES, lambda case: case.section)]
MISSED_BY_NGH2 = {
    "http2/5.1/8",
    "http2/5.1/9",
    "http2/5.1/11",
    "http2/5.1/12",
    "http2/5.1.1/2",
    "http2/5.3.1/2",
    "http2/6.3/1",
    "http2/6.9.1/3",
}


def target(address: str, tls: ssl.SSLContext | None = None, patience: float = PATIENCE) -> Target:
    """A server on loopback, of which everything is demanded."""
    host = "localhost" if tls else "127.0.0.1"
    return Target(host, int(address.rsplit(":", 1)[1]), tls, patience=patience, strict=True)


def told(outcomes: list[Outcome]) -> dict[str, str]:
    """Why cases did not pass."""
    return {
        one.case.id: f"{one.case.title}: {one.missed or one.skipped}" for one in outcomes if one.missed or one.skipped
    }


async def answer(peer: Conversation, request: object) -> None:
    """A body that is long enough for the cases about windows."""
    await peer.respond(BODY)


async def passes(stage: Stage, section: str, listener: Settings, tls: ssl.SSLContext | None = None) -> None:
    """All cases of a section, through a proxy."""
    await stage.proxy(await stage.server(answer), listener=listener)
    cases = [case for case in CASES if case.section == section]
    assert told(await run(target(stage.address, tls), cases, at_once=4)) == {}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def test_it_is_all_there() -> None:
    """The numbers that h2spec 2.6 has."""
    assert sum(not case.beyond for case in CASES) == 146
    assert len({case.id for case in CASES}) == len(CASES) == 147


@pytest.mark.parametrize("section", SECTIONS)
async def test_cleartext(section: str, stage: Stage) -> None:
    await passes(stage, section, {"h2c": True})


@pytest.mark.parametrize("section", SECTIONS)
async def test_tls(section: str, stage: Stage, certificates: Certificates) -> None:
    client = certificates.client_context()
    client.set_alpn_protocols(["h2"])
    tls = {"cert": str(certificates.cert), "key": str(certificates.key)}
    await passes(stage, section, {"tls": tls}, client)


async def test_the_library_behind_the_frame_check_misses_nothing() -> None:
    async with ngh2_server(FrameCheck) as port:
        assert told(await run(target(f":{port}"), CASES, at_once=8)) == {}


async def test_the_library_alone_misses_what_the_frame_check_is_for() -> None:
    """And the suite sees it. When a later ngh2 passes here, the check may do without."""
    cases = [case for case in CASES if case.id in MISSED_BY_NGH2]
    async with ngh2_server() as port:
        missed = told(await run(target(f":{port}", patience=SOON), cases, at_once=8))
    assert set(missed) == MISSED_BY_NGH2

