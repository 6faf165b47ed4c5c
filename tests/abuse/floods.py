"""Floods, by what they are made of."""

from __future__ import annotations

from dataclasses import dataclass

from abuse.attacker import numbers, post
from support import h2_frames as h2

MANY = 20_000
REQUEST = post(1, "/never")


@dataclass(frozen=True)
class Flood:
    """What is sent, the event that it is counted as, and the code of the GOAWAY that ends it."""

    name: str
    data: bytes
    event: str
    code: int = h2.ENHANCE_YOUR_CALM


def each(count: int, *frames: object) -> bytes:
    """For each of so many streams, what these make of its number."""
    return b"".join(make(number) for number in numbers(count) for make in frames)  # type: ignore[operator]


def block(*frames: bytes) -> bytes:
    """The beginning of a header block, and these."""
    return h2.headers(1, b"", end_headers=False) + b"".join(frames)


FLOODS = {
    "header blocks": [
        Flood(
            "CONTINUATION (CVE-2024-27316)",
            block(h2.continuation(1, b"\x82", end_headers=False) * MANY),
            "continuation flood",
        ),
        Flood(
            "large CONTINUATION",
            block(h2.continuation(1, bytes(16384), end_headers=False) * 100),
            "header block too large",
        ),
        Flood("empty CONTINUATION", block(h2.continuation(1, end_headers=False) * MANY), "continuation flood"),
        Flood("empty HEADERS", each(MANY, lambda n: h2.headers(n, b"")), "empty frames"),
        Flood("empty trailers", REQUEST + h2.headers(1, b"") * MANY, "empty frames"),
    ],
    "settings": [
        Flood("empty SETTINGS", h2.settings() * MANY, "settings flood"),
        Flood("changing SETTINGS", (h2.settings((4, 1)) + h2.settings((4, h2.MAX_WINDOW))) * MANY, "settings flood"),
        Flood("SETTINGS with many entries", h2.settings(*[(1, i) for i in range(2730)]) * 100, "limits exceeded"),
        Flood("acknowledged SETTINGS", h2.settings_ack() * MANY, "protocol error", h2.PROTOCOL_ERROR),
    ],
    "pings": [
        Flood("PING", h2.ping() * MANY, "ping flood"),
        Flood("answers to PING", h2.ping(ack=True) * MANY, "ping flood"),
        Flood("GOAWAY", REQUEST + h2.goaway() * MANY, "goaway flood"),
        Flood("unknown frames", h2.raw(200, 0, 0) * MANY, "unknown frame flood"),
        Flood("large unknown frames", h2.raw(200, 0, 0, bytes(16384)) * 200, "more framing than content"),
    ],
    "priorities and windows": [
        Flood("PRIORITY", h2.priority(3) * MANY, "priority flood"),
        Flood("PRIORITY in a circle", (h2.priority(3, 5) + h2.priority(5, 3)) * MANY, "priority flood"),
        Flood("PRIORITY_UPDATE of no stream", each(MANY, h2.priority_update), "protocol error", h2.PROTOCOL_ERROR),
        Flood("PRIORITY_UPDATE of one", REQUEST + h2.priority_update(1) * MANY, "priority update flood"),
        Flood("WINDOW_UPDATE", h2.window_update(0, 1) * MANY, "window update flood"),
        Flood("WINDOW_UPDATE of a stream", REQUEST + h2.window_update(1, 1) * MANY, "window update flood"),
        Flood("large WINDOW_UPDATE", REQUEST + h2.window_update(1, 1 << 30) * MANY, "window update flood"),
    ],
    "empty bodies": [
        Flood("empty DATA", REQUEST + h2.data(1) * MANY, "empty frames"),
        Flood("padding alone", REQUEST + h2.data(1, padding=255) * 6000, "empty frames"),
    ],
}
