"""Several certificates on a listener, told apart by real clients; a proxy in a program watches its files too."""

from __future__ import annotations

import asyncio
import errno
import re
import ssl
from pathlib import Path

import pytest

from support.certificates import Certificates, make_certificates
from support.proxies import Settings, eventually, settings
from support.shaking import V13, anyone, serial_of, shake
from support.stage import Stage
from vsproxy import Config, Proxy, tls
from vsproxy.tls_pair import Pair

#: Seconds in which a new certificate is used, on a busy machine.
SOON = 20.0


@pytest.fixture
def main(tmp_path: Path) -> Certificates:
    """For localhost."""
    return make_certificates(tmp_path / "main")


def tls_of(*certificates: Certificates, **settings: object) -> Settings:
    first, *more = (one.settings for one in certificates)
    return {**first, "certificates": more, **settings}


async def run(*command: str, text: str = "") -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate(text.encode())
    assert process.returncode is not None
    return process.returncode, output.decode(errors="replace")


def serial(certificates: Certificates) -> int:
    return serial_of(certificates.cert.read_bytes())


async def shown(proxy: Proxy, name: str = "localhost") -> int | None:
    return (await shake(proxy.addresses[0], anyone(V13), name)).serial


async def until_shown(proxy: Proxy, wanted: int, name: str = "localhost") -> None:
    async with asyncio.timeout(SOON):
        while await shown(proxy, name) != wanted:
            await asyncio.sleep(0.05)


async def test_curl_finds_the_certificate_of_each_name(stage: Stage, tmp_path: Path, main: Certificates) -> None:
    """It checks the name, and trusts only the one authority."""
    shop = make_certificates(tmp_path / "shop", "shop.example", "münchen.example".encode("idna").decode(), only=True)
    wild = make_certificates(tmp_path / "wild", "*.shop.example", only=True)
    proxy = await stage.proxy(await stage.server(), listener={"tls": tls_of(main, wild, shop)})
    host, port = proxy.addresses[0].split(":")
    for name, trusted in (
        ("localhost", main),
        ("shop.example", shop),
        ("SHOP.example", shop),
        ("xn--mnchen-3ya.example", shop),
        ("a.shop.example", wild),
    ):
        place = ("--connect-to", f"{name}:{port}:{host}:{port}")
        status, said = await run("curl", "-sS", *place, "--cacert", str(trusted.ca), f"https://{name}:{port}/")
        assert (status, said) == (0, "server1"), name
    # A wildcard stands for one label: who asks for two gets the default, which is not for that name.
    place = ("--connect-to", f"b.a.shop.example:{port}:{host}:{port}")
    status, said = await run(
        "curl", "-sS", *place, "--cacert", str(main.ca), f"https://b.a.shop.example:{port}/"
    )
    assert status == 60, said
    # Without a name.
    status, said = await run("curl", "-sS", "--cacert", str(main.ca), f"https://{host}:{port}/")
    assert (status, said) == (0, "server1")


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
async def test_openssl_gets_the_key_that_it_asks_for(
    stage: Stage, tmp_path: Path, main: Certificates, version: str
) -> None:
    rsa = make_certificates(tmp_path / "rsa", rsa=True)
    proxy = await stage.proxy(await stage.server(), listener={"tls": tls_of(main, rsa)})
    for algorithm, kind, trusted in (("RSA-PSS+SHA256", "RSA-PSS", rsa), ("ECDSA+SHA256", "ECDSA", main)):
        for name in (("-servername", "localhost"), ("-noservername",)):
            _, said = await run(
                "openssl", "s_client", "-connect", proxy.addresses[0], version, "-sigalgs", algorithm,
                "-CAfile", str(trusted.ca), *name,
            )  # fmt: skip
            assert f"Peer signature type: {kind}" in said
            assert "Verify return code: 0 (ok)" in said


