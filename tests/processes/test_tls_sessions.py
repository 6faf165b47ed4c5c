"""TLS sessions are resumed by every worker, and outlive reloads, new certificates and the death of a worker."""

from __future__ import annotations

import asyncio
import itertools
import signal
import ssl
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from support.certificates import Certificates, make_certificates
from support.family import kill, replaced, workers_of
from support.proxies import ProxyProcess, Settings, settings
from support.shaking import V12, V13, Shaken, anyone, dialled, serial_of, shake
from support.stage import Stage
from vsproxy.config.tls import DEFAULT_CIPHERS

WORKERS = 3
#: Seconds within which the kernel gives a connection to each worker.
CHANCE = 30.0
#: More than the front contexts that are kept for later.
CHANGES = 66


def meet_all(
    process: ProxyProcess, address: str, client: ssl.SSLContext, session: ssl.SSLSession | None
) -> dict[int, Shaken]:
    """A handshake with each worker, by its id, all with the same session."""
    found: dict[int, Shaken] = {}
    deadline = time.monotonic() + CHANCE
    while not (len(process.workers) == WORKERS and found.keys() >= set(process.workers)):
        assert time.monotonic() < deadline, f"not one connection in {CHANCE} s for a worker"
        with dialled(address, client, "localhost", session) as (tls, shaken):
            (worker,) = workers_of(process, [cast(Any, SimpleNamespace(sock=tls))])
            found[worker] = shaken
    return found


async def resumed_at(
    process: ProxyProcess, address: str, client: ssl.SSLContext, session: ssl.SSLSession | None
) -> set[bool]:
    """Whether the workers resume the session."""
    assert session is not None
    found = await asyncio.to_thread(meet_all, process, address, client, session)
    return {shaken.resumed for shaken in found.values()}


def tls_settings(pair: Certificates, /, **tls: Any) -> Settings:
    """A listener's keys."""
    return {"tls": {**pair.settings, **tls}}


async def start(stage: Stage, listener: Settings) -> tuple[ProxyProcess, Settings]:
    config = settings(await stage.server(), listener=listener, proxy={"workers": WORKERS, "shutdown_timeout": "1s"})
    return await stage.run(config), config


def with_tls(config: Settings, listener: Settings) -> Settings:
    return {**config, "listeners": [{**config["listeners"][0], **listener}]}


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    """The pair in use."""
    return make_certificates(tmp_path / "certs")


@pytest.mark.parametrize("version", [V12, V13])
async def test_each_worker_resumes_what_began_at_another_and_goes_on_over_all_changes(
    stage: Stage, tmp_path: Path, certificates: Certificates, version: ssl.TLSVersion
) -> None:
    more = make_certificates(tmp_path / "more", "more.example", only=True)
    process, config = await start(stage, tls_settings(certificates))
    client = anyone(version)
    session = (await shake(stage.address, client)).session
    assert await resumed_at(process, stage.address, client, session) == {True}
    # A reload, of something else and of the names.
    assert (await process.reload(config | {"routes": [{"path": "/", "pool": "main", "max_body": 5}]}))["ok"]
    assert await resumed_at(process, stage.address, client, session) == {True}
    await process.put_into_force(with_tls(config, tls_settings(certificates, certificates=[more.settings])))
    assert await resumed_at(process, stage.address, client, session) == {True}
    # A signal, with another certificate in the file.
    renewed = make_certificates(tmp_path / "renewed", rsa=True)
    for old, new in zip(certificates.files, renewed.files, strict=True):
        Path(old).write_bytes(Path(new).read_bytes())
    process.signal(signal.SIGHUP)
    wanted = serial_of(renewed.cert.read_bytes())

    def all_have_it() -> bool:
        found = meet_all(process, stage.address, anyone(version), None)
        return {shaken.serial for shaken in found.values()} == {wanted}

    async with asyncio.timeout(20):
        while not await asyncio.to_thread(all_have_it):
            pass
    assert await resumed_at(process, stage.address, client, session) == {True}
    # A worker that is killed.
    victim = process.workers[1]
    kill(victim)
    await replaced(process, victim, WORKERS)
    assert await resumed_at(process, stage.address, client, session) == {True}
    assert await resumed_at(process, stage.address, client, (await shake(stage.address, client)).session) == {True}


