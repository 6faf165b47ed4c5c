"""`python -m h2spec HOST PORT`: all cases against a server, and which it does not pass."""

from __future__ import annotations

import argparse
import asyncio
import ssl

from h2spec.dialog import Target
from h2spec.run import CASES, run


def client_context(ca: str | None) -> ssl.SSLContext:
    """A client of HTTP/2 that checks the certificate if it is told whose to trust."""
    context = ssl.create_default_context(cafile=ca)
    if ca is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    return context


def main() -> int:
    """Run, print, and fail if a case was missed."""
    parser = argparse.ArgumentParser(prog="h2spec", description=__doc__)
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--tls", action="store_true", help="TLS with ALPN; cleartext with prior knowledge otherwise")
    parser.add_argument("--ca", help="trust only this, and check the name")
    parser.add_argument("--path", default="/")
    parser.add_argument("--patience", type=float, default=2.0, help="seconds without a frame until a case is missed")
    parser.add_argument("--strict", action="store_true", help="errors need GOAWAY or RST_STREAM with the right code")
    parser.add_argument("--at-once", type=int, default=1)
    parser.add_argument("cases", nargs="*", help="their names, or beginnings of them; otherwise all")
    arguments = parser.parse_args()
    tls = client_context(arguments.ca) if arguments.tls else None
    target = Target(arguments.host, arguments.port, tls, arguments.path, arguments.patience, arguments.strict)
    cases = [case for case in CASES if not case.beyond or arguments.strict]
    if arguments.cases:
        cases = [case for case in cases if case.id.startswith(tuple(arguments.cases))]
    outcomes = asyncio.run(run(target, cases, arguments.at_once))
    for one in outcomes:
        if one.missed or one.skipped:
            how = "missed" if one.missed else "skipped"
            print(f"{how} {one.case.id} {one.case.title}: {one.missed or one.skipped}")
    missed = sum(bool(one.missed) for one in outcomes)
    skipped = sum(bool(one.skipped) for one in outcomes)
    print(f"{len(outcomes)} cases, {len(outcomes) - missed - skipped} passed, {missed} missed, {skipped} skipped")
    return bool(missed)


if __name__ == "__main__":
    raise SystemExit(main())
