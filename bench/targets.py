"""What vsproxy is to reach: its figure over the better one of nginx and HAProxy in the same run."""

from __future__ import annotations

from dataclasses import dataclass

RIVALS = ("nginx", "haproxy")


@dataclass(frozen=True)
class Target:
    """The ratio to the better of `against` is at most `gate`, and better at most `aim`."""

    gate: float
    aim: float
    against: tuple[str, ...] = RIVALS


@dataclass(frozen=True)
class Absolute:
    """The figure itself is at most `gate`, and better at most `aim`."""

    gate: float
    aim: float


@dataclass(frozen=True)
class Steepness:
    """The line's last point over its first, over the same of the flattest rival's; `aim` is of the line itself."""

    gate: float
    aim: float


RATIOS: dict[str, tuple[Target, ...]] = {
    "keepalive-browser": (Target(1.00, 0.90), Target(0.5, 0.5, ("envoy",)), Target(0.5, 0.5, ("caddy",))),
    "keepalive-30-fields": (Target(1.10, 0.95),),
    "keepalive-log": (Target(1.10, 0.95),),
    "post-1k": (Target(1.05, 0.95),),
    "post-1k-chunked": (Target(1.05, 0.95),),
    "post-64k": (Target(1.05, 0.95),),
    "post-64k-chunked": (Target(1.05, 0.95),),
    "response-16k": (Target(1.05, 0.95),),
    "connection-per-request": (Target(1.20, 1.05),),
    "tls-keepalive": (Target(1.00, 0.90),),
    "tls-full": (Target(1.30, 1.05),),
    "tls-resumed": (Target(1.30, 1.05),),
    "http2": (Target(1.10, 0.90),),
    "download": (Target(0.75, 0.55),),
    "upload": (Target(0.75, 0.55),),
    "download-tls": (Target(1.05, 0.90),),
    "upload-tls": (Target(1.05, 0.90),),
    "websocket-echo": (Target(1.00, 0.90),),
}

# KiB per connection.
ABSOLUTES: dict[str, Absolute] = {"idle-keepalive": Absolute(3.0, 1.5)}

# Every line of what grows; flat is what repeats itself within a twentieth.
STEEPNESS = Steepness(gate=1.10, aim=1.05)
