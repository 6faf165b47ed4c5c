"""Against DNS rebinding: a page in a browser on this machine must not read or steer a loopback admin port.

The browser sends the name of the page's own site as Host, so on a loopback address only names that cannot be
pointed here by a stranger are accepted: IP addresses, localhost, and the host of the bind. A port bound
to other addresses is reached by names that we do not know (probes, service names) and accepts any.
"""

from __future__ import annotations

from ipaddress import ip_address

from vsproxy.config.model import Bind

_LOCALHOST = "localhost"


def is_host_allowed(host: str | None, bind: Bind) -> bool:
    """Whether a request with this Host field (None: it has none, so no browser sent it) may be answered."""
    if host is None or not _is_loopback(bind):
        return True
    name = _without_port(host).lower()
    return name in (_LOCALHOST, bind.host.lower()) or _is_address(name)


def _is_loopback(bind: Bind) -> bool:
    if bind.kind == "unix" or not bind.host:
        return False
    return bind.host.lower() == _LOCALHOST or (_is_address(bind.host) and ip_address(bind.host).is_loopback)


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
