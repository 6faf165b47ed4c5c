"""All the proxies, in the order of reports."""

from __future__ import annotations

from bench.peers.base import Peer
from bench.peers.caddy import Caddy
from bench.peers.envoy import Envoy
from bench.peers.haproxy import Haproxy
from bench.peers.nginx import Nginx
from bench.peers.vsproxy import Vsproxy


def all_peers(python: str) -> tuple[Peer, ...]:
    """`python`: the interpreter for which vsproxy is installed."""
    return Vsproxy(python), Nginx(), Haproxy(), Envoy(), Caddy()
