"""Workloads: the parsers of heads, as the connections of both sides drive them."""

from __future__ import annotations

from functools import partial

from bench.instructions.messages import BARE_REQUEST, BROWSER_REQUEST, RESPONSE_HEAD, THIRTY_FIELDS_REQUEST
from bench.instructions.workload import Step
from vsproxy.wire.request import RequestParser
from vsproxy.wire.response import ResponseParser

# The defaults of a listener.
MAX_HEAD, MAX_FIELDS, MAX_TARGET = 64 * 1024, 100, 16 * 1024


def bare_request() -> Step:
    """A request line and Host."""
    return request(BARE_REQUEST)


def browser_request() -> Step:
    """Ten fields."""
    return request(BROWSER_REQUEST)


def thirty_fields_request() -> Step:
    """Thirty fields, most of them of no meaning to a proxy."""
    return request(THIRTY_FIELDS_REQUEST)


def request(head: bytes) -> Step:
    """Reads `head`, again and again, on one connection."""
    parser = RequestParser(MAX_HEAD, MAX_FIELDS, MAX_TARGET, False)
    assert parser.parse(head, 0) is not None
    return partial(parser.parse, head, 0)


def response() -> Step:
    """What a static server sends before its body."""
    parser = ResponseParser()
    assert parser.parse(RESPONSE_HEAD, 0) is not None
    return partial(parser.parse, RESPONSE_HEAD, 0)
