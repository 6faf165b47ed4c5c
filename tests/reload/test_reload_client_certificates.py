"""Who may come in changes with a reload: for new connections, and for sessions that were begun before."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path

import pytest

from support.authorities import Authority
from support.certificates import make_certificates
from support.http import request_bytes
from support.proxies import settings
from support.scrape import scrape_until
from support.stage import Stage


def ask(address: str, context: ssl.SSLContext, session: ssl.SSLSession | None = None) -> tuple[ssl.SSLSession, bool]:
    """One request of a blocking client: its session, and whether `session` was resumed. Raises ssl.SSLError."""
    host, port = address.split(":")
    with socket.create_connection((host, int(port)), 20) as plain:
        with context.wrap_socket(plain, server_hostname="localhost", session=session) as tls:
            tls.sendall(request_bytes())
            data = b""
            while b"server1" not in data:
                more = tls.recv(65536)
                assert more
                data += more
            assert tls.session is not None
            return tls.session, bool(tls.session_reused)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_new_list_ends_the_sessions_of_who_is_revoked(
    stage: Stage, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    own = make_certificates(tmp_path / "own")
    authority = Authority(tmp_path / "clients")
    alice, bob = authority.issue("alice"), authority.issue("bob")
    lists = tmp_path / "lists.pem"
    lists.write_bytes(authority.revocation_list())
    tls = {"cert": str(own.cert), "key": str(own.key), "client_ca": str(authority.file), "client_crl": str(lists)}
    admin = {"bind": "127.0.0.1:0"}
    config = settings(await stage.server(), listener={"tls": tls}, proxy={"workers": 2}, admin=admin)
    process = await stage.run(config)
    contexts = [pair.context(own.ca) for pair in (alice, bob)]
    for context in contexts:
        context.minimum_version = context.maximum_version = version
    sessions = [(await asyncio.to_thread(ask, stage.address, context))[0] for context in contexts]
    assert (await asyncio.to_thread(ask, stage.address, contexts[0], sessions[0]))[1]
    lists.write_bytes(authority.revocation_list([alice]))
    assert (await process.reload())["ok"]
    for session in (sessions[0], None):
        with pytest.raises(ssl.SSLError, match="ALERT_CERTIFICATE_REVOKED"):
            await asyncio.to_thread(ask, stage.address, contexts[0], session)
    assert not (await asyncio.to_thread(ask, stage.address, contexts[1], sessions[1]))[1]
    await scrape_until(
        process,
        lambda found: found.values("vsproxy_listener_client_certificates_refused_total", reason="revoked") == [2],
    )
    # A list that cannot be read changes nothing.
    lists.write_bytes(b"nonsense")
    answer = await process.reload()
    assert not answer["ok"]
    assert str(lists) in "".join(answer["problems"])
    await asyncio.to_thread(ask, stage.address, contexts[1])


async def test_a_listener_begins_and_ceases_to_ask(stage: Stage, tmp_path: Path) -> None:
    own = make_certificates(tmp_path / "own")
    authority = Authority(tmp_path / "clients")
    tls = {"cert": str(own.cert), "key": str(own.key)}
    config = settings(await stage.server(), listener={"tls": tls}, proxy={"workers": 2})
    process = await stage.run(config)
    context = own.client_context()
    session, _ = await asyncio.to_thread(ask, stage.address, context)
    [listener] = config["listeners"]
    config["listeners"] = [{**listener, "tls": {**tls, "client_ca": str(authority.file)}}]
    assert (await process.reload(config))["ok"]
    for old in (session, None):
        with pytest.raises(ssl.SSLError):
            await asyncio.to_thread(ask, stage.address, context, old)
    await asyncio.to_thread(ask, stage.address, authority.issue().context(own.ca))
    config["listeners"] = [listener]
    assert (await process.reload(config))["ok"]
    await asyncio.to_thread(ask, stage.address, context)
