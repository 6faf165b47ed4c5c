"""One scrape: everything that a source can tell, in the format that was asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, ProcessCollector, exposition
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from vsproxy.metrics.certificates import certificate_families
from vsproxy.metrics.families import Family
from vsproxy.metrics.listeners import listener_families
from vsproxy.metrics.operation import access_log_families, build_family, reload_families
from vsproxy.metrics.pools import pool_families
from vsproxy.metrics.processes import process_families
from vsproxy.metrics.servers import server_families
from vsproxy.metrics.sources import MetricsSource

_OPENMETRICS = "application/openmetrics-text"
_TEXT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_generate_openmetrics: Callable[[Collector], bytes] = openmetrics.generate_latest


class Metrics:
    """The metrics of `source`. `registry` is open for an embedder's own collectors.

    Labels are pools, servers, addresses, listeners and processes, so the number of series is bounded by the
    configuration and by the addresses that its names resolve to. Counters of an address begin again at 0 when
    it has gone and come back.
    """

    def __init__(self, source: MetricsSource) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._source = source

    def render(self, accept: str) -> tuple[bytes, str]:
        """The text of a scrape and its content type: OpenMetrics if `accept` (the field's value) names it.

        Only reads, so it may run in another thread than the loop's.
        """
        kinds = [part.partition(";")[0].strip().lower() for part in accept.split(",")]
        wanted = _OPENMETRICS in kinds
        parts = []
        for family in _families(self._source):
            parts += [family.header(wanted), *family.lines]
        own = "".join(parts).encode()
        if wanted:
            return own + _generate_openmetrics(self.registry), openmetrics.CONTENT_TYPE_LATEST
        return own + exposition.generate_latest(self.registry), _TEXT_TYPE


def _families(source: MetricsSource) -> Iterator[Family]:
    # Once: it may be a sum over many processes, made when asked for. What they write last is read first, so that
    # a request which a listener counts is in the counts of the pools as well.
    listeners, access_log = list(source.listeners), source.access_log
    pools = dict(source.pools)
    yield from server_families(pools)
    yield from pool_families(pools)
    yield from listener_families(listeners)
    yield from certificate_families(listeners, source.certificates)
    yield from process_families(source.processes)
    yield from reload_families(source.reloads)
    yield from access_log_families(access_log)
    yield build_family()