async def test_a_listener_that_a_reload_added(stage: Stage, certificates: Certificates) -> None:
    process, config = await start(stage, {})
    address = stage.free_address()
    added = {"bind": address, **tls_settings(certificates)}
    await process.put_into_force({**config, "listeners": [*config["listeners"], added]})
    client = anyone(V13)
    session = (await shake(address, client)).session
    assert await resumed_at(process, address, client, session) == {True}
    victim = process.workers[0]
    kill(victim)
    await replaced(process, victim, WORKERS)
    assert await resumed_at(process, address, client, session) == {True}
    assert (await process.reload())["ok"]
    assert await resumed_at(process, address, client, session) == {True}


@pytest.mark.parametrize(
    "changed", [{"min_version": "1.3"}, {"ciphers": "ECDHE+AESGCM"}, {"alpn": ["http/1.1"]}], ids=str
)
async def test_no_session_gets_past_other_settings(
    stage: Stage, certificates: Certificates, changed: dict[str, Any]
) -> None:
    process, config = await start(stage, tls_settings(certificates))
    client = anyone(V13)
    first = (await shake(stage.address, client)).session
    await process.put_into_force(with_tls(config, tls_settings(certificates, **changed)))
    assert await resumed_at(process, stage.address, client, first) == {False}
    # The new front is one for all of them as well.
    session = (await shake(stage.address, client)).session
    assert await resumed_at(process, stage.address, client, session) == {True}
    # Back again, with the sessions of that time and no others.
    await process.put_into_force(config)
    assert await resumed_at(process, stage.address, client, session) == {False}
    assert await resumed_at(process, stage.address, client, first) == {True}


async def test_a_refused_reload_leaves_everything_as_it_was(stage: Stage, certificates: Certificates) -> None:
    process, config = await start(stage, tls_settings(certificates))
    client = anyone(V13)
    session = (await shake(stage.address, client)).session
    taken = {"bind": stage.servers[0].address}
    other = with_tls(config, tls_settings(certificates, min_version="1.3"))
    other["listeners"].append(taken)
    assert not (await process.reload(other))["ok"]
    assert await resumed_at(process, stage.address, client, session) == {True}


async def test_when_no_front_is_left_it_is_said_and_every_worker_has_its_own(
    stage: Stage, tmp_path: Path, certificates: Certificates
) -> None:
    process, config = await start(stage, tls_settings(certificates))
    answer: dict[str, Any] = {}
    for order in itertools.islice(itertools.permutations(DEFAULT_CIPHERS.split(":")), CHANGES):
        answer = await process.reload(with_tls(config, tls_settings(certificates, ciphers=":".join(order))))
        assert answer["ok"], answer
        if answer["notes"]:
            break
    (note,) = answer["notes"]
    assert note.startswith(f"there is no front context left for {config['listeners'][0]['bind']}: until a restart, ")
    await process.wait_for_line("there is no front context left")
    client = anyone(V13)
    session = (await shake(stage.address, client)).session
    assert session is not None
    found = await asyncio.to_thread(meet_all, process, stage.address, client, session)
    assert {shaken.serial for shaken in found.values()} == {serial_of(certificates.cert.read_bytes())}
    # At most at the one where it began.
    assert sum(shaken.resumed for shaken in found.values()) <= 1


async def test_openssl_resumes_too(stage: Stage, certificates: Certificates, tmp_path: Path) -> None:
    await start(stage, tls_settings(certificates))
    kept = tmp_path / "session.pem"
    for version in ("-tls1_2", "-tls1_3"):
        kept.unlink(missing_ok=True)
        first = await s_client(stage.address, version, "-sess_out", str(kept))
        assert "New, TLSv1" in first
        assert kept.exists()
        again = [await s_client(stage.address, version, "-sess_in", str(kept)) for _ in range(3 * WORKERS)]
        assert all("Reused, TLSv1" in said for said in again)
    said = await s_client(stage.address, "-tls1_2", "-reconnect")
    assert said.count("Reused, TLSv1.2") == 5


async def s_client(address: str, *options: str) -> str:
    """What `openssl s_client` says of one request."""
    command = ["openssl", "s_client", "-connect", address, "-servername", "localhost", "-ign_eof", *options]
    request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    done = await asyncio.to_thread(
        subprocess.run, command, input=request, capture_output=True, text=True, timeout=30, check=False
    )
    return str(done.stdout)
