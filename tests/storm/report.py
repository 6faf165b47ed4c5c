"""The figures of a storm, as a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from storm.ledger import Ledger, Reload
from storm.run import Result

MIB = 1 << 20


def report(result: Result) -> str:
    """The whole table."""
    ledger = result.ledger
    lines = [
        *_requests(ledger, result.seconds),
        *_failures(result),
        *_reloads(ledger.reloads),
        *_kills(ledger),
        "WebSockets",
        _row("opened", ledger.websockets_opened),
        _row("alive at the end", ledger.websockets_alive),
    ]
    return "\n".join(lines)


def _row(what: str, *figures: object) -> str:
    return f"  {what:<38}" + "".join(f"{figure!s:>12}" for figure in figures)


def _requests(ledger: Ledger, seconds: float) -> list[str]:
    kinds = sorted(ledger.answered.items())
    requests = sum(count for kind, count in kinds if not kind.startswith("WebSocket"))
    return [
        f"{'answered in ' + f'{seconds:.0f} s':<40}{'number':>12}{'slowest, ms':>12}",
        *(_row(kind, count, f"{1000 * ledger.slowest.get(kind, 0.0):.0f}") for kind, count in kinds),
        _row("all but messages of WebSockets", requests),
        _row("connections opened", ledger.connections),
        _row("MiB of bodies up, down", f"{ledger.bytes_up / MIB:.0f}", f"{ledger.bytes_down / MIB:.0f}"),
    ]


def _failures(result: Result) -> list[str]:
    lines = ["failed"]
    for reason, failures in result.verdict.explained.items():
        kinds = Counter(failure.kind for failure in failures)
        lines.append(_row(reason, len(failures)))
        lines += [_row(f"  {kind}", count) for kind, count in sorted(kinds.items())]
    return [*lines, _row("UNEXPLAINED", len(result.verdict.unexplained))]


def _reloads(reloads: Sequence[Reload]) -> list[str]:
    lines = [f"{'reloads':<40}{'number':>12}{'p50, ms':>12}{'slowest, ms':>12}"]
    for good in (True, False):
        for way in ("signal", "command"):
            some = [reload.seconds for reload in reloads if (reload.good, reload.way) == (good, way)]
            lines.append(_row(f"{'good' if good else 'refused'}, by {way}", len(some), *_spread(some)))
    return lines


def _kills(ledger: Ledger) -> list[str]:
    lines = [f"{'killed':<40}{'number':>12}{'p50, ms':>12}{'slowest, ms':>12}   until replaced"]
    for name, seconds in sorted(ledger.replaced.items()):
        lines.append(_row(name, len(seconds), *_spread(seconds)))
    held = sum(len(kill.wires) for kill in ledger.process_kills)
    lines.append(_row("connections held by killed workers", held))
    queued = sum(kill.waiting for kill in ledger.process_kills if kill.wires)
    lines.append(_row("waiting in queues then, all served", queued))
    return [*lines, _row("servers, each returned", len(ledger.server_kills))]


def _spread(seconds: Iterable[float]) -> list[str]:
    """Median and greatest, in ms."""
    ordered = sorted(seconds)
    return [f"{1000 * ordered[n]:.0f}" for n in (len(ordered) // 2, -1)] if ordered else []
