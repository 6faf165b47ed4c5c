"""The certificates in use, watched: new ones are told, each by itself, and so is the end of one."""

from __future__ import annotations

import asyncio
import logging
import shutil
from pathlib import Path

import pytest

from support.certificates import Certificates, make_certificates
from support.proxies import eventually
from vsproxy import certificate_expiry, certificate_watch
from vsproxy.certificate_expiry import DAY, ExpiryWarnings
from vsproxy.certificate_files import ChangeCounts
from vsproxy.certificate_watch import CertificateWatch
from vsproxy.config.tls import PairFiles
from vsproxy.tls_pair import Pairs, read_pair


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks follow each other faster than once a second."""
    monkeypatch.setattr(certificate_watch, "INTERVAL", 0.01)


def replace(old: Certificates, new: Certificates) -> None:
    for name in ("cert", "key"):
        shutil.copyfile(getattr(new, name), getattr(old, name))


def pairs_of(*certificates: Certificates) -> Pairs:
    return {one.files: read_pair(one.files) for one in certificates}


async def test_each_pair_is_judged_by_itself(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    good, bad, same, new, other = (make_certificates(tmp_path / name) for name in "abcde")
    found: list[Pairs] = []
    watch = CertificateWatch(found.append)
    watch.follow(pairs_of(good, bad, same))
    watch.start()
    replace(good, new)
    shutil.copyfile(other.key, bad.key)
    try:
        await eventually(lambda: watch.counts[str(bad.cert)].refused, what="the refusal")
        await eventually(lambda: len(found) >= 2, what="the new pair")
        assert all(one == {good.files: read_pair(new.files)} for one in found)
        # Until it is said to be in use.
        assert watch.pairs[good.files] != found[0][good.files]
        watch.renewed(found[0])
        assert watch.pairs[good.files] == read_pair(new.files)
        assert watch.counts[str(good.cert)] == ChangeCounts(1, 0, "")
        assert watch.counts[str(same.cert)] == ChangeCounts()
    finally:
        await watch.stop()
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert any(line.startswith("a new certificate is refused, the old one stays: ") for line in said)
    assert any(line.startswith("a new certificate is in use, until ") and str(good.cert) in line for line in said)


async def test_what_is_no_more_in_use_is_not_looked_at(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    gone, stays, new = (make_certificates(tmp_path / name) for name in "abc")
    found: list[Pairs] = []
    watch = CertificateWatch(found.append, {str(stays.cert): ChangeCounts(3, 4)})
    watch.follow(pairs_of(gone, stays))
    watch.follow(pairs_of(stays))
    assert watch.counts == {str(stays.cert): ChangeCounts(3, 4)}
    watch.start()
    gone.key.unlink()
    replace(stays, new)
    try:
        await eventually(lambda: len(found) >= 2, what="the new pair")
    finally:
        await watch.stop()
    assert not caplog.records
    # A reload that reads the new one is a change that was taken.
    watch.follow(pairs_of(stays))
    assert watch.counts == {str(stays.cert): ChangeCounts(4, 4)}


async def test_nobody_who_fails_to_use_a_pair_ends_the_looks(tmp_path: Path) -> None:
    used, new = make_certificates(tmp_path / "a"), make_certificates(tmp_path / "b")
    asked = 0

    def refuse(pairs: Pairs) -> None:
        nonlocal asked
        asked += 1
        raise OSError("no descriptors")

    watch = CertificateWatch(refuse)
    watch.follow(pairs_of(used))
    watch.start()
    replace(used, new)
    try:
        await eventually(lambda: asked >= 3, what="to be asked again")
    finally:
        await watch.stop()


async def test_there_need_not_be_any() -> None:
    watch = CertificateWatch(lambda pairs: pytest.fail("nothing is new"))
    watch.follow({})
    watch.start()
    await asyncio.sleep(0.05)
    await watch.stop()
    await watch.stop()


def test_the_end_is_told_21_days_before_and_once_a_day(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    early, late = make_certificates(tmp_path / "a", days=100), make_certificates(tmp_path / "b", days=200)
    pairs = pairs_of(early, late)
    end = pairs[early.files].expiry
    warnings = ExpiryWarnings()
    told = []
    for hours in range(-24 * 24, 2 * 24):
        monkeypatch.setattr(certificate_expiry.time, "time", lambda now=end + hours * 3600.0: now)
        warnings.look(pairs)
        told += [(hours, record.getMessage()) for record in caplog.records]
        caplog.clear()
    assert [hours for hours, _ in told] == [24 * day for day in range(-21, 2)]
    assert told[0][1].startswith(f"the certificate in {early.cert} expires in 21 days, on ")
    assert told[20][1].startswith(f"the certificate in {early.cert} expires in 1 day, on ")
    assert told[22][1].startswith(f"the certificate in {early.cert} has expired on ")


def test_a_renewed_one_is_another(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = PairFiles("cert", "key")
    first, second = (read_pair(make_certificates(tmp_path / f"{days}", days=days).files) for days in (5, 6))
    warnings = ExpiryWarnings()
    for pair in (first, first, second, second, first):
        warnings.look({files: pair})
    assert len(caplog.records) == 3
    assert DAY == 86400
