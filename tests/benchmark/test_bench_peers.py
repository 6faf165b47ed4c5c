"""The committed configurations, filled in for every kind of scenario, before each proxy's own check."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bench.certificates import make_certificate
from bench.errors import BenchError
from bench.peers import vsproxy
from bench.peers.base import Peer, Setup, fill
from bench.peers.registry import all_peers

PEERS = {peer.name: peer for peer in all_peers(sys.executable)}
# What scripts/test installs, or is.
ALWAYS = ("vsproxy", "nginx")
SERVERS = ("127.0.0.1:9001", "127.0.0.2:9001")
SETUPS: dict[str, dict[str, object]] = {
    "plain": {},
    "tls": {"certificate": True},
    "http2": {"certificate": True, "http2": True},
    "log": {"access_log": True},
    "routes": {"routes": 100},
    "workers": {"workers": 2},
    "servers": {"servers": tuple(f"127.0.1.{n}:9001" for n in range(1, 101))},
    "keepalive": {"keepalive": 500},
}


def setup(directory: Path, kind: str) -> Setup:
    values = dict(SETUPS[kind])
    if "certificate" in values:
        values["certificate"] = make_certificate(directory)
    return Setup(**{"directory": directory, "port": 8080, "servers": SERVERS, **values})  # type: ignore[arg-type]


def installed(name: str) -> Peer:
    if PEERS[name].find() is None:
        assert name not in ALWAYS, f"{name} has to be installed for the tests"
        pytest.skip(f"{name} is not installed")
    return PEERS[name]


@pytest.mark.parametrize("kind", SETUPS)
@pytest.mark.parametrize("name", PEERS)
def test_its_own_check_passes(tmp_path: Path, name: str, kind: str) -> None:
    peer = installed(name)
    wanted = setup(tmp_path, kind)
    if peer.cannot(wanted):
        pytest.skip(f"{name}: {peer.cannot(wanted)}")
    config = peer.write_config(wanted)
    assert "@" not in config.read_text().replace('"@type"', "")
    result = subprocess.run(peer.check_command(config), capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("name", PEERS)
def test_its_own_check_can_fail(tmp_path: Path, name: str) -> None:
    peer = installed(name)
    config = peer.write_config(setup(tmp_path, "plain"))
    config.write_text(config.read_text().replace("pool", "what is this", 1))
    assert subprocess.run(peer.check_command(config), capture_output=True, check=False, timeout=60).returncode != 0


@pytest.mark.parametrize("name", PEERS)
def test_what_a_scenario_wants_is_in_its_configuration(tmp_path: Path, name: str) -> None:
    peer = PEERS[name]
    text = {kind: peer.write_config(setup(tmp_path, kind)).read_text() for kind in SETUPS if kind != "http2"}
    assert "127.0.0.2" in text["plain"]
    assert "127.0.1.100" in text["servers"]
    assert text["plain"] != text["log"]
    assert "server.pem" in text["tls"] or "both.pem" in text["tls"]
    routes = text["routes"] + "".join(path.read_text() for path in tmp_path.glob("*.map"))
    assert "/r0/" in routes
    assert "/r99/" in routes


@pytest.mark.parametrize("name", PEERS)
def test_it_says_its_version(name: str) -> None:
    assert any(character.isdigit() for character in installed(name).version())


def test_of_vsproxy_the_form_is_named() -> None:
    assert "compiled" in PEERS[vsproxy.NAME].version()


def test_no_protection_of_vsproxy_is_off() -> None:
    lines = (Path(vsproxy.__file__).parent / "vsproxy.toml").read_text().splitlines()
    text = "\n".join(line for line in lines if not line.startswith("#"))
    assert "keepalive" in text
    for key in ("max_requests", "max_head", "max_fields", "timeout", "tries", "max_fails"):
        assert key not in text


def test_a_name_without_a_value_is_said() -> None:
    assert fill("a @ONE@ b", {"ONE": 1}) == "a 1 b"
    with pytest.raises(BenchError, match="@TWO@"):
        fill("@TWO@", {"ONE": 1})
