"""What `balance = "hash"` hashes of a request."""

from __future__ import annotations

from vsproxy.upstream.balancer import hash_key
from vsproxy.wire.message import RequestHead, field_value


def key_of(source: str, head: RequestHead, client: str) -> int:
    """The key by `source`: `client` (its address), `uri`, `header:NAME` or `cookie:NAME`."""
    kind, _, name = source.partition(":")
    if kind == "uri":
        return hash_key(head.target)
    if kind == "header":
        return hash_key(field_value(head.fields, name.lower().encode("latin-1")) or b"")
    if kind == "cookie":
        return hash_key(_cookie(field_value(head.fields, b"cookie") or b"", name.encode("latin-1")))
    return hash_key(client.encode())


def _cookie(value: bytes, name: bytes) -> bytes:
    for pair in value.split(b";"):
        key, _, content = pair.strip(b" \t").partition(b"=")
        if key == name:
            return content
    return b""
