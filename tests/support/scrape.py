"""What /metrics says, taken from a running proxy and read with the parser of prometheus_client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from support.proxies import ProxyProcess
from vsproxy import Proxy

Labels = frozenset[tuple[str, str]]
#: The name as it stands in the line, and the labels.
Key = tuple[str, Labels]


@dataclass(frozen=True)
class Scrape:
    """One scrape: when (seconds since 1970), the values, and by name of a sample the type of its metric."""

    at: float
    samples: dict[Key, float]
    kinds: dict[str, str]

    def value(self, name: str, **labels: str) -> float:
        """The value of the one series of `name` with these labels among others."""
        (found,) = self.values(name, **labels)
        return found

    def values(self, name: str, **labels: str) -> list[float]:
        """The values of all series of `name` with these labels among others."""
        wanted = labels.items()
        return [value for (sample, own), value in self.samples.items() if sample == name and wanted <= set(own)]

    def label_names(self) -> dict[str, set[str]]:
        """By name of a sample, the names of its labels."""
        found: dict[str, set[str]] = {}
        for name, labels in self.samples:
            found.setdefault(name, set()).update(label for label, _ in labels)
        return found


async def scrape(proxy: Proxy | ProxyProcess) -> Scrape:
    """Scrape the admin port."""
    async with aiohttp.ClientSession() as session:
        async with session.get(f"http://{proxy.admin_address}/metrics") as response:
            assert response.status == 200
            text = await response.text()
    samples: dict[Key, float] = {}
    kinds: dict[str, str] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in samples, f"{key} is there twice"
            samples[key] = sample.value
            kinds[sample.name] = family.type
    return Scrape(time.time(), samples, kinds)


async def scrape_until(proxy: Proxy | ProxyProcess, wanted: Callable[[Scrape], bool]) -> Scrape:
    """Scrape until the answer is as wanted: what workers count is there within a sweep or two."""
    deadline = time.monotonic() + 10
    while not wanted(found := await scrape(proxy)):
        assert time.monotonic() < deadline, "the metrics never became what was waited for"
        await asyncio.sleep(0.01)
    return found
