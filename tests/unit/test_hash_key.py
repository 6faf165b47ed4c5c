"""What `balance = "hash"` hashes of a request."""

from __future__ import annotations

import pytest

from support.wire import request
from vsproxy.upstream.balancer import hash_key
from vsproxy.upstream.hash_key import key_of

HEAD = b"GET /a?b HTTP/1.1\r\nHost: x\r\nX-USER: anna\r\nCookie: a=1; session=s2 ; b\r\n\r\n"


@pytest.mark.parametrize(
    ("source", "hashed"),
    [
        ("client", b"192.0.2.1"),
        ("uri", b"/a?b"),
        ("header:X-User", b"anna"),
        ("header:x-user", b"anna"),
        ("header:X-Other", b""),
        ("cookie:session", b"s2"),
        ("cookie:Session", b""),
    ],
)
def test_each_source(source: str, hashed: bytes) -> None:
    assert key_of(source, request(HEAD), "192.0.2.1") == hash_key(hashed)
