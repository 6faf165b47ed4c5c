"""Certificates change under a running vsproxy: every worker has the new one soon, and nobody a bad one."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.certificates import Certificates, make_certificates
from support.family import kill, replaced
from support.proxies import ProxyProcess, Settings
from support.scrape import Scrape, scrape, scrape_until
from support.shaking import V13, anyone, serial_of, shake
from support.stage import Stage

ADMIN = {"bind": "127.0.0.1:0"}
WORKERS = 2
#: Handshakes that meet every worker: that all but one in a million runs do.
MANY = 20
#: Seconds in which a new certificate is used, on a busy machine.
SOON = 20.0


def serial(certificates: Certificates) -> int:
    return serial_of(certificates.cert.read_bytes())


async def seen(address: str, name: str = "localhost") -> set[int | None]:
    """The certificates that workers show for a name."""
    return {(await shake(address, anyone(V13), name)).serial for _ in range(MANY)}


async def until_seen(address: str, wanted: int, name: str = "localhost") -> None:
    """Wait until every worker shows this certificate."""
    found: set[int | None] = set()
    try:
        async with asyncio.timeout(SOON):
            while (found := await seen(address, name)) != {wanted}:
                pass
    except TimeoutError:
        raise AssertionError(f"{found}, not {wanted}, within {SOON} s") from None


def put(used: Certificates, new: Certificates, *parts: str) -> None:
    """New files in the place of the old ones, as careful programs put them there."""
    for part in parts or ("cert", "key"):
        copy = getattr(used, part).with_suffix(".new")
        copy.write_bytes(getattr(new, part).read_bytes())
        copy.replace(getattr(used, part))


async def start(stage: Stage, *listeners: Settings) -> ProxyProcess:
    return await stage.process(
        await stage.server(),
        listeners=[{"bind": "127.0.0.1:0", **listener} for listener in listeners],
        proxy={"workers": WORKERS, "shutdown_timeout": "1s"},
        admin=ADMIN,
    )


def has_refused(*files: Path) -> Callable[[Scrape], bool]:
    return lambda found: all(
        found.values("vsproxy_certificate_changes_total", certificate=str(file), result="refused") == [1]
        for file in files
    )


def up_to_date(found: Scrape, certificates: Certificates) -> float:
    return found.value("vsproxy_certificate_up_to_date", certificate=str(certificates.cert))


def changes(found: Scrape, certificates: Certificates) -> tuple[float, float]:
    """Taken, refused."""
    name, file = "vsproxy_certificate_changes_total", str(certificates.cert)
    ok, refused = (found.value(name, certificate=file, result=result) for result in ("ok", "refused"))
    return ok, refused


@pytest.fixture
def used(tmp_path: Path) -> Certificates:
    """The pair in use."""
    return make_certificates(tmp_path / "used")


@pytest.fixture
def renewed(tmp_path: Path) -> Certificates:
    """What comes in its place."""
    return make_certificates(tmp_path / "renewed", days=500)


async def test_every_worker_has_a_new_one_without_a_reload(
    stage: Stage, used: Certificates, renewed: Certificates
) -> None:
    process = await start(stage, {"tls": used.settings}, {"tls": used.settings})
    kept = await asyncio.open_connection(*_host_port(process.addresses[0]), ssl=anyone())
    client = anyone(V13)
    session = (await shake(process.addresses[0], client)).session
    put(used, renewed)
    for address in process.addresses:
        await until_seen(address, serial(renewed))
    # Who was there is not disturbed, and who was there before need not begin anew.
    kept[1].write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    head = await kept[0].readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close" not in head.lower()
    kept[1].close()
    assert all([(await shake(process.addresses[0], client, session=session)).resumed for _ in range(MANY)])
    await process.wait_for_line("a new certificate is in use, until ")
    found = await scrape_until(process, lambda found: changes(found, used) == (1, 0))
    assert up_to_date(found, used) == 1
    expiries = found.values("vsproxy_certificate_expiry_timestamp_seconds", certificate=str(used.cert))
    assert len(expiries) == 2
    assert set(expiries) == set(found.values("vsproxy_listener_certificate_expiry_timestamp_seconds"))
    assert expiries[0] - found.at > 400 * 86400
    assert len([line for line in process.log if "a new certificate is in use" in line]) == 1
    # Whoever is born has it too.
    victim = process.workers[0]
    kill(victim)
    await replaced(process, victim, WORKERS)
    assert await seen(process.addresses[0]) == {serial(renewed)}


def _host_port(address: str) -> tuple[str, int]:
    host, port = address.split(":")
    return host, int(port)


async def test_a_directory_that_is_swapped_by_a_link(
    stage: Stage, tmp_path: Path, used: Certificates, renewed: Certificates
) -> None:
    """As Kubernetes does with a secret."""
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "..data").symlink_to(used.cert.parent)
    links = {}
    for key, name in (("cert", "server.pem"), ("key", "server.key")):
        (volume / name).symlink_to(Path("..data") / name)
        links[key] = str(volume / name)
    process = await start(stage, {"tls": links})
    assert await seen(process.address) == {serial(used)}
    (volume / "..data_tmp").symlink_to(renewed.cert.parent)
    (volume / "..data_tmp").rename(volume / "..data")
    await until_seen(process.address, serial(renewed))


async def test_a_bad_one_is_refused_and_does_not_hold_up_another(
    stage: Stage, tmp_path: Path, used: Certificates, renewed: Certificates
) -> None:
    shop, new_shop = [make_certificates(tmp_path / name, "shop.example", only=True) for name in ("shop", "new")]
    process = await start(stage, {"tls": {**used.settings, "certificates": [shop.settings]}})
    # Only now the last good one of these files is not the one that the supervisor began with.
    put(used, renewed)
    await until_seen(process.address, serial(renewed))
    old_shop = serial(shop)
    put(used, new_shop, "key")
    shop.cert.write_bytes(new_shop.cert.read_bytes()[:200])
    found = await scrape_until(process, has_refused(used.cert, shop.cert))
    assert (changes(found, used), changes(found, shop)) == ((1, 1), (0, 1))
    assert (up_to_date(found, used), up_to_date(found, shop)) == (0, 0)
    put(shop, new_shop)
    await until_seen(process.address, serial(new_shop), "shop.example")
    found = await scrape_until(process, lambda found: up_to_date(found, shop) == 1)
    assert old_shop != serial(new_shop)
    assert (changes(found, used), changes(found, shop)) == ((1, 1), (1, 1))
    assert up_to_date(found, used) == 0
    # Whoever is born meanwhile cannot read it either, and has what the others have.
    for victim in (process.workers[1], process.control):
        kill(victim)
        await replaced(process, victim, WORKERS)
    assert await seen(process.address) == {serial(renewed)}
    assert await seen(process.address, "shop.example") == {serial(new_shop)}
    # Two looks later: what was said and counted is not said and counted again.
    put(shop, used, "cert")
    found = await scrape_until(process, lambda found: changes(found, shop)[1] == 2)
    assert changes(found, used) == (1, 1)
    refusals = [line for line in process.log if "a new certificate is refused, the old one stays: " in line]
    assert len(refusals) == 3
    assert f"{used.key}: the private key does not belong to the certificate in {used.cert}" in "".join(refusals)
    assert {line.split()[2] for line in refusals} == {"[control"}


async def test_a_reload_and_a_new_one_at_once_end_with_what_is_in_the_files(
    stage: Stage, tmp_path: Path, used: Certificates
) -> None:
    process = await start(stage, {"tls": used.settings})
    last = used
    for turn in range(6):
        last = make_certificates(tmp_path / str(turn))
        put(used, last)
        # Refused where it reads the one file before the other is there, which is as good.
        await process.reload()
    await until_seen(process.address, serial(last))
    assert (await process.reload())["ok"]
    assert await seen(process.address) == {serial(last)}


async def test_the_end_of_each_is_told_at_start(stage: Stage, tmp_path: Path) -> None:
    soon, later, over = [make_certificates(tmp_path / f"{days}", days=days) for days in (20, 22, -0.01)]
    tls = {**later.settings, "certificates": [soon.settings, over.settings]}
    process = await start(stage, {"tls": tls}, {"tls": tls})
    await process.wait_for_line("WARNING.* the certificate in .*20/server.pem expires in 19 days, on 20")
    await process.wait_for_line("WARNING.* the certificate in .*-0.01/server.pem has expired on 20")
    found = await scrape(process)
    metric = "vsproxy_certificate_expiry_timestamp_seconds"
    labels: list[dict[str, Any]] = [dict(labels) for name, labels in found.samples if name == metric]
    wanted = {(listener, str(one.cert)) for listener in process.addresses for one in (soon, later, over)}
    assert {(one["listener"], one["certificate"]) for one in labels} == wanted
    assert found.value("vsproxy_listener_certificate_expiry_timestamp_seconds", listener=process.address) < found.at
    assert len([line for line in process.log if "the certificate in " in line]) == 2


async def test_a_name_that_is_not_ascii_is_refused_without_a_word(
    stage: Stage, tmp_path: Path, used: Certificates
) -> None:
    other = make_certificates(tmp_path / "other", "shop.example", only=True)
    process = await start(stage, {"tls": {**used.settings, "certificates": [other.settings]}})
    client = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = anyone().wrap_bio(*client, server_hostname="aaaaaaaa.example")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    hello = client[1].read().replace(b"aaaaaaaa", b"\xff\xfe\x80aaaaa")
    reader, writer = await asyncio.open_connection(*_host_port(process.address))
    writer.write(hello)
    # A fatal alert, and the end.
    assert (await reader.read())[:1] == b"\x15"
    writer.close()
    await scrape_until(process, lambda found: found.values("vsproxy_listener_tls_failures_total") == [1])
    assert await seen(process.address, "shop.example") == {serial(other)}
    assert not [line for line in process.log if "Error" in line or "Traceback" in line]