async def test_openssl_sees_settings_of_the_listener_with_every_name(
    stage: Stage, tmp_path: Path, main: Certificates
) -> None:
    shop = make_certificates(tmp_path / "shop", "shop.example", only=True)
    tls = tls_of(main, shop, ciphers="ECDHE-ECDSA-CHACHA20-POLY1305")
    proxy = await stage.proxy(await stage.server(), listener={"tls": tls})
    for name in ("localhost", "shop.example"):
        connect = ("openssl", "s_client", "-connect", proxy.addresses[0], "-servername", name)
        _, said = await run(*connect, "-tls1_2", "-alpn", "h2,http/1.1")
        assert re.search(r"^New, TLSv1.2, Cipher is ECDHE-ECDSA-CHACHA20-POLY1305$", said, re.MULTILINE)
        assert "ALPN protocol: h2" in said
        status, said = await run(*connect, "-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256")
        assert (status, "handshake failure" in said) == (1, True)
        status, said = await run(*connect, "-tls1_1", "-cipher", "ALL@SECLEVEL=0")
        assert status == 1


async def test_new_files_are_used_without_a_reload(stage: Stage, tmp_path: Path, main: Certificates) -> None:
    shop = make_certificates(tmp_path / "shop", "shop.example", only=True)
    new_main, new_shop = make_certificates(tmp_path / "a"), make_certificates(tmp_path / "b", "shop.example", only=True)
    proxy = await stage.proxy(await stage.server(), listener={"tls": tls_of(main, shop)})
    client = anyone(V13)
    session = (await shake(proxy.addresses[0], client)).session
    # Only half of the first, all of the second.
    main.cert.write_bytes(new_main.cert.read_bytes())
    for old, new in zip(shop.files, new_shop.files, strict=True):
        Path(old).write_bytes(Path(new).read_bytes())
    await until_shown(proxy, serial(new_shop), "shop.example")
    await eventually(lambda: proxy.certificates[str(main.cert)].refused, SOON, what="the refusal")
    assert await shown(proxy) != serial(new_main)
    main.key.write_bytes(new_main.key.read_bytes())
    await until_shown(proxy, serial(new_main))
    assert await shown(proxy, "shop.example") == serial(new_shop)
    assert (await shake(proxy.addresses[0], client, session=session)).resumed
    assert {file: counts[:2] for file, counts in proxy.certificates.items()} == {
        str(main.cert): (1, 1),
        str(shop.cert): (1, 0),
    }


async def test_a_new_one_that_there_is_no_room_for_is_tried_again(
    stage: Stage, tmp_path: Path, main: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = make_certificates(tmp_path / "new")
    proxy = await stage.proxy(await stage.server(), listener={"tls": tls_of(main)})
    old, load, tries = serial(main), tls.load, 0

    def full(context: ssl.SSLContext, pair: Pair) -> None:
        nonlocal tries
        tries += 1
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(tls, "load", full)
    for file, other in zip(main.files, new.files, strict=True):
        Path(file).write_bytes(Path(other).read_bytes())
    await eventually(lambda: tries >= 2, SOON, what="another try")
    assert await shown(proxy) == old
    monkeypatch.setattr(tls, "load", load)
    await until_shown(proxy, serial(new))
    assert proxy.certificates[str(main.cert)][:2] == (1, 0)


async def test_sessions_outlive_reloads_of_a_proxy_in_a_program(
    stage: Stage, tmp_path: Path, main: Certificates
) -> None:
    shop = make_certificates(tmp_path / "shop", "shop.example", only=True)
    config = settings(await stage.server(), listener={"tls": tls_of(main)})
    client = anyone(V13)

    def changed(*certificates: Certificates, **more: object) -> Config:
        listener = {**config["listeners"][0], "tls": tls_of(*certificates, **more)}
        return Config.model_validate({**config, "listeners": [listener]})

    async with Proxy(Config.model_validate(config)) as proxy:
        session = (await shake(proxy.addresses[0], client)).session
        for new in (changed(main, shop), changed(shop), changed(main)):
            await proxy.reload(new)
            assert (await shake(proxy.addresses[0], client, session=session)).resumed
        await proxy.reload(changed(main, min_version="1.3"))
        assert not (await shake(proxy.addresses[0], client, session=session)).resumed
        with pytest.raises(ssl.SSLError):
            await shake(proxy.addresses[0], anyone(ssl.TLSVersion.TLSv1_2))
