"""TLS to servers: whom we trust, what we show and tell, sessions, checks, reloads."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import ssl
from pathlib import Path
from typing import Any

import pytest

from support.client import connect
from support.nginx import Nginx
from support.proxies import eventually, in_process, settings
from support.scrape import scrape_until
from support.stage import Stage
from support.tls_servers import Authority, ThreadedTls, TlsServer, read_head, server_context
from vsproxy import Config, Proxy


async def get(proxy: Proxy, method: str = "GET", body: bytes | None = None) -> int:
    """The status of one request on a connection of its own."""
    async with await connect(proxy.addresses[0]) as client:
        return (await client.request(method, body=body)).status


def of(proxy: Proxy, index: int = 0) -> Any:
    """A server of the pool."""
    return proxy.pools["main"].servers[index]


def tls_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "vsproxy.tls"]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca")


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("unknown CA", "certificate verify failed: unable to get local issuer certificate"),
        ("self-signed", "certificate verify failed: self-signed certificate"),
        ("wrong address", "certificate verify failed: IP address mismatch"),
        ("wrong name", "certificate verify failed: hostname mismatch"),
        ("expired", "certificate verify failed: certificate has expired"),
    ],
)
async def test_a_bad_certificate_is_a_failed_connect(
    case: str, reason: str, authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Another server gets the request; it is counted, and said once."""
    names = ("10.0.0.1",) if case == "wrong address" else ("127.0.0.1", "localhost")
    issuer = Authority(tmp_path / "other", "other CA") if case == "unknown CA" else authority
    bad = issuer.issue(*names, file="bad", expired=case == "expired", self_signed=case == "self-signed")
    good = authority.issue("127.0.0.1", "right.example", file="good")
    tls: dict[str, object] = {"ca": str(authority.ca)}
    if case == "wrong name":
        tls["server_name"] = "right.example"
    async with TlsServer(server_context(bad)) as first, TlsServer(server_context(good)) as second:
        pool = {"tls": tls, "max_fails": 0}
        with caplog.at_level(logging.WARNING):
            async with in_process(settings(first.address, second.address, pool=pool)) as proxy:
                assert [await get(proxy) for _ in range(6)] == [200] * 6
                tried = of(proxy).failures["connect"]
                assert tried >= 3
                assert (of(proxy).tls_failures, of(proxy).tls_handshakes) == (tried, 0)
                assert of(proxy, 1).failures == {}
                # What may have no effect twice goes on to the other as well: nothing was sent.
                assert [await get(proxy, "POST", b"x") for _ in range(2)] == [200] * 2
        assert not first.heads
        assert len(second.heads) == 8
    (line,) = tls_lines(caplog)
    assert line.startswith(f"pool main: no TLS with {first.address} ({first.address}): {reason}")


async def test_only_bad_servers_are_a_502(authority: Authority) -> None:
    async with TlsServer(server_context(authority.issue("127.0.0.1", self_signed=True))) as server:
        async with in_process(settings(server.address, pool={"tls": True})) as proxy:
            assert await get(proxy) == 502
        assert not server.heads


