"""What Prometheus may scrape: read from a source at the moment of the scrape, nothing is kept here."""

from vsproxy.metrics.scrape import Metrics

__all__ = ["Metrics"]
