"""Each alert of deploy/prometheus fires when a real proxy is in trouble, and not before.

The figures are the proxy's own, the verdict is that of Prometheus's rule engine.
"""

from __future__ import annotations

import asyncio
import datetime
import os
import re
import signal
from collections.abc import Callable, Iterable
from pathlib import Path

from support.authorities import Authority
from support.certificates import load_generator
from support.http import Request
from support.promtool import RULES, History, alerts, check_firing, needs_promtool, promtool
from support.proxies import entry
from support.scrape import Scrape, scrape, scrape_until
from support.scripts import Held
from support.server import Conversation, Script
from support.stage import Stage

pytestmark = needs_promtool

ADMIN = {"bind": "127.0.0.1:0"}
CHECKS = {"path": "/health", "inter": "20ms", "timeout": "5s", "fall": 1, "rise": 1}
HOUR = 60


class Story:
    """A proxy's figures from when the story began, and what is to be said of them."""

    def __init__(self, directory: Path, first: Scrape) -> None:
        self.history = History()
        self.history.went_on(first, first, 1)
        self._directory = directory
        self._last = first
        self._expected: dict[int, Iterable[str]] = {}

    def goes_on(self, now: Scrape, minutes: int, *firing: str) -> None:
        """What happened since the last scrape happens each minute for `minutes`; then exactly `firing` fire."""
        self.history.went_on(self._last, now, minutes)
        self._last = now
        self.expects(*firing)

    def expects(self, *firing: str) -> None:
        """Exactly these fire in the last minute so far."""
        self._expected[self.history.minutes - 1] = firing

    def check(self) -> None:
        """Fails if Prometheus sees it in another way."""
        check_firing(self._directory, self.history, self._expected)


async def requests(stage: Stage, count: int) -> None:
    """Requests one after the other on one connection."""
    client = await stage.connect()
    for _ in range(count):
        await client.request("GET", "/")


def answers(statuses: Iterable[int]) -> Script:
    """A script that answers with one status after the other."""
    left = iter(statuses)

    async def script(peer: Conversation, request: Request) -> None:
        await peer.respond(b"answer", next(left))

    return script


def servers_up(count: int) -> Callable[[Scrape], bool]:
    return lambda found: found.value("vsproxy_pool_servers", state="up") == count


def test_the_rules_are_sound() -> None:
    assert "SUCCESS" in promtool("check", "rules", str(RULES))


def test_every_alert_is_shown_here() -> None:
    named = set(re.findall(r'"([A-Z]\w+)"', Path(__file__).read_text()))
    assert set(alerts()) <= named


async def test_nothing_fires_while_all_is_well(stage: Stage, tmp_path: Path) -> None:
    servers = [await stage.server(health=True) for _ in range(2)]
    tls = make_tls(tmp_path, days=60)
    proxy = await stage.proxy(
        *servers,
        pool={"health": CHECKS},
        listeners=[{"bind": "127.0.0.1:0"}, {"bind": "127.0.0.1:0", "tls": tls}],
        log={"access": "json", "access_path": str(tmp_path / "access.log")},
        admin=ADMIN,
    )
    story = Story(tmp_path, await scrape_until(proxy, servers_up(2)))
    await requests(stage, 20)
    now = await scrape(proxy)
    assert now.value("vsproxy_pool_responses_total", code="2xx") == 20
    story.goes_on(now, 10)
    story.goes_on(now, 7 * HOUR)
    story.check()


def make_tls(directory: Path, days: float) -> dict[str, str]:
    """A certificate for so many days."""
    generator = load_generator()
    _, cert, key = generator.write(generator.issue(days=days), directory / "certs")
    return {"cert": str(cert), "key": str(key)}


async def test_servers_that_die(stage: Stage, tmp_path: Path) -> None:
    first, second = [await stage.server(health=True) for _ in range(2)]
    proxy = await stage.proxy(first, second, pool={"health": CHECKS}, admin=ADMIN)
    story = Story(tmp_path, await scrape_until(proxy, servers_up(2)))
    await first.stop()
    now = await scrape_until(proxy, servers_up(1))
    story.goes_on(now, 1)
    story.goes_on(now, 5, "InstanceDown", "LastReplica")
    await second.stop()
    now = await scrape_until(proxy, servers_up(0))
    story.goes_on(now, 1, "InstanceDown")
    story.goes_on(now, 5, "InstanceDown", "AllReplicasDown")
    await first.start()
    await second.start()
    story.goes_on(await scrape_until(proxy, servers_up(2)), 5)
    story.check()


