"""What is written about the metrics is true of a real scrape, and leaves nothing out."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from support.authorities import Authority
from support.certificates import make_certificates
from support.h2_frames import PREFACE, raw, settings
from support.promtool import RULES, needs_promtool, promtool
from support.proxies import ProxyProcess
from support.scrape import Scrape, scrape_until
from support.stage import Stage
from support.tls_servers import Pair, TlsServer, server_context
from vsproxy import Proxy

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "metrics.md"
DASHBOARD = ROOT / "deploy" / "grafana" / "vsproxy.json"

#: What Prometheus adds to each series, and what a histogram has of its own.
ADDED = {"job", "instance", "le"}
MATCHERS = re.compile(r'(\w+)(=~|!~|!=|=)"([^"]*)"')
SELECTOR = re.compile(r"\b(vsproxy_\w+)(?:\{([^}]*)\})?")
GROUPING = re.compile(r"\b(?:by|on|without|ignoring)\s*\(([^)]*)\)")


@pytest.fixture
async def figures(stage: Stage) -> Scrape:
    """A scrape that has every metric there is."""
    return await eventful_scrape(stage, stage.process)


async def eventful_scrape(stage: Stage, start: Callable[..., Awaitable[Proxy | ProxyProcess]]) -> Scrape:
    """A scrape of a proxy that has seen checks, traffic, a bad request, and TLS on both sides, not all of it good."""
    directory = stage.directory / start.__name__
    certificates = make_certificates(directory)
    tls = {"cert": str(certificates.cert), "key": str(certificates.key)}
    authority = Authority(directory / "clients")
    lists = directory / "lists.pem"
    lists.write_bytes(authority.revocation_list())
    asking = {**tls, "client_ca": str(authority.file), "client_crl": str(lists)}
    server = TlsServer(server_context(Pair(certificates.cert, certificates.key)))
    await server.start()
    proxy = await start(
        server.address,
        pool={"health": {"path": "/health", "inter": "20ms", "timeout": "5s"}, "tls": {"ca": str(certificates.ca)}},
        listeners=[
            {"bind": "127.0.0.1:0", "h2c": True},
            {"bind": "127.0.0.1:0", "tls": asking},
            {"bind": "127.0.0.1:0", "tls": tls, "handshake_timeout": "50ms"},
        ],
        admin={"bind": "127.0.0.1:0"},
    )
    client = await stage.connect()
    assert (await client.request()).status == 200
    assert (await (await stage.connect()).raw(b"GET / HTTP/1.1\r\n\r\n")).status == 400
    # HTTP/2, and a PING on a stream, where none may be.
    await (await stage.connect()).send(PREFACE + settings() + raw(6, 0, 1, bytes(8)))
    asked, hurried = (address.split(":") for address in proxy.addresses[1:3])
    context = certificates.client_context()
    reader, _ = await asyncio.open_connection(*asked, ssl=context, server_hostname="localhost")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await reader.read()
    _, slow = await asyncio.open_connection(*hurried)
    figures = await scrape_until(
        proxy,
        lambda found: (
            found.values("vsproxy_listener_bad_requests_total") == [1]
            and found.values("vsproxy_listener_http2_events_total") == [1]
            and found.values("vsproxy_listener_client_certificates_refused_total") == [1]
            and found.values("vsproxy_listener_tls_cuts_total") == [1]
            and found.value("vsproxy_pool_responses_total", code="2xx") == 1
            and found.value("vsproxy_server_checks_total", result="passed") > 0
            # A server's row is written apart from the pool's, and shows a histogram once it has counted something.
            and found.values("vsproxy_server_first_byte_duration_seconds_count") == [1]
            and found.values("vsproxy_server_connect_duration_seconds_count") == [1]
        ),
    )
    slow.close()
    await server.stop()
    return figures


class Described(NamedTuple):
    """A line of the page."""

    kind: str
    labels: frozenset[str]
    unit: str


def described() -> dict[str, Described]:
    """The metrics on the page."""
    found: dict[str, Described] = {}
    line = re.compile(r"^\| `(\w+)` \| (\w+) \| ([^|]*)\| ([^|]+) \| [^|]+\. \|$", re.MULTILINE)
    for name, kind, labels, unit in line.findall(PAGE.read_text()):
        assert name not in found, f"{name} is described twice"
        found[name] = Described(kind, frozenset(re.findall(r"`(\w+)`", labels)), unit)
    return found


def scraped(figures: Scrape) -> dict[str, tuple[str, frozenset[str]]]:
    """The metrics of a scrape, a histogram under the one name that its series have in common."""
    found = {}
    for name, labels in figures.label_names().items():
        kind = figures.kinds[name]
        base = re.sub("_(bucket|sum|count)$", "", name) if kind == "histogram" else name
        found[base] = (kind, frozenset(labels - {"le"}))
    return found


async def test_the_page_describes_what_there_is_and_nothing_else(figures: Scrape) -> None:
    page = {name: (metric.kind, metric.labels) for name, metric in described().items()}
    own = {name: metric for name, metric in scraped(figures).items() if name.startswith("vsproxy_")}
    assert {name: metric for name, metric in page.items() if name.startswith("vsproxy_")} == own
    # More of these may come with a newer client library.
    assert page.items() <= scraped(figures).items()


async def test_an_embedder_gets_the_same_but_for_heartbeats(stage: Stage, figures: Scrape) -> None:
    embedded = scraped(await eventful_scrape(stage, stage.proxy))
    assert scraped(figures).keys() - embedded.keys() == {"vsproxy_process_heartbeat_timestamp_seconds"}
    assert embedded.items() <= scraped(figures).items()


def test_units_are_in_the_names() -> None:
    for name, metric in described().items():
        assert ("_seconds" in name) == metric.unit.startswith("seconds"), name
        assert ("_bytes" in name) == (metric.unit == "bytes"), name
        assert ("_timestamp_" in name or "_start_time_" in name) == (metric.unit == "seconds since 1970"), name
        assert name.endswith("_total") == (metric.kind == "counter"), name


# Alerts and dashboard


class Query(NamedTuple):
    """Where it stands, the expression, and the labels that are shown of its result."""

    place: str
    expression: str
    shown: set[str]


def rule_queries() -> Iterator[Query]:
    for block in re.split(r"^ +- (?=alert:|record:)", RULES.read_text(), flags=re.MULTILINE)[1:]:
        title, _, rest = block.partition("\n")
        yield Query(title, re.sub(r"#.*|pool:vsproxy_\w+", "", rest), set(re.findall(r"\$labels\.(\w+)", rest)))


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return found


def panels() -> list[dict[str, Any]]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def dashboard_queries() -> Iterator[Query]:
    for panel in panels():
        for target in panel["targets"]:
            shown = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            yield Query(f"{panel['title']} {target['refId']}", target["expr"], shown)
    for variable in dashboard()["templating"]["list"]:
        if match := re.fullmatch(r"label_values\((.*), (\w+)\)", variable.get("definition", "")):
            yield Query(f"${variable['name']}", match[1], {match[2]})


def check_query(query: Query, figures: Scrape) -> None:
    """Every metric, label and label value in it is in the scrape."""
    place, expression, shown = query
    known = {name: labels | ADDED for name, labels in figures.label_names().items()}
    used = SELECTOR.findall(expression)
    for name, selector in used:
        assert name in known, f"{place}: there is no metric {name}"
        for label, operator, value in MATCHERS.findall(selector):
            assert label in known[name], f"{place}: {name} has no label {label}"
            if operator == "=":
                assert figures.values(name, **{label: value}), f"{place}: {name} has no {label} {value}"
    there = set().union(*(known[name] for name, _ in used))
    grouped = {label.strip() for group in GROUPING.findall(expression) for label in group.split(",")}
    assert grouped <= there, f"{place}: nothing in it has the label {grouped - there}"
    result = grouped or there
    assert shown <= result, f"{place}: its result has no label {shown - result}"


async def test_alerts_use_only_what_there_is(figures: Scrape) -> None:
    found = [query for query in rule_queries() if SELECTOR.search(query.expression)]
    assert len(found) > 15
    for query in found:
        check_query(query, figures)


async def test_the_dashboard_uses_only_what_there_is(figures: Scrape) -> None:
    found = list(dashboard_queries())
    assert len(found) > 40
    for query in found:
        assert SELECTOR.search(query.expression), query.place
        check_query(query, figures)


async def test_the_dashboard_shows_nearly_all_there_is(figures: Scrape) -> None:
    text = DASHBOARD.read_text()
    unused = {name for name in scraped(figures) if name.startswith("vsproxy_") and name not in text}
    assert unused == {
        # Shown as its sum over the states, as the states, or of no interest over time.
        "vsproxy_process_heartbeat_timestamp_seconds",
        "vsproxy_process_resident_memory_bytes",
        "vsproxy_process_start_time_seconds",
        "vsproxy_config_last_reload_timestamp_seconds",
    }


@needs_promtool
def test_the_queries_of_the_dashboard_are_sound(tmp_path: Path) -> None:
    rules = [
        {"record": f"query:{number}", "expr": query.expression.replace("$__rate_interval", "5m")}
        for number, query in enumerate(dashboard_queries())
    ]
    file = tmp_path / "queries.yml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert "SUCCESS" in promtool("check", "rules", str(file))


def test_every_panel_can_be_read() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        assert panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        place = panel["gridPos"]
        cells = {
            (place["x"] + column, place["y"] + row) for column in range(place["w"]) for row in range(place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, f"{panel['title']} lies on another panel"
        taken |= cells
        axis = panel["options"].get("yAxis", panel["fieldConfig"]["defaults"])
        assert axis["unit"], f"{panel['title']} has no unit"
    numbers = [panel["id"] for panel in dashboard()["panels"]]
    assert len(set(numbers)) == len(numbers)


def test_the_dashboard_can_be_used_anywhere() -> None:
    variables = {variable["name"]: variable for variable in dashboard()["templating"]["list"]}
    assert list(variables) == ["datasource", "job", "instance", "pool", "server"]
    assert variables["datasource"]["type"] == "datasource"
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    holders = [*panels(), *(target for panel in panels() for target in panel["targets"])]
    holders += [variable for variable in variables.values() if variable["type"] == "query"]
    assert all(holder["datasource"] == chosen for holder in holders)
    assert set(re.findall(r"\$(\w+)", DASHBOARD.read_text())) - {"__rate_interval", "__all"} <= set(variables)
