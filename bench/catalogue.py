"""All scenarios, in the order in which they run."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bench import requests
from bench.load import Load
from bench.pattern import pattern
from bench.scenario import Figure, Kind, Line, Scenario

KIB, MIB, GIB = 1024, 1024**2, 1024**3
_SMALL = 12
# Client addresses: connections that were closed hold their ports for a minute.
_SOURCES = 50


@dataclass(frozen=True)
class Scale:
    """How large the large things are: `transfer` in bytes, `idle` and `active` in connections."""

    transfer: int
    handshakes: int
    idle: int
    active: int
    every_point: bool


def full_scale(most_connections: int) -> Scale:
    """As far as the open files allow."""
    # Envoy opens more connections to servers than it has requests, while those that it has opened are not ready.
    active = most_connections * 2 // 3
    return Scale(GIB, 5000, min(10_000, most_connections), min(10_000, active), True)


def quick_scale(most_connections: int) -> Scale:
    """What can be seen in two minutes."""
    return Scale(64 * MIB, 200, min(1000, most_connections), min(1000, most_connections), False)


def all_scenarios(scale: Scale) -> list[Scenario]:
    """Every one of them."""
    return [
        *_keepalive(),
        *_bodies(),
        *_connections(scale),
        *_transfers(scale),
        *_websockets(),
        _open_loop(),
        *_idle(scale),
        *_growth(scale),
    ]


def _get(size: int = _SMALL, fields: dict[str, str] = requests.BROWSER, connections: int = 64) -> Load:
    return Load((requests.get(size, fields),), size=size, sources=_SOURCES, connections=connections)


def _keepalive() -> list[Scenario]:
    browser = _get()
    return [
        Scenario("keepalive-bare", "Keepalive, bare heads", _get(fields=requests.BARE)),
        Scenario("keepalive-browser", "Keepalive, a browser's heads", browser),
        Scenario("keepalive-30-fields", "Keepalive, 30 fields", _get(fields=requests.THIRTY_FIELDS)),
        Scenario("keepalive-log", "Keepalive, a browser's heads, access log on", browser, access_log=True),
    ]


def _post(size: int, chunk: int = 0) -> Load:
    body = pattern(size)
    if chunk:
        request = requests.post_chunked(_SMALL, body, requests.BROWSER, chunk)
    else:
        request = requests.post(_SMALL, body, requests.BROWSER)
    return Load((request,), size=_SMALL, sources=_SOURCES)


def _bodies() -> list[Scenario]:
    quiet = "POST of 1 KiB, to servers that do not say how long they keep connections"
    return [
        Scenario("post-1k", "POST of 1 KiB", _post(KIB)),
        Scenario("post-1k-chunked", "POST of 1 KiB, chunked", _post(KIB, KIB), quick=False),
        Scenario("post-1k-unannounced", quiet, _post(KIB), announce=False, quick=False),
        Scenario("post-64k", "POST of 64 KiB", _post(64 * KIB)),
        Scenario("post-64k-chunked", "POST of 64 KiB, chunked by 8 KiB", _post(64 * KIB, 8 * KIB), quick=False),
        Scenario("response-16k", "Answers of 16 KiB", _get(16 * KIB)),
        Scenario("response-1m", "Answers of 1 MiB", _get(MIB, connections=16)),
    ]


def _connections(scale: Scale) -> list[Scenario]:
    closing = Load((requests.get_closing(_SMALL, requests.BROWSER),), size=_SMALL, sources=_SOURCES, close=True)
    full = Load(closing.requests, size=_SMALL, sources=_SOURCES, close=True, tls=True, count=scale.handshakes)
    resumed = Load(
        closing.requests, size=_SMALL, sources=_SOURCES, close=True, tls=True, resume=True, count=scale.handshakes
    )
    kept = Load(_get().requests, size=_SMALL, sources=_SOURCES, tls=True)
    streams = Load((), connections=16, size=_SMALL, tls=True)
    return [
        Scenario("connection-per-request", "A connection per request", closing),
        Scenario("tls-keepalive", "TLS, keepalive", kept, tls=True),
        Scenario("tls-full", "TLS, a full handshake per request", full, tls=True),
        Scenario("tls-resumed", "TLS, a resumed session per request", resumed, tls=True),
        Scenario(
            "http2",
            "HTTP/2 over TLS, 10 streams on each of 16 connections",
            streams,
            Kind.HTTP2,
            tls=True,
            http2=True,
            # As many may be idle as are in use, or each burst would open and close most of them.
            keepalive=160,
        ),
    ]


def _transfers(scale: Scale) -> list[Scenario]:
    size = scale.transfer
    amount = f"{size // GIB} GiB" if size >= GIB else f"{size // MIB} MiB"
    found = []
    for tls, how in ((False, ""), (True, " over TLS")):
        down = Load((requests.get(size, requests.BROWSER),), size=size, connections=1, count=1, close=True, tls=tls)
        head = requests.upload_head(_SMALL, size, requests.BROWSER)
        up = Load((head,), size=_SMALL, upload=size, connections=1, count=1, close=True, tls=tls)
        suffix = "-tls" if tls else ""
        for name, title, load in (
            (f"download{suffix}", f"Download of {amount}{how}", down),
            (f"upload{suffix}", f"Upload of {amount}{how}", up),
        ):
            found.append(Scenario(name, title, load, figure=Figure.CPU_MS_PER_GIB, unit="transfer", tls=tls, length=0))
    return found


def _websockets() -> list[Scenario]:
    load = Load((requests.websocket(),), frame=128, connections=100, sources=_SOURCES)
    return [Scenario("websocket-echo", "WebSocket echo, 100 connections, 128 bytes", load, unit="message")]


def _open_loop() -> Scenario:
    title = "One rate for all: half of what the slowest can do"
    return Scenario("open-loop", title, _get(), Kind.OPEN, Figure.P99_US)


def _idle(scale: Scale) -> list[Scenario]:
    many = scale.idle
    kept = _get(connections=many)
    tunnels = Load((requests.websocket(),), frame=128, connections=many, sources=_SOURCES)
    return [
        Scenario(
            "idle-keepalive",
            f"{many:,} idle keepalive connections",
            kept,
            Kind.IDLE,
            Figure.KIB,
            "connection",
            length=0,
        ),
        Scenario(
            "idle-websockets", f"{many:,} idle WebSockets", tunnels, Kind.IDLE, Figure.KIB, "connection", length=0
        ),
    ]


def _points(scale: Scale, *points: int) -> tuple[int, ...]:
    return points if scale.every_point else (points[0], points[-1])


def _growth(scale: Scale) -> list[Scenario]:
    return [*_more_servers(scale), *_more_routes(scale), *_more_connections(scale), *_more_workers()]


def _more_servers(scale: Scale) -> list[Scenario]:
    counts = _points(scale, 2, 10, 100, 1000)
    return [replace(_point("servers", n, f"A pool of {n:,} servers", _get()), servers=n) for n in counts]


def _more_routes(scale: Scale) -> list[Scenario]:
    found = []
    # Caddy reads ten thousand for longer than a quick run may take.
    for count in (1, 100, 10_000) if scale.every_point else (1, 1000):
        prefixes = ["/"] if count == 1 else [f"/r{number}/" for number in range(count)]
        load = Load(requests.spread(_SMALL, requests.BROWSER, prefixes), size=_SMALL, sources=_SOURCES)
        found.append(replace(_point("routes", count, f"{count:,} routes", load), routes=count))
    return found


def _more_connections(scale: Scale) -> list[Scenario]:
    found = []
    for count in _points(scale, 1, 10, 100, 1000, scale.active):
        point = _point("connections", count, f"{count:,} connections", _get(connections=count))
        # As many may be idle as are in use, or each burst would open and close most of them.
        found.append(replace(point, keepalive=max(64, count)))
    return found


def _more_workers() -> list[Scenario]:
    return [replace(_point("workers", n, f"{n} workers", _get()), workers=n) for n in (1, 2)]


def _point(line: str, x: int, title: str, load: Load) -> Scenario:
    return Scenario(f"{line}-{x}", title, load, line=Line(line, x), length=0.5)
