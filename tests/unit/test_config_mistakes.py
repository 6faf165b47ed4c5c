"""Mistakes: each names its key, what was found and what is accepted, and all are told at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vsproxy.config.model import Config
from vsproxy.errors import ConfigError, VsproxyError

MANY = """\
[proxy]
workers = 0
shutdown_timout = "30s"

[[listeners]]
bind = "0.0.0.0"
header_timeout = "fast"
idle_timeout = 0
trusted_proxies = ["10.0.0.1/8"]

[[listeners]]
tls = { key = "k" }
max_requests = true

[[routes]]
pool = "vaultstadoi"
half_close = "no"

[[routes]]
pool = "vaultstadio"

[pools.vaultstadio]
balance = "hash"
servers = [
  { address = "backend1:8080", wieght = 5 },
  { address = "backend2", weight = 0 },
  { address = "backend1:8080", backup = "yes" },
  "x",
]
retry = { on = ["connect", "500"] }

[pools."a.b"]
servers = []
"""

EXPECTED = """\
lb.toml:2: proxy.workers: found 0 (at least one process is needed); accepted "auto" or a whole number \
from 1 up
lb.toml:3: proxy.shutdown_timout: found the unknown key "shutdown_timout", did you mean "shutdown_timeout"?; \
accepted workers, shutdown_timeout, splice
lb.toml:6: listeners[0].bind: found "0.0.0.0" (the port is missing); accepted "host:port", "[v6]:port", \
":port" (all interfaces) or "unix:/path"
lb.toml:7: listeners[0].header_timeout: found "fast" (not a duration); accepted a duration such as "10s", \
"500ms", "1m30s", "1h", "7d", or a number of seconds, more than 0
lb.toml:8: listeners[0].idle_timeout: found 0; accepted a duration such as "10s", "500ms", "1m30s", "1h", "7d", \
or a number of seconds, more than 0
lb.toml:9: listeners[0].trusted_proxies[0]: found "10.0.0.1/8" (10.0.0.1/8 has host bits set); accepted a \
network such as "10.0.0.0/8" or "fd00::/8", or an address
lb.toml:11: listeners[1].bind: found nothing; accepted "host:port", "[v6]:port", ":port" (all interfaces) \
or "unix:/path"
lb.toml:12: listeners[1].tls.cert: found nothing; accepted the path of a file
lb.toml:13: listeners[1].max_requests: found true (not a whole number); accepted a whole number from 1 up
lb.toml:16: routes[0].pool: found "vaultstadoi", which is not a pool; accepted one of "vaultstadio", "a.b"
lb.toml:17: routes[0].half_close: found "no"; accepted "wait" or "abort"
lb.toml:19: routes[1]: found "/", which routes[0] has already; accepted another host or path
lb.toml:23: pools.vaultstadio.balance: found "hash" without hash_key; accepted hash_key = "client", "uri", \
"header:NAME" or "cookie:NAME"
lb.toml:25: pools.vaultstadio.servers[0].wieght: found the unknown key "wieght", did you mean "weight"?; \
accepted address, weight, backup, max_connections, state
lb.toml:26: pools.vaultstadio.servers[1].address: found "backend2" (the port is missing); accepted \
"host:port", "[v6]:port", "srv:_service._proto.name" or "unix:/path"
lb.toml:26: pools.vaultstadio.servers[1].weight: found 0; accepted a whole number from 1 to 1000
lb.toml:27: pools.vaultstadio.servers[2].backup: found "yes" (not a truth value); accepted true or false
lb.toml:27: pools.vaultstadio.servers[2].address: found "backend1:8080", which servers[0] has already; \
accepted an address of its own
lb.toml:28: pools.vaultstadio.servers[3]: found "x"; accepted a table with address, weight, backup, \
max_connections, state
lb.toml:30: pools.vaultstadio.retry.on[1]: found "500"; accepted "connect", "reset", "timeout", "502", "503" \
or "504"
lb.toml:33: pools."a.b".servers: found an empty list; accepted a list of tables, at least one
"""


def test_all_mistakes_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("lb.toml").write_text(MANY)
    with pytest.raises(ConfigError) as caught:
        Config.load("lb.toml")
    assert str(caught.value).splitlines() == EXPECTED.splitlines()


def mistakes(**sections: Any) -> list[str]:
    data = {
        "listeners": [{"bind": "127.0.0.1:0"}],
        "pools": {"p": {"servers": [{"address": "a:1"}]}},
        **sections,
    }
    with pytest.raises(ConfigError) as caught:
        Config.model_validate(data)
    return [f"{problem.key}: {problem.message}" for problem in caught.value.problems]


def pool(**keys: Any) -> dict[str, Any]:
    return {"p": {"servers": [{"address": "a:1"}], **keys}}


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        ({"listeners": []}, "listeners: found an empty list; accepted a list of tables, at least one"),
        ({"listeners": {"bind": ":1"}}, "listeners: found a table; accepted a list of tables, at least one"),
        ({"pools": [1]}, "pools: found a list; accepted a table of tables"),
        ({"pools": {"p": 1}}, "pools.p: found 1; accepted a table with balance, hash_key,"),
        ({"routes": ["p"]}, 'routes[0]: found "p"; accepted a table with host, path, pool,'),
        ({"routes": [{"path": "/"}]}, "routes[0].pool: found nothing; accepted text"),
        ({"routes": [{"pool": 7}]}, "routes[0].pool: found 7 (not text); accepted text"),
        (
            {"routes": [{"pool": "p", "path": "api"}]},
            'routes[0].path: found "api" (not a path); accepted a path',
        ),
        ({"routes": [{"pool": "p", "path": "/a?b"}]}, 'routes[0].path: found "/a?b" (not a path); accepted'),
        (
            {"routes": [{"pool": "p", "host": "a:80"}]},
            'routes[0].host: found "a:80" (a host has no scheme, port',
        ),
        (
            {"routes": [{"pool": "p", "host": "bücher.de"}]},
            'routes[0].host: found "bücher.de" (an international',
        ),
        ({"routes": [{"pool": "p", "host": "a.*"}]}, 'routes[0].host: found "a.*" (a host has'),
        ({"routes": [{"pool": "p", "max_body": 0}]}, "routes[0].max_body: found 0; accepted a size such as"),
        (
            {"log": {"level": "loud"}},
            'log.level: found "loud"; accepted "debug", "info", "warning" or "error"',
        ),
        (
            {"listeners": [{"bind": ":1", "proxy_protocol": ["10.0.0.1", "front"]}]},
            'listeners[0].proxy_protocol[1]: found "front" (\'front\' does not appear to be an IPv4 or IPv6 network); '
            'accepted a network such as "10.0.0.0/8" or "fd00::/8", or an address',
        ),
        (
            {"listeners": [{"bind": ":1", "proxy_protocol": True}]},
            "listeners[0].proxy_protocol: found true; accepted a list",
        ),
        (
            {"pools": pool(proxy_protocol="v3")},
            'pools.p.proxy_protocol: found "v3"; accepted "v1" or "v2"',
        ),
        ({"log": "json"}, 'log: found "json"; accepted a table with level, path, access, access_path'),
        (
            {"admin": {}, "lisseners": []},
            'lisseners: found the unknown key "lisseners", did you mean "listeners"?;',
        ),
        (
            {"zzz": 1},
            'zzz: found the unknown key "zzz"; accepted proxy, log, admin, listeners, routes, pools, resolver',
        ),
        (
            {"pools": pool(hash_key="user", balance="hash")},
            'pools.p.hash_key: found "user" (not a hash key);',
        ),
        (
            {"pools": pool(hash_key="header:", balance="hash")},
            'pools.p.hash_key: found "header:" (not a hash',
        ),
        (
            {"pools": pool(keepalive=1.5)},
            "pools.p.keepalive: found 1.5 (not a whole number); accepted a whole",
        ),
        (
            {"pools": pool(health={"port": 70000})},
            "pools.p.health.port: found 70000; accepted a whole number from 1",
        ),
        (
            {"pools": pool(health={"path": "x"})},
            'pools.p.health.path: found "x" (not a path); accepted a path',
        ),
        (
            {"pools": pool(resolve_interval="500ms")},
            'pools.p.resolve_interval: found "500ms"; accepted a duration such as',
        ),
        (
            {"pools": pool(servers=[{"address": "srv:app.test"}])},
            'pools.p.servers[0].address: found "srv:app.test" (the name of SRV records looks like _http._tcp.',
        ),
        (
            {"pools": pool(servers=[{"address": "srv:_http._tcp.a"}, {"address": "srv:_HTTP._tcp.a"}])},
            'pools.p.servers[1].address: found "srv:_HTTP._tcp.a", which servers[0] has already',
        ),
        (
            {"resolver": {"nameservers": ["192.0.2.1", "dns.test"]}},
            'resolver.nameservers[1]: found "dns.test" (the port is missing); accepted an IP address with',
        ),
        (
            {"resolver": {"tries": 0}},
            "resolver.tries: found 0; accepted a whole number from 1 to 10",
        ),
    ],
)
def test_one_mistake(sections: dict[str, Any], expected: str) -> None:
    [mistake] = mistakes(**sections)
    assert mistake.startswith(expected)


def test_listeners_may_not_share_an_address() -> None:
    shared = mistakes(
        listeners=[
            {"bind": ":8080"},
            {"bind": "0.0.0.0:8080"},
            {"bind": "unix:/a"},
            {"bind": "unix:/a"},
            {"bind": ":9"},
        ],
        admin={"bind": "[::]:9"},
    )
    assert shared == [
        f"{what} has already; accepted an address of its own"
        for what in (
            'listeners[1].bind: found "0.0.0.0:8080", which listeners[0]',
            'listeners[3].bind: found "unix:/a", which listeners[2]',
            'admin.bind: found "[::]:9", which listeners[4]',
        )
    ]


def test_the_admin_port_has_an_address_also_by_default() -> None:
    [mistake] = mistakes(listeners=[{"bind": "127.0.0.1:9900"}], admin={})
    assert mistake.startswith("admin.bind: found")


def test_free_ports_may_be_asked_for_twice() -> None:
    config = Config.model_validate({"listeners": [{"bind": "127.0.0.1:0"}, {"bind": "127.0.0.1:0"}]})
    assert len(config.listeners) == 2


def test_a_redirect_to_https_belongs_on_a_plain_listener() -> None:
    listener = {"bind": ":1", "tls": {"cert": "c", "key": "k"}, "redirect": "https"}
    assert mistakes(listeners=[listener]) == [
        'listeners[0].redirect: found "https" on a listener with tls; '
        "accepted redirect on a listener without tls"
    ]


@pytest.mark.parametrize("other", [{"path": "/a"}, {"path": "/a/"}])
def test_routes_that_are_the_same(other: dict[str, Any]) -> None:
    routes = [{"pool": "p", "path": "/a", "host": "X.com"}, {"pool": "p", "host": "x.com", **other}]
    [mistake] = mistakes(routes=routes)
    assert mistake.startswith('routes[1]: found "x.com/a", which routes[0] has already')


def test_routes_that_differ_in_host_or_path() -> None:
    pools = {"p": {"servers": [{"address": "a:1"}]}}
    routes = [
        {"pool": "p"},
        {"pool": "p", "host": "x"},
        {"pool": "p", "path": "/a"},
        {"pool": "p", "host": "*.x"},
    ]
    config = Config.model_validate({"listeners": [{"bind": ":0"}], "routes": routes, "pools": pools})
    assert len(config.routes) == 4


def test_a_pool_named_when_there_is_none() -> None:
    [mistake] = mistakes(routes=[{"pool": "p"}], pools={})
    assert mistake == (
        'routes[0].pool: found "p", which is not a pool; '
        "accepted the name of a pool, but there is no [pools.NAME]"
    )


def test_a_hash_key_needs_the_hash() -> None:
    assert mistakes(pools=pool(hash_key="uri")) == [
        "pools.p.hash_key: found a key to hash by, but nothing that hashes; "
        'accepted balance = "hash" beside it'
    ]


def test_a_port_to_check_needs_tcp() -> None:
    assert mistakes(pools=pool(servers=[{"address": "unix:/a"}], health={"port": 1})) == [
        'pools.p.health.port: found a port, but "unix:/a" has none; accepted port only with TCP servers'
    ]


def test_a_config_error_is_ours_and_a_value_error() -> None:
    with pytest.raises(VsproxyError):
        Config.model_validate({})
    with pytest.raises(ValueError, match="listeners: found nothing"):
        Config.model_validate({})


@pytest.mark.parametrize("data", [None, 7, [], "text"])
def test_not_even_a_table(data: object) -> None:
    with pytest.raises(ConfigError, match="accepted a table with proxy, log"):
        Config.model_validate(data)
