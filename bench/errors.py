"""What can go wrong in a benchmark."""

from __future__ import annotations


class BenchError(Exception):
    """The benchmark cannot run as asked: something is missing on this machine, or does not start."""


class VoidError(BenchError):
    """A proxy answered wrongly or not at all; what was measured of it counts for nothing."""
