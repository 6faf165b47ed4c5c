"""Metric families as text. Lines with values are the same in both formats; what stands above them is not.

Written here and not by prometheus_client, which takes seconds over some thousand servers: it looks at every
label of every line anew, where here the labels of a server are made once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import accumulate
from typing import Generic, Literal, TypeVar

from vsproxy.histogram import BOUNDS, Histogram

Kind = Literal["counter", "gauge", "histogram", "info"]
T = TypeVar("T")
#: The labels as text, and what is read for them.
Row = tuple[str, T]

_SUFFIXES = {"counter": "_total", "info": "_info"}
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
_BUCKETS = tuple(f'le="{bound}"' for bound in (*map(float, BOUNDS), "+Inf"))


def label_text(**labels: str) -> str:
    """`name="value",...`, as it stands between the braces."""
    return ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in labels.items())


class Family:
    """A metric with all its series. `name` is without `_total` and `_info`."""

    def __init__(self, kind: Kind, name: str, text: str) -> None:
        self.kind = kind
        self.name = name
        self.text = text
        self.lines: list[str] = []
        self._sample = name + _SUFFIXES.get(kind, "")

    def add(self, labels: str, value: float) -> None:
        """One series of a counter, gauge or info."""
        number = f"{value:d}" if isinstance(value, int) else repr(value)
        where = f"{self._sample}{{{labels}}}" if labels else self._sample
        self.lines.append(f"{where} {number}\n")

    def add_histogram(self, labels: str, histogram: Histogram) -> None:
        """The series of one histogram; `labels` must not be empty."""
        start = f"{self._sample}_bucket{{{labels},"
        # Copied first: they grow while we read, and the last bucket has to be the count.
        sums = tuple(accumulate(tuple(histogram.counts)))
        self.lines += [f"{start}{bucket}}} {count}\n" for bucket, count in zip(_BUCKETS, sums, strict=True)]
        self.lines.append(f"{self._sample}_count{{{labels}}} {sums[-1]}\n")
        self.lines.append(f"{self._sample}_sum{{{labels}}} {histogram.total!r}\n")

    def header(self, openmetrics: bool) -> str:
        """What stands above the lines: OpenMetrics has names without suffix, and a kind for info."""
        name = self.name if openmetrics else self._sample
        kind = "gauge" if self.kind == "info" and not openmetrics else self.kind
        return f"# HELP {name} {self.text}\n# TYPE {name} {kind}\n"


class Table(Generic[T]):
    """Makes families that have a series, or several, for each of `rows`; their names begin with `prefix`."""

    def __init__(self, prefix: str, rows: Iterable[Row[T]]) -> None:
        self._prefix = prefix
        self._rows = tuple(rows)

    def counter(self, name: str, text: str, read: Callable[[T], float | None]) -> Family:
        """One series per row; none where `read` has None. `name` is without `_total`."""
        return self._single("counter", name, text, read)

    def gauge(self, name: str, text: str, read: Callable[[T], float | None]) -> Family:
        """One series per row; none where `read` has None."""
        return self._single("gauge", name, text, read)

    def counter_by(
        self, label: str, name: str, text: str, read: Callable[[T], Mapping[str, float]]
    ) -> Family:
        """One series per row and key of what `read` has; the key is the value of `label`."""
        return self._by("counter", label, name, text, read)

    def gauge_by(self, label: str, name: str, text: str, read: Callable[[T], Mapping[str, float]]) -> Family:
        """One series per row and key of what `read` has; the key is the value of `label`."""
        return self._by("gauge", label, name, text, read)

    def histogram(self, name: str, text: str, read: Callable[[T], Histogram], empty: bool) -> Family:
        """One histogram per row; with `empty` False, only where something was observed."""
        family = Family("histogram", f"{self._prefix}_{name}", text)
        for labels, item in self._rows:
            histogram = read(item)
            if empty or any(histogram.counts):
                family.add_histogram(labels, histogram)
        return family

    def _single(self, kind: Kind, name: str, text: str, read: Callable[[T], float | None]) -> Family:
        family = Family(kind, f"{self._prefix}_{name}", text)
        for labels, item in self._rows:
            value = read(item)
            if value is not None:
                family.add(labels, value)
        return family

    def _by(
        self, kind: Kind, label: str, name: str, text: str, read: Callable[[T], Mapping[str, float]]
    ) -> Family:
        family = Family(kind, f"{self._prefix}_{name}", text)
        texts: dict[str, str] = {}
        for labels, item in self._rows:
            for key, value in read(item).items():
                own = texts.get(key) or texts.setdefault(key, label_text(**{label: key}))
                family.add(f"{labels},{own}" if labels else own, value)
        return family