async def test_servers_in_maintenance_are_no_alarm(stage: Stage, tmp_path: Path) -> None:
    servers = [await stage.server() for _ in range(3)]
    proxy = await stage.proxy(servers[0], servers[1], entry(servers[2], state="maint"), admin=ADMIN)
    first = await scrape(proxy)
    assert first.value("vsproxy_pool_servers", state="maint") == 1
    story = Story(tmp_path, first)
    story.goes_on(await scrape(proxy), 10)
    story.check()


async def test_a_queue_that_builds(stage: Stage, tmp_path: Path) -> None:
    held = Held()
    server = await stage.server(held)
    proxy = await stage.proxy(
        entry(server, max_connections=1), pool={"queue_timeout": "3s"}, admin=ADMIN
    )
    story = Story(tmp_path, await scrape(proxy))
    asking = [asyncio.create_task(stage.get()) for _ in range(3)]
    queued = await scrape_until(proxy, lambda found: found.value("vsproxy_pool_queued_exchanges") == 2)
    story.goes_on(queued, 2)
    story.goes_on(queued, 3, "QueueBuilds")
    timed_out = await scrape_until(proxy, lambda found: found.value("vsproxy_pool_queue_timeouts_total") == 2)
    held.release()
    assert sorted(answer.status for answer in await asyncio.gather(*asking)) == [200, 503, 503]
    story.goes_on(timed_out, 2, "QueueTimeouts")
    story.check()


async def test_errors_beyond_the_budget(stage: Stage, tmp_path: Path) -> None:
    one_in_a_hundred = [500, *[200] * 99]
    proxy = await stage.proxy(
        await stage.server(answers([*one_in_a_hundred, *[500] * 10, *[200] * 10])),
        pool={"max_fails": 0},
        admin=ADMIN,
    )
    story = Story(tmp_path, await scrape(proxy))
    await requests(stage, 100)
    now = await scrape(proxy)
    story.goes_on(now, 7 * HOUR, "ErrorBudgetBurnsSlowly")
    await requests(stage, 10)
    story.goes_on(await scrape(proxy), 10, "ErrorBudgetBurnsSlowly", "ErrorBudgetBurnsFast")
    await requests(stage, 10)
    now = await scrape(proxy)
    story.goes_on(now, 10, "ErrorBudgetBurnsSlowly")
    story.check()


async def test_answers_that_take_too_long(stage: Stage, tmp_path: Path) -> None:
    async def script(peer: Conversation, request: Request) -> None:
        if request.target == "/slow":
            await asyncio.sleep(1.05)  # beyond the second that the budget allows
        await peer.respond(b"answer")

    proxy = await stage.proxy(await stage.server(script), admin=ADMIN)
    story = Story(tmp_path, await scrape(proxy))
    await requests(stage, 9)
    await stage.get("/slow")
    story.goes_on(await scrape(proxy), 7 * HOUR, "LatencyBudgetBurnsSlowly")
    await asyncio.gather(*[stage.get("/slow") for _ in range(40)])
    story.goes_on(await scrape(proxy), 10, "LatencyBudgetBurnsSlowly", "LatencyBudgetBurnsFast")
    story.check()


async def test_a_certificate_that_expires(stage: Stage, tmp_path: Path) -> None:
    server = await stage.server()
    for days, firing in ((22, ()), (20, ("CertificateExpires",))):
        tls = make_tls(tmp_path / f"{days}", days)
        proxy = await stage.proxy(server, listener={"tls": tls}, admin=ADMIN)
        found = await scrape(proxy)
        story = Story(tmp_path, found)
        story.goes_on(found, 5, *firing)
        story.check()


async def test_a_certificate_that_is_refused(stage: Stage, tmp_path: Path) -> None:
    tls = make_tls(tmp_path, 60)
    proxy = await stage.proxy(await stage.server(), listener={"tls": tls}, admin=ADMIN)
    story = Story(tmp_path, await scrape(proxy))
    Path(tls["key"]).write_text("half a key")
    name = "vsproxy_certificate_up_to_date"
    story.goes_on(await scrape_until(proxy, lambda found: found.values(name) == [0]), 5, "CertificateRefused")
    story.check()


async def test_a_revocation_list_that_is_soon_out_of_date(stage: Stage, tmp_path: Path) -> None:
    server = await stage.server()
    authority = Authority(tmp_path / "clients")
    for hours, firing in ((30, ()), (20, ("ClientRevocationListExpires",))):
        lists = tmp_path / f"{hours}.pem"
        lists.write_bytes(authority.revocation_list(lasts=datetime.timedelta(hours=hours)))
        tls = {**make_tls(tmp_path / f"{hours}", 100), "client_ca": str(authority.file), "client_crl": str(lists)}
        proxy = await stage.proxy(server, listener={"tls": tls}, admin=ADMIN)
        found = await scrape(proxy)
        story = Story(tmp_path, found)
        story.goes_on(found, 5, *firing)
        story.check()


