"""New certificates in the files of those in use: found however they come, and refused once if they are no good."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

import pytest

from support.certificates import Certificates, make_certificates
from vsproxy import certificate_files
from vsproxy.certificate_files import ChangeCounts, WatchedPair, look_at
from vsproxy.tls_pair import Pair, read_pair


@pytest.fixture
def used(tmp_path: Path) -> Certificates:
    """The pair in use."""
    return make_certificates(tmp_path / "used")


@pytest.fixture
def renewed(tmp_path: Path) -> Certificates:
    """What comes in its place."""
    return make_certificates(tmp_path / "renewed")


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that has just been written shows every later change in its times."""
    monkeypatch.setattr(certificate_files, "UNSETTLED", -3600.0)


def watched(used: Certificates) -> WatchedPair:
    return WatchedPair(used.files, read_pair(used.files), ChangeCounts())


def look(pair: WatchedPair) -> Pair | None:
    """One look: the new pair, if it is one."""
    found = look_at(pair.files, pair.seen, pair.known)
    return found.pair if found is not None and pair.judge(found) else None


def overwrite(old: Path, new: Path) -> None:
    """In place, as `cp` does."""
    shutil.copyfile(new, old)


def swap(old: Path, new: Path) -> None:
    """By a new file in its place, as careful programs do."""
    copy = old.with_suffix(".new")
    shutil.copyfile(new, copy)
    copy.replace(old)


@pytest.mark.parametrize("write", [overwrite, swap])
def test_a_new_pair_is_found_until_it_is_in_use(used: Certificates, renewed: Certificates, write: object) -> None:
    assert callable(write)
    pair = watched(used)
    assert look(pair) is None
    write(used.cert, renewed.cert)
    write(used.key, renewed.key)
    wanted = read_pair(renewed.files)
    assert [look(pair), look(pair)] == [wanted, wanted]
    pair.follow(wanted)
    assert look(pair) is None
    assert pair.counts == ChangeCounts(1, 0, "")


def test_what_has_not_changed_is_not_read(used: Certificates, settled: None) -> None:
    pair = watched(used)
    first = look_at(pair.files, pair.seen, pair.known)
    assert first is not None
    assert not pair.judge(first)
    assert look_at(pair.files, pair.seen, pair.known) is None
    os.utime(used.key)
    assert look_at(pair.files, pair.seen, pair.known) is not None


def test_a_link_that_leads_elsewhere_is_a_change(
    used: Certificates, renewed: Certificates, tmp_path: Path, settled: None
) -> None:
    """A directory is swapped at one stroke, as Kubernetes does; the files are links through it."""
    data = tmp_path / "..data"
    data.symlink_to(used.cert.parent)
    files = make_links(tmp_path, data)
    pair = WatchedPair(files.files, read_pair(files.files), ChangeCounts())
    assert look(pair) is None
    (tmp_path / "..data_tmp").symlink_to(renewed.cert.parent)
    (tmp_path / "..data_tmp").rename(data)
    assert look(pair) == read_pair(renewed.files)


def make_links(directory: Path, data: Path) -> Certificates:
    links = [directory / name for name in ("ca.pem", "server.pem", "server.key")]
    for link in links:
        link.symlink_to(data / link.name)
    return Certificates(*links)


def test_a_change_right_after_a_look_is_found_though_no_time_tells(used: Certificates, renewed: Certificates) -> None:
    """Times of files are those of the last tick: two changes in one look the same."""
    pair = watched(used)
    before = os.stat(used.cert), os.stat(used.key)
    assert look(pair) is None
    assert pair.seen is None
    overwrite(used.cert, renewed.cert)
    overwrite(used.key, renewed.key)
    for path, found in zip(used.files, before, strict=True):
        os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert look(pair) == read_pair(renewed.files)


def test_a_key_that_comes_a_moment_later_is_no_fault(
    used: Certificates, renewed: Certificates, caplog: pytest.LogCaptureFixture, settled: None
) -> None:
    pair = watched(used)
    swap(used.cert, renewed.cert)
    assert look(pair) is None
    swap(used.key, renewed.key)
    assert look(pair) == read_pair(renewed.files)
    assert pair.counts == ChangeCounts()
    assert not caplog.records


def spoil_key(used: Certificates, other: Certificates) -> None:
    overwrite(used.key, other.key)


def halve(used: Certificates, other: Certificates) -> None:
    used.cert.write_bytes(other.cert.read_bytes()[:300])


def remove(used: Certificates, other: Certificates) -> None:
    used.key.unlink()


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (spoil_key, "server.key: the private key does not belong to the certificate in"),
        (halve, "server.pem: no usable certificate in PEM form"),
        (remove, "server.key: No such file or directory"),
    ],
)
@pytest.mark.parametrize("unsettled", [-3600.0, 3600.0])
def test_what_cannot_be_used_is_refused_once_and_the_old_one_stays(
    used: Certificates,
    renewed: Certificates,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    spoil: object,
    reason: str,
    unsettled: float,
) -> None:
    assert callable(spoil)
    monkeypatch.setattr(certificate_files, "UNSETTLED", unsettled)
    pair = watched(used)
    old = pair.pair
    spoil(used, renewed)
    assert [look(pair) for _ in range(5)] == [None] * 5
    assert pair.counts[:2] == (0, 1)
    assert pair.counts.refused_now
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert reason in record.getMessage()
    assert pair.pair is old
    # A successor does not count it again.
    successor = WatchedPair(pair.files, old, pair.counts)
    assert [look(successor) for _ in range(3)] == [None] * 3
    assert successor.counts == pair.counts
    swap(used.cert, renewed.cert)
    swap(used.key, renewed.key)
    found = look(pair)
    assert found == read_pair(renewed.files)
    assert found is not None
    pair.follow(found)
    assert pair.counts == ChangeCounts(1, 1, "")


def test_each_change_that_is_no_good_is_refused(
    used: Certificates, renewed: Certificates, caplog: pytest.LogCaptureFixture, settled: None
) -> None:
    pair = watched(used)
    for spoil in (spoil_key, halve, remove):
        spoil(used, renewed)
        assert [look(pair) for _ in range(3)] == [None] * 3
    assert pair.counts[:2] == (0, 3)
    assert len(caplog.records) == 3


def test_the_old_one_may_come_back(used: Certificates, renewed: Certificates, tmp_path: Path, settled: None) -> None:
    pair = watched(used)
    shutil.copyfile(used.key, tmp_path / "kept")
    spoil_key(used, renewed)
    assert [look(pair), look(pair)] == [None, None]
    assert pair.counts.refused_now
    swap(used.key, tmp_path / "kept")
    assert look(pair) is None
    assert pair.counts == ChangeCounts(0, 1, "")
