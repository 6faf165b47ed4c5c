"""The metrics of certificates: how long they last, and whether new ones came into use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from vsproxy.metrics.families import Family, Table, label_text
from vsproxy.metrics.sources import CertificateSource, ListenerSource


def certificate_families(
    listeners: Sequence[ListenerSource], certificates: Mapping[str, CertificateSource]
) -> Iterator[Family]:
    """Every metric with the label certificate, which is the file as configured."""
    expiries = [
        (label_text(listener=listener.address, certificate=file), expiry)
        for listener in listeners
        for file, expiry in listener.certificates.items()
    ]
    yield Table[float]("vsproxy_certificate", expiries).gauge(
        "expiry_timestamp_seconds", "When a certificate of a listener expires.", lambda expiry: expiry
    )
    table = Table[CertificateSource](
        "vsproxy_certificate", [(label_text(certificate=file), counts) for file, counts in certificates.items()]
    )
    yield table.counter_by(
        "result", "changes", "New certificates found in the files, by result.",
        lambda counts: {"ok": counts.taken, "refused": counts.refused},
    )  # fmt: skip
    yield table.gauge(
        "up_to_date", "1 if what is in the files is in use, 0 if it was refused.",
        lambda counts: not counts.refused_now,
    )  # fmt: skip
