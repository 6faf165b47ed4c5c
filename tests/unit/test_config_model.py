"""The model: defaults, every form a value may have, and that nothing can be changed afterwards."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from vsproxy.config.model import (
    Bind,
    Config,
    HealthConfig,
    ListenerConfig,
    PoolConfig,
    RouteConfig,
    ServerConfig,
)

EXAMPLES = Path(__file__).parents[2] / "examples"


def configured(**sections: Any) -> Config:
    return Config.model_validate({"listeners": [{"bind": "127.0.0.1:0"}], **sections})


def pool(**keys: Any) -> PoolConfig:
    return configured(pools={"p": {"servers": [{"address": "a:1"}], **keys}}).pools["p"]


def listener(**keys: Any) -> ListenerConfig:
    return Config.model_validate({"listeners": [{"bind": "127.0.0.1:0", **keys}]}).listeners[0]


def route(**keys: Any) -> RouteConfig:
    return configured(pools={"p": {"servers": [{"address": "a:1"}]}}, routes=[{"pool": "p", **keys}]).routes[
        0
    ]


def test_defaults_of_a_listener() -> None:
    plain = listener()
    assert (plain.header_timeout, plain.idle_timeout, plain.body_timeout, plain.send_timeout) == (
        60,
        75,
        60,
        60,
    )
    assert (plain.max_head, plain.max_fields, plain.max_target) == (65536, 100, 16384)
    assert (plain.underscore_headers, plain.forwarded, plain.via, plain.redirect) == (
        "drop",
        False,
        False,
        None,
    )
    assert (plain.max_requests, plain.max_connections, plain.backlog) == (10000, 0, 4096)


def test_defaults_of_a_pool() -> None:
    plain = pool()
    assert (plain.balance, plain.hash_key, plain.consistent) == ("round_robin", None, True)
    assert (plain.keepalive, plain.keepalive_timeout, plain.keepalive_requests) == (32, 60, 10000)
    assert (plain.keepalive_age, plain.resolve_interval) == (3600, 30)
    assert (plain.queue_timeout, plain.queue_size, plain.slow_start) == (5, 1024, 0)
    assert (plain.max_fails, plain.fail_window) == (3, 10)
    assert (plain.timeouts.connect, plain.timeouts.send, plain.timeouts.read) == (10, 60, 60)
    assert (plain.retry.tries, plain.retry.timeout) == (3, 30)
    assert plain.retry.on == ("connect", "reset", "502", "503", "504")
    assert plain.health is None
    assert plain.servers[0] == ServerConfig(address=Bind("tcp", "a", 1), weight=1)


def test_defaults_of_name_resolution() -> None:
    plain = configured().resolver
    assert (plain.nameservers, plain.timeout, plain.tries, plain.addresses) == ((), None, None, "all")


def test_nameservers() -> None:
    resolver = configured(resolver={"nameservers": ["192.0.2.53", "[::1]:5353"], "timeout": "1s"}).resolver
    assert resolver.nameservers == (Bind("tcp", "192.0.2.53", 53), Bind("tcp", "::1", 5353))
    assert configured(resolver=resolver.model_dump(mode="json")).resolver == resolver


def test_a_service_may_be_checked_at_another_port() -> None:
    assert pool(servers=[{"address": "srv:_http._tcp.a"}], health={"port": 9}).servers[0].address.kind == "srv"


def test_defaults_of_a_check() -> None:
    check = HealthConfig()
    assert (check.type, check.path, check.inter, check.fall, check.rise) == ("http", "/", 5, 3, 2)
    assert (check.effective_fastinter, check.effective_downinter, check.effective_timeout) == (5, 5, 5)
    assert (check.status.matches(200), check.status.matches(399), check.status.matches(404)) == (
        True,
        True,
        False,
    )


def test_intervals_of_a_check() -> None:
    check = pool(health={"inter": "20s", "fastinter": "1s", "downinter": 40}).health
    assert check is not None
    assert (check.effective_fastinter, check.effective_downinter, check.effective_timeout) == (1, 40, 5)
    quick = pool(health={"inter": "2s", "timeout": "500ms"}).health
    assert quick is not None
    assert (quick.effective_fastinter, quick.effective_timeout) == (2, 0.5)
    assert HealthConfig(inter=2.0).effective_timeout == 2


def test_upgrades_of_a_route() -> None:
    assert route().effective_upgrades == ("websocket",)
    assert route(websocket=False).effective_upgrades == ()
    assert route(upgrades=["WebSocket", "ssh"]).effective_upgrades == ("websocket", "ssh")
    assert route(upgrades=[]).effective_upgrades == ()


def test_text_and_numbers_say_the_same() -> None:
    assert route(max_body="10GiB", tunnel_timeout="1h") == route(max_body=10 * 1024**3, tunnel_timeout=3600)
    assert pool(retry={"on": [502, "timeout"]}).retry.on == ("502", "timeout")


def test_hosts_are_lower_case_and_paths_without_a_final_slash() -> None:
    assert route(host="*.Example.COM").host == "*.example.com"
    assert route(host="[::1]").host == "[::1]"
    assert route(path="/api/").path == "/api"
    assert route(path="/").path == "/"


def test_trusted_networks() -> None:
    networks = listener(trusted_proxies=["10.0.0.0/8", "fd00::/8", "127.0.0.1"]).trusted_proxies
    assert ipaddress.ip_address("10.1.2.3") in networks[0]
    assert ipaddress.ip_address("fd00::1") in networks[1]
    assert networks[2] == ipaddress.ip_network("127.0.0.1/32")


def test_nothing_can_be_changed() -> None:
    config = configured()
    with pytest.raises(ValidationError, match="frozen"):
        config.listeners = ()  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        config.log.level = "debug"  # type: ignore[misc]


def test_a_config_may_be_built_from_parts() -> None:
    built = Config(
        listeners=(ListenerConfig(bind=Bind("tcp", "127.0.0.1", 0)),),
        routes=(RouteConfig(pool="p"),),
        pools={"p": PoolConfig(servers=(ServerConfig(address=Bind("tcp", "a", 1)),))},
    )
    assert built == configured(routes=[{"pool": "p"}], pools={"p": {"servers": [{"address": "a:1"}]}})


def test_a_config_built_from_parts_is_checked_as_a_whole() -> None:
    with pytest.raises(ValidationError, match='"q", which is not a pool'):
        Config(listeners=(ListenerConfig(bind=Bind("tcp", "127.0.0.1", 0)),), routes=(RouteConfig(pool="q"),))


def test_a_config_survives_json() -> None:
    config = Config.load(EXAMPLES / "guide.toml", {})
    assert Config.model_validate(config.model_dump(mode="json")) == config


def test_the_guide() -> None:
    config = Config.load(EXAMPLES / "guide.toml", {})
    assert [str(listener.bind) for listener in config.listeners] == ["0.0.0.0:80", "0.0.0.0:443"]
    assert config.listeners[1].tls is not None
    assert [route.path for route in config.routes] == ["/api/ws", "/"]
    guide = config.pools["vaultstadio"]
    assert (guide.balance, guide.keepalive) == ("least_conn", 32)
    assert [(str(s.address), s.weight, s.backup) for s in guide.servers] == [
        ("backend1:8080", 5, False),
        ("backend2:8080", 5, False),
        ("backend3:8080", 1, True),
    ]
    assert guide.health is not None
    assert (guide.health.path, str(guide.health.status), guide.health.inter) == ("/api/health", "200", 5)
    assert (guide.health.fall, guide.health.rise) == (3, 2)


def test_the_example_loads() -> None:
    assert Config.load(EXAMPLES / "lb.toml", {}).pools["app"].servers[2].backup


def test_a_pool_of_backups_only_is_allowed() -> None:
    assert pool(servers=[{"address": "a:1", "backup": True}]).servers[0].backup