async def test_without_verification_any_certificate_will_do(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    pair = authority.issue("other.example", self_signed=True, expired=True)
    async with TlsServer(server_context(pair)) as server:
        with caplog.at_level(logging.WARNING):
            async with in_process(settings(server.address, pool={"tls": {"verify": False}})) as proxy:
                assert await get(proxy) == 200
    assert [record.getMessage() for record in caplog.records] == [
        "pool main: nobody looks whose certificates its servers show (tls.verify = false)"
    ]


async def test_the_name_that_a_server_is_told(authority: Authority) -> None:
    """As configured, without port; an address is none; `server_name` is told whatever the address is."""
    pair = authority.issue("localhost", "127.0.0.1", "site.example")
    async with TlsServer(server_context(pair)) as server:
        for address, tls in (
            (f"localhost:{server.port}", {}),
            (server.address, {}),
            (server.address, {"server_name": "Site.Example."}),
        ):
            pool = {"tls": {"ca": str(authority.ca), **tls}}
            config = settings(address, pool=pool, resolver={"addresses": "ipv4"}, route={"upstream_host": "server"})
            async with in_process(config) as proxy:
                assert await get(proxy) == 200
        assert [shown.sni for shown in server.shown] == ["localhost", None, "site.example"]
        assert {shown.alpn for shown in server.shown} == {"http/1.1"}
        hosts = [head.partition(b"Host: ")[2].partition(b"\r\n")[0].decode() for head in server.heads]
        assert hosts == [f"localhost:{server.port}", server.address, server.address]


async def test_what_clients_speak_is_what_servers_are_told(authority: Authority, tmp_path: Path) -> None:
    """X-Forwarded-Proto is about the client's side."""
    pair = authority.issue("127.0.0.1", "localhost")
    async with TlsServer(server_context(pair)) as server:
        files = {"cert": str(pair.cert), "key": str(pair.key)}
        listeners = [{"bind": "127.0.0.1:0"}, {"bind": "127.0.0.1:0", "tls": files}]
        pool = {"tls": {"ca": str(authority.ca)}}
        async with in_process({**settings(server.address, pool=pool), "listeners": listeners}) as proxy:
            assert await get(proxy) == 200
            context = ssl.create_default_context(cafile=str(authority.ca))
            host, _, port = proxy.addresses[1].rpartition(":")
            reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert (await reader.read()).startswith(b"HTTP/1.1 200")
            writer.close()
        assert [b"X-Forwarded-Proto: http\r\n" in head for head in server.heads] == [True, False]
        assert b"X-Forwarded-Proto: https\r\n" in server.heads[1]


@pytest.mark.parametrize("version", ["1.2", "1.3"])
async def test_a_certificate_of_our_own(
    version: str, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    pair = authority.issue("127.0.0.1")
    own = authority.issue("vsproxy.example", file="own", client=True)
    context = server_context(pair, client_ca=authority.ca, version=version)
    tls = {"ca": str(authority.ca), "cert": str(own.cert), "key": str(own.key)}
    async with TlsServer(context) as server:
        async with in_process(settings(server.address, pool={"tls": tls})) as proxy:
            assert await get(proxy) == 200
        assert server.shown[0].subject == "vsproxy.example"
    with ThreadedTls(context, read_head) as demanding, caplog.at_level(logging.WARNING):
        async with in_process(settings(demanding.address, pool={"tls": {"ca": str(authority.ca)}})) as proxy:
            assert await get(proxy) == 502
            assert of(proxy).tls_failures == sum(of(proxy).failures.values()) > 0
    (line,) = tls_lines(caplog)
    assert re.search("TLS: .*alert (certificate required|handshake failure)", line)


async def test_an_old_version_is_refused(authority: Authority, caplog: pytest.LogCaptureFixture) -> None:
    with ThreadedTls(server_context(authority.issue("127.0.0.1"), version="1.2"), read_head) as server:
        tls = {"ca": str(authority.ca), "min_version": "1.3"}
        async with in_process(settings(server.address, pool={"tls": tls})) as proxy:
            assert await get(proxy) == 502
    assert "protocol version" in tls_lines(caplog)[0]


async def test_a_server_that_speaks_no_tls(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    server = await stage.server(on_connect=lambda peer: peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
    proxy = await stage.proxy(server, pool={"tls": True})
    assert (await stage.get()).status == 502
    assert "does the server speak TLS there?" in tls_lines(caplog)[0]
    assert of(proxy).failures["connect"] > 0


@pytest.mark.parametrize("version", ["1.2", "1.3"])
async def test_sessions_are_resumed(version: str, authority: Authority, stage: Stage) -> None:
    async with TlsServer(server_context(authority.issue("127.0.0.1"), version=version)) as server:
        pool = {"tls": {"ca": str(authority.ca)}, "keepalive": 0}
        proxy = await stage.proxy(server.address, pool=pool, admin={"bind": "127.0.0.1:0"})
        assert [await get(proxy) for _ in range(4)] == [200] * 4
        assert [shown.resumed for shown in server.shown] == [False, True, True, True]
        found = await scrape_until(proxy, lambda found: found.value("vsproxy_server_tls_handshakes_total") == 4)
        assert found.value("vsproxy_server_tls_resumed_total") == 3
        assert found.value("vsproxy_server_tls_failures_total") == 0


@pytest.mark.parametrize("kind", ["http", "tcp"])
def test_the_standard_loop_will_do(kind: str, authority: Authority) -> None:
    """As the command's tests show for uvloop: verified, kept, resumed, checked."""

    async def use() -> None:
        async with TlsServer(server_context(authority.issue("127.0.0.1"))) as server:
            health = {"type": kind, "inter": "50ms", "timeout": "5s"}
            for keepalive in (0, 8):
                pool = {"tls": {"ca": str(authority.ca)}, "keepalive": keepalive, "health": health}
                async with in_process(settings(server.address, pool=pool)) as proxy:
                    await eventually(lambda: of(proxy).state_name == "up", 10.0)
                    assert [await get(proxy) for _ in range(3)] == [200] * 3
                    assert (of(proxy).tls_handshakes > 1, of(proxy).tls_resumed > 0) == (not keepalive, not keepalive)
                    assert await get(proxy, "PUT", b"x" * 1_000_000) == 200
            async with in_process(settings(server.address, pool={"tls": True, "health": health})) as proxy:
                await eventually(lambda: of(proxy).state_name == "down", 10.0)
                assert "certificate verify failed" in of(proxy).last_check

    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        runner.run(use())


async def test_a_session_that_the_server_has_forgotten(authority: Authority) -> None:
    pair = authority.issue("127.0.0.1")
    async with TlsServer(server_context(pair)) as server:
        pool = {"tls": {"ca": str(authority.ca)}, "keepalive": 0}
        async with in_process(settings(server.address, pool=pool)) as proxy:
            assert await get(proxy) == 200
            # Another context has other keys for its tickets.
            async with TlsServer(server_context(pair)) as other:
                await server.stop()
                of(proxy).port = other.port
                assert [await get(proxy) for _ in range(2)] == [200] * 2
                assert [shown.resumed for shown in other.shown] == [False, True]


async def test_connections_are_kept_and_used_again(authority: Authority) -> None:
    async with TlsServer(server_context(authority.issue("127.0.0.1"))) as server:
        async with in_process(settings(server.address, pool={"tls": {"ca": str(authority.ca)}})) as proxy:
            assert [await get(proxy) for _ in range(20)] == [200] * 20
            # It has earned that.
            assert [await get(proxy, "POST", b"x" * size) for size in (1, 10_000, 200_000)] == [200] * 3
            assert len(of(proxy).idle) == 1
        assert len(server.shown) == 1
        assert len(server.heads) == 23


@pytest.mark.parametrize("goodbye", [True, False])
async def test_a_connection_that_the_server_has_closed_is_not_used(authority: Authority, goodbye: bool) -> None:
    """With close_notify or without."""

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await writer.drain()
        if goodbye:
            writer.close()
        else:
            writer.transport.abort()

    async with TlsServer(server_context(authority.issue("127.0.0.1")), once) as server:
        async with in_process(settings(server.address, pool={"tls": {"ca": str(authority.ca)}})) as proxy:
            for number in range(1, 9):
                assert await get(proxy) == 200
                await eventually(lambda: not of(proxy).idle, what="the end of the idle connection")
                assert len(server.shown) == number
            assert of(proxy).failures == {}


async def test_posts_are_not_lost_where_connections_are_cut_all_the_time(authority: Authority) -> None:
    """Each is answered, or it never reached the server: no connection that may be about to end gets one."""
    seen: list[bytes] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
        seen.append(head)
        if b"Content-Length: 1\r\n" in head:
            await reader.readexactly(1)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        if len(seen) % 3 == 0:
            await writer.drain()
            writer.close()

    async with TlsServer(server_context(authority.issue("127.0.0.1")), script) as server:
        async with in_process(settings(server.address, pool={"tls": {"ca": str(authority.ca)}})) as proxy:
            assert [await get(proxy, "POST", b"x") for _ in range(60)] == [200] * 60
    assert len(seen) == 60


async def test_checks_go_through_tls(authority: Authority, stage: Stage) -> None:
    good, bad = authority.issue("127.0.0.1"), authority.issue("10.0.0.1", file="bad")
    async with TlsServer(server_context(good)) as first, TlsServer(server_context(bad)) as second:
        for kind in ("http", "tcp"):
            pool = {"tls": {"ca": str(authority.ca)}, "health": {"type": kind, "inter": "50ms", "timeout": "5s"}}
            async with in_process(settings(first.address, second.address, pool=pool)) as proxy:
                await eventually(lambda: of(proxy).state_name == "up", 10.0)
                await eventually(lambda: of(proxy, 1).state_name == "down", 10.0)
                assert "certificate verify failed: IP address mismatch" in of(proxy, 1).last_check
                assert of(proxy).last_check == ("status 200" if kind == "http" else "accepts connections")
        assert any(head.startswith(b"GET / HTTP/1.1\r\nHost: 127.0.0.1:") for head in first.heads)
        assert not second.heads


async def test_checks_follow_a_server_that_gets_a_good_certificate(authority: Authority) -> None:
    bad, good = authority.issue("10.0.0.1", file="bad"), authority.issue("127.0.0.1")
    health = {"inter": "50ms", "timeout": "5s", "rise": 1, "fall": 1}
    server = TlsServer(server_context(bad))
    await server.start()
    async with in_process(
        settings(server.address, pool={"tls": {"ca": str(authority.ca)}, "health": health})
    ) as proxy:
        await eventually(lambda: of(proxy).state_name == "down", 10.0)
        await server.stop()
        async with TlsServer(server_context(good), port=server.port):
            await eventually(lambda: of(proxy).state_name == "up", 10.0)
            assert await get(proxy) == 200


async def test_checks_may_go_without_tls(authority: Authority, stage: Stage) -> None:
    plain = await stage.server(health=True)
    async with TlsServer(server_context(authority.issue("127.0.0.1"))) as server:
        health = {"path": "/health", "port": plain.port, "tls": False, "inter": "50ms", "timeout": "5s"}
        proxy = await stage.proxy(server.address, pool={"tls": {"ca": str(authority.ca)}, "health": health})
        await eventually(lambda: of(proxy).state_name == "up", 10.0)
        assert plain.checks > 0
        assert (await stage.get()).status == 200
        assert len(server.heads) == 1


async def test_recovery_goes_through_tls(authority: Authority) -> None:
    """A server with a bad certificate accepts connections, which is not enough to be up again."""
    bad, good = authority.issue("10.0.0.1", file="bad"), authority.issue("127.0.0.1")
    server = TlsServer(server_context(bad))
    await server.start()
    pool = {"tls": {"ca": str(authority.ca)}, "max_fails": 1, "fail_window": "50ms"}
    async with in_process(settings(server.address, pool=pool)) as proxy:
        assert await get(proxy) == 502
        await eventually(lambda: "certificate verify failed" in of(proxy).last_check, 10.0)
        assert of(proxy).state_name == "down"
        await server.stop()
        async with TlsServer(server_context(good), port=server.port):
            await eventually(lambda: of(proxy).state_name == "up", 10.0)
            assert await get(proxy) == 200


async def test_a_reload_with_other_settings_leaves_old_connections_alone(authority: Authority) -> None:
    """Idle ones are closed, and one that is in use at that time is not kept after it."""
    go = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
        if head.startswith(b"GET /wait"):
            await go.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    pair = authority.issue("127.0.0.1", "a.example", "b.example")

    def config(name: str) -> dict[str, Any]:
        return settings(server.address, pool={"tls": {"ca": str(authority.ca), "server_name": name}})

    async with TlsServer(server_context(pair), script) as server:
        async with in_process(config("a.example")) as proxy:
            async with await connect(proxy.addresses[0]) as client:
                waiting = asyncio.create_task(client.request(target="/wait"))
                await eventually(lambda: len(server.heads) == 1)
                assert await get(proxy) == 200
                assert len(of(proxy).idle) == 1
                await proxy.reload(Config.model_validate(config("a.example")))
                assert len(of(proxy).idle) == 1
                await proxy.reload(Config.model_validate(config("b.example")))
                assert len(of(proxy).idle) == 0
                go.set()
                assert (await waiting).status == 200
                assert len(of(proxy).idle) == 0
            assert await get(proxy) == 200
            # Neither is a session of the old settings.
            assert [(shown.sni, shown.resumed) for shown in server.shown] == [
                ("a.example", False),
                ("a.example", False),
                ("b.example", False),
            ]


async def test_from_plain_to_tls_and_back(authority: Authority, stage: Stage) -> None:
    plain = await stage.server()
    pair = authority.issue("127.0.0.1")
    proxy = await stage.proxy(plain, pool={"keepalive": 4})
    assert (await stage.get()).body == b"server1"
    async with TlsServer(server_context(pair)) as server:
        of(proxy).port = server.port
        secure = settings(plain, pool={"keepalive": 4, "tls": {"ca": str(authority.ca)}})
        await proxy.reload(Config.model_validate(secure))
        assert (await stage.get()).body == b"hello"
        of(proxy).port = plain.port
        await proxy.reload(Config.model_validate(settings(plain, pool={"keepalive": 4})))
        assert (await stage.get()).body == b"server1"


async def test_a_reload_reads_the_files_anew(authority: Authority, stage: Stage, tmp_path: Path) -> None:
    """In processes: with the same file, the same names of files, and other contents of one."""
    other = Authority(tmp_path / "other", "other CA")
    ca = tmp_path / "trusted.pem"
    ca.write_bytes(other.ca.read_bytes())
    async with TlsServer(server_context(authority.issue("127.0.0.1"))) as server:
        pool = {"tls": {"ca": str(ca)}, "max_fails": 0}
        process = await stage.process(server.address, pool=pool, admin={"bind": "127.0.0.1:0"})
        assert (await stage.get()).status == 502
        await process.wait_for_line("no TLS with .* certificate verify failed")
        ca.write_bytes(authority.ca.read_bytes())
        assert (await process.reload())["ok"]
        assert (await stage.get()).status == 200
        ca.write_text("nothing\n")
        refusal = await process.reload()
        assert not refusal["ok"]
        assert str(ca) in str(refusal)
        assert (await stage.get()).status == 200
        found = await scrape_until(
            process, lambda found: found.values("vsproxy_server_tls_handshakes_total") == [1]
        )
        assert found.value("vsproxy_server_tls_failures_total") >= 1


async def test_files_are_followed(authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without a reload; what is unusable is told of, once, and what was there goes on."""
    other = Authority(tmp_path / "other", "other CA")
    ca = tmp_path / "trusted.pem"
    ca.write_bytes(other.ca.read_bytes())
    async with TlsServer(server_context(authority.issue("127.0.0.1"))) as server:
        pool = {"tls": {"ca": str(ca)}, "max_fails": 0, "health": {"inter": "50ms", "timeout": "5s", "rise": 1}}
        async with in_process(settings(server.address, pool=pool)) as proxy:
            await eventually(lambda: of(proxy).state_name == "down", 10.0)
            replace(ca, authority.ca.read_bytes())
            await eventually(lambda: of(proxy).state_name == "up", 20.0)
            assert await get(proxy) == 200
            assert len(of(proxy).idle) == 1
            caplog.clear()
            replace(ca, b"nothing\n")
            complaints = await eventually(lambda: tls_lines(caplog), 20.0)
            assert complaints == [f"pool main: TLS goes on with what it had: {ca}: no usable certificate in PEM form"]
            assert len(of(proxy).idle) == 1
            assert await get(proxy) == 200
            replace(ca, other.ca.read_bytes())
            await eventually(lambda: not of(proxy).idle, 20.0)
            assert await get(proxy) == 502


def replace(file: Path, content: bytes) -> None:
    """At one stroke, as tools do that put new certificates in place."""
    fresh = file.with_suffix(".new")
    fresh.write_bytes(content)
    fresh.replace(file)


async def test_checks_in_processes_follow_the_files(authority: Authority, stage: Stage, tmp_path: Path) -> None:
    """Control checks with what the workers connect with; whoever is started again needs no file for that."""
    other = Authority(tmp_path / "other", "other CA")
    ca = tmp_path / "trusted.pem"
    ca.write_bytes(other.ca.read_bytes())
    async with TlsServer(server_context(authority.issue("127.0.0.1"))) as server:
        health = {"inter": "50ms", "timeout": "5s", "rise": 1}
        process = await stage.process(server.address, pool={"tls": {"ca": str(ca)}, "health": health})
        await process.wait_for_line("is down, was checking: check: certificate verify failed")
        ca.write_bytes(authority.ca.read_bytes())
        assert (await process.reload())["ok"]
        await process.wait_for_line("is up, was down")
        assert (await stage.get()).status == 200
        ca.unlink()
        worker = process.workers[0]
        os.kill(worker, signal.SIGKILL)
        await eventually(lambda: [pid for pid in process.workers if pid != worker], 20.0)

        async def served() -> bool:
            try:
                return (await stage.get()).status == 200
            except (AssertionError, OSError):
                return False

        async with asyncio.timeout(20.0):
            while not await served():
                await asyncio.sleep(0.05)


NGINX_TLS = """
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log stderr crit;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    ssl_certificate CERT;
    ssl_certificate_key KEY;
    ssl_client_certificate CA;
    ssl_verify_client optional;
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_session_cache shared:sessions:1m;
    server {{
        listen 127.0.0.1:{port} ssl;
        server_name one.example;
        location / {{ return 200 "$ssl_server_name $ssl_session_reused $ssl_client_verify $ssl_protocol"; }}
    }}
}}
"""


async def test_nginx_as_the_server(authority: Authority, tmp_path: Path) -> None:
    """What nginx says of the connection: name, resumption, our certificate."""
    pair = authority.issue("one.example")
    own = authority.issue("vsproxy.example", file="own", client=True)
    text = (
        NGINX_TLS.replace("CERT", str(pair.cert)).replace("KEY", str(pair.key)).replace("CA;", f"{authority.ca};")
    )
    tls = {"ca": str(authority.ca), "server_name": "one.example", "cert": str(own.cert), "key": str(own.key)}
    async with Nginx(tmp_path / "nginx", text) as nginx:
        async with in_process(settings(nginx.address, pool={"tls": tls, "keepalive": 0})) as proxy:
            said = []
            for _ in range(3):
                async with await connect(proxy.addresses[0]) as client:
                    said.append((await client.request()).body)
    assert said == [b"one.example . SUCCESS TLSv1.3", *[b"one.example r SUCCESS TLSv1.3"] * 2]
