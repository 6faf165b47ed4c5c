"""Says in time that a certificate expires, since afterwards nobody gets in."""

from __future__ import annotations

import logging
import time

from vsproxy.tls_pair import Pairs

DAY = 24 * 3600.0
#: Days before the end of a certificate from which on it is told.
WARN_DAYS = 21

log = logging.getLogger("vsproxy")


class ExpiryWarnings:
    """What was told of each certificate, and when."""

    def __init__(self) -> None:
        self._told: dict[tuple[str, float], float] = {}

    def look(self, pairs: Pairs) -> None:
        """Say of each certificate in use that it expires soon, or has expired: at once, and then once a day."""
        now = time.time()
        told: dict[tuple[str, float], float] = {}
        for files, pair in pairs.items():
            left = pair.expiry - now
            if left > WARN_DAYS * DAY:
                continue
            key = (files.cert, pair.expiry)
            told[key] = self._told.get(key, 0.0)
            if now - told[key] >= DAY:
                told[key] = now
                _warn(files.cert, pair.expiry, left)
        self._told = told


def _warn(cert: str, expiry: float, left: float) -> None:
    if left < 0:
        log.warning("the certificate in %s has expired on %s", cert, written_date(expiry))
    else:
        days = int(left // DAY)
        unit = "day" if days == 1 else "days"
        log.warning("the certificate in %s expires in %d %s, on %s", cert, days, unit, written_date(expiry))


def written_date(seconds: float) -> str:
    """A moment in seconds since 1970, as messages have it."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))
