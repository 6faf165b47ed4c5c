"""That a proxy forwards what all are to forward: one request, whose head the server sends back."""

from __future__ import annotations

import http.client
import ipaddress
import ssl

from bench.errors import VoidError
from bench.peers.base import Setup

_LONGEST_S = 10


def check_forwarded(setup: Setup) -> None:
    """Raises VoidError if a field is missing or wrong, or the certificate does not fit its CA."""
    connection = _connect(setup)
    scheme = "https" if setup.certificate else "http"
    wanted = {
        "host": "localhost",
        "x-forwarded-proto": scheme,
        "x-real-ip": "127.0.0.1",
    }
    try:
        connection.request("GET", f"{setup.prefixes[-1]}head", headers={"Host": "localhost"})
        answer = connection.getresponse()
        text = answer.read().decode("latin-1")
    except (OSError, http.client.HTTPException) as error:
        raise VoidError(f"no answer to the first request: {error!r}") from error
    finally:
        connection.close()
    if answer.status != 200:
        raise VoidError(f"the first request was answered with {answer.status}")
    fields = dict(line.lower().split(": ", 1) for line in text.split("\r\n")[1:] if ": " in line)
    # Envoy names the machine's own address in place of a client's that is a loopback one.
    _check_address(fields.get("x-forwarded-for", ""))
    for name, value in wanted.items():
        if fields.get(name) != value:
            raise VoidError(f"the server gets {name}: {fields.get(name)}, not {value}")


def _check_address(text: str) -> None:
    try:
        ipaddress.ip_address(text)
    except ValueError as error:
        raise VoidError(f"the server gets x-forwarded-for: {text}, which is no address") from error


def _connect(setup: Setup) -> http.client.HTTPConnection:
    if setup.certificate is None:
        return http.client.HTTPConnection("127.0.0.1", setup.port, timeout=_LONGEST_S)
    context = ssl.create_default_context(cafile=str(setup.certificate.ca))
    return http.client.HTTPSConnection("127.0.0.1", setup.port, timeout=_LONGEST_S, context=context)
