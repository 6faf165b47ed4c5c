"""What is running, how its reloads went, and whether its log is whole."""

from __future__ import annotations

from collections.abc import Iterator

from vsproxy.metrics.families import Family, Table, label_text
from vsproxy.metrics.sources import AccessLogSource, ReloadSource
from vsproxy.version import VERSION, is_compiled


def access_log_families(log: AccessLogSource | None) -> Iterator[Family]:
    """Lines written and lost; 0 without a log, so that there is always something to compare."""
    table = Table("vsproxy_access_log", [("", log)])
    yield table.counter("lines", "Lines of the access log written.", lambda log: log.written if log else 0)
    yield table.counter("lost_lines", "Lines that could not be written.", lambda log: log.lost if log else 0)


def reload_families(reloads: ReloadSource) -> Iterator[Family]:
    """How reloads went."""
    table = Table("vsproxy_config", [("", reloads)])
    yield table.counter_by(
        "result", "reloads", "Reloads asked for, by result.",
        lambda reloads: {"ok": reloads.succeeded, "refused": reloads.refused},
    )  # fmt: skip
    yield table.gauge(
        "last_reload_successful", "1 if the last reload was carried out, 0 if it was refused.",
        lambda reloads: reloads.last_ok,
    )  # fmt: skip
    yield table.gauge(
        "last_reload_timestamp_seconds", "When that was; before the first reload, when the file was read.",
        lambda reloads: reloads.last_time,
    )  # fmt: skip


def build_family() -> Family:
    """The version, and whether the hot modules are the compiled ones."""
    family = Family("info", "vsproxy_build", "What is running.")
    family.add(label_text(version=VERSION, compiled=str(is_compiled()).lower()), 1)
    return family
