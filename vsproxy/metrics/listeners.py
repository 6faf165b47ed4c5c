"""The metrics of listeners: what happens on the side of the clients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from vsproxy.metrics.families import Family, Table, label_text
from vsproxy.metrics.sources import ListenerSource

#: Reasons for a bad request that get a series of their own.
MAX_REASONS = 64


def listener_families(listeners: Sequence[ListenerSource]) -> Iterator[Family]:
    """Every metric with the label listener."""
    table = Table[ListenerSource](
        "vsproxy_listener", [(label_text(listener=listener.address), listener) for listener in listeners]
    )
    yield from _connections(table)
    yield from _tls(table)
    yield from _http2(table)
    yield table.counter(
        "proxy_protocol_failures", "Connections of fronts that did not begin with a PROXY header as they have to.",
        lambda listener: listener.stats.proxy_failures,
    )  # fmt: skip
    yield table.counter_by(
        "reason", "bad_requests", "Requests refused as malformed, by reason.",
        lambda listener: bounded(dict(listener.stats.bad_requests)),
    )  # fmt: skip


def _connections(table: Table[ListenerSource]) -> Iterator[Family]:
    yield table.counter("connections", "Connections accepted.", lambda listener: listener.stats.accepted)
    yield table.counter(
        "turned_away_connections", "Connections accepted on which no request could be sent.",
        lambda listener: listener.stats.turned_away,
    )  # fmt: skip
    yield table.gauge("active_connections", "Connections open now.", lambda listener: listener.stats.active)
    yield table.gauge(
        "accept_paused", "1 while clients have to wait for free descriptors or for max_connections.",
        lambda listener: listener.stats.paused,
    )  # fmt: skip


def _tls(table: Table[ListenerSource]) -> Iterator[Family]:
    yield table.counter(
        "tls_handshakes", "TLS handshakes completed.", lambda listener: listener.stats.handshakes
    )
    yield table.counter(
        "tls_failures", "TLS handshakes that failed or took too long.",
        lambda listener: listener.stats.tls_failures,
    )  # fmt: skip
    yield table.counter(
        "plain_on_tls", "Requests in plain HTTP on a TLS port.", lambda listener: listener.stats.plain_on_tls
    )
    yield table.gauge(
        "certificate_expiry_timestamp_seconds", "When the first of the certificates expires.",
        lambda listener: listener.certificate_expiry,
    )  # fmt: skip
    yield table.gauge(
        "client_crl_expiry_timestamp_seconds", "When the first revocation list of clients is out of date.",
        lambda listener: listener.crl_expiry,
    )  # fmt: skip
    yield table.counter_by(
        "reason", "client_certificates_refused", "Clients refused for their certificate or for lack of one.",
        lambda listener: dict(listener.stats.certificates_refused),
    )  # fmt: skip
    yield table.counter_by(
        "reason", "tls_cuts", "Connections cut for what TLS carried, or did not.",
        lambda listener: dict(listener.stats.tls_cuts),
    )  # fmt: skip


def _http2(table: Table[ListenerSource]) -> Iterator[Family]:
    yield table.counter(
        "http2_connections", "Connections of HTTP/2, of those accepted.",
        lambda listener: listener.stats.http2_connections,
    )  # fmt: skip
    yield table.counter_by(
        "event", "http2_events",
        "What went wrong with a stream of HTTP/2, or for what its whole connection was ended.",
        lambda listener: bounded(dict(listener.stats.http2_events)),
    )  # fmt: skip


def bounded(reasons: Mapping[str, int]) -> dict[str, int]:
    """The first `MAX_REASONS` reasons; what is beyond is added up as `other`, so that series stay few."""
    kept = dict(list(reasons.items())[:MAX_REASONS])
    rest = sum(reasons.values()) - sum(kept.values())
    if rest:
        kept["other"] = kept.get("other", 0) + rest
    return kept