async def test_an_access_log_that_cannot_be_written(stage: Stage, tmp_path: Path) -> None:
    log = {"access": "json", "access_path": "/dev/full"}
    proxy = await stage.proxy(await stage.server(), log=log, admin=ADMIN)
    story = Story(tmp_path, await scrape(proxy))
    await requests(stage, 1)
    lost = await scrape_until(proxy, lambda found: found.value("vsproxy_access_log_lost_lines_total") > 0)
    story.goes_on(lost, 5, "AccessLogLinesLost")
    story.check()


async def test_a_balancer_that_is_gone(stage: Stage, tmp_path: Path) -> None:
    proxy = await stage.proxy(await stage.server(), admin=ADMIN)
    now = await scrape(proxy)
    story = Story(tmp_path, now)
    story.goes_on(now, 10)
    story.history.was_down(3)
    story.expects("BalancerDown")
    story.check()


# With processes of their own


async def test_no_descriptors_left(stage: Stage, tmp_path: Path) -> None:
    """Clients have half of the descriptors less a reserve, and here each of them needs a second one."""
    held = Held()
    proxy = await stage.process(await stage.server(held), descriptors=256, admin=ADMIN)
    story = Story(tmp_path, await scrape(proxy))
    clients = [await stage.connect() for _ in range(100)]
    for client in clients:
        await client.send(b"GET / HTTP/1.1\r\nHost: test.example\r\n\r\n")
    full = await scrape_until(
        proxy,
        lambda found: (
            found.value("vsproxy_listener_accept_paused") == 1
            and found.value("vsproxy_server_active_exchanges") == (256 - 64) / 2
        ),
    )
    story.goes_on(full, 6, "AcceptPaused", "DescriptorsRunOut")
    story.check()


async def test_a_worker_that_dies(stage: Stage, tmp_path: Path) -> None:
    proxy = await stage.process(await stage.server(), admin=ADMIN)
    first = await scrape(proxy)
    assert first.value("vsproxy_process_up", process="worker0") == 1
    story = Story(tmp_path, first)
    await kill_worker(proxy.pid)
    again = await scrape_until(
        proxy,
        lambda found: (
            found.value("vsproxy_process_restarts_total", process="worker0") == 1
            and found.value("vsproxy_process_up", process="worker0") == 1
        ),
    )
    story.goes_on(again, 5, "ProcessRestarts")
    story.goes_on(again, 15)
    # Who has died once is replaced at once; who keeps dying, after a while.
    while True:
        await kill_worker(proxy.pid)
        now = await scrape(proxy)
        restarts = now.value("vsproxy_process_restarts_total", process="worker0")
        if restarts > 1 and now.value("vsproxy_process_up", process="worker0") == 0:
            break
    story.goes_on(now, 5, "ProcessDown", "ProcessRestarts")
    story.check()


async def kill_worker(supervisor: int) -> None:
    """Kill worker 0, once it is there."""
    async with asyncio.timeout(20):
        while not (found := _named(supervisor, "vsproxy-worker0")):
            await asyncio.sleep(0.005)
    os.kill(found, signal.SIGKILL)
    async with asyncio.timeout(20):
        while _named(supervisor, "vsproxy-worker0") == found:
            await asyncio.sleep(0.005)


def _named(parent: int, name: str) -> int:
    """The child of `parent` with this name; 0 without one."""
    for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        try:
            if Path(f"/proc/{child}/comm").read_text().strip() == name:
                return int(child)
        except (FileNotFoundError, ProcessLookupError):
            continue  # gone before we opened the file, or before we read it
    return 0


async def test_a_reload_that_is_refused(stage: Stage, tmp_path: Path) -> None:
    proxy = await stage.process(await stage.server(), admin=ADMIN)
    story = Story(tmp_path, await scrape(proxy))
    file = stage.directory / "lb.toml"
    good = file.read_text()
    file.write_text("nonsense = 1\n")
    proxy.signal(signal.SIGHUP)
    refused = await scrape_until(
        proxy, lambda found: found.value("vsproxy_config_reloads_total", result="refused") == 1
    )
    story.goes_on(refused, 3, "ReloadFailed")
    file.write_text(good)
    proxy.signal(signal.SIGHUP)
    accepted = await scrape_until(
        proxy, lambda found: found.value("vsproxy_config_reloads_total", result="ok") == 1
    )
    story.goes_on(accepted, 3)
    story.check()
