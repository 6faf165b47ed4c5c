"""The requests that the load sends, as bytes."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

BROWSER = {
    "User-Agent": (
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36"
    ),
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Accept-Language": "en-US,en;q=0.9,de;q=0.8",
    "Cookie": "session=0123456789abcdef0123456789abcdef; theme=dark",
    "Sec-Fetch-Dest": "document",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Site": "none",
    "Upgrade-Insecure-Requests": "1",
}
_WEBSOCKET = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "x3JJHMbDL1EzLkh9GBhXDw==",
}
_HOST = {"Host": "localhost"}

BARE: dict[str, str] = {}
# With Host, 30 fields.
THIRTY_FIELDS = {**BROWSER, **{f"X-Field-{number}": f"value-{number:032d}" for number in range(20)}}


def get(size: int, fields: dict[str, str], prefix: str = "/") -> bytes:
    """For an answer of `size` bytes."""
    return _head("GET", f"{prefix}b/{size}", fields)


def get_closing(size: int, fields: dict[str, str]) -> bytes:
    """The same, and nothing after it on this connection."""
    return get(size, {**fields, "Connection": "close"})


def spread(size: int, fields: dict[str, str], prefixes: Sequence[str]) -> tuple[bytes, ...]:
    """One for each prefix, in an order that is mixed, and the same each time."""
    mixed = list(prefixes)
    random.Random(1).shuffle(mixed)
    return tuple(get(size, fields, prefix) for prefix in mixed)


def upload_head(answer: int, body: int, fields: dict[str, str]) -> bytes:
    """The head of a POST whose body of `body` bytes is sent after it."""
    return _head("POST", f"/b/{answer}/u/{body}", {**fields, "Content-Length": str(body)})


def post(answer: int, body: bytes, fields: dict[str, str]) -> bytes:
    """A POST with its body."""
    return upload_head(answer, len(body), fields) + body


def post_chunked(answer: int, body: bytes, fields: dict[str, str], chunk: int) -> bytes:
    """A POST with its body in chunks of `chunk` bytes."""
    pieces = (body[at : at + chunk] for at in range(0, len(body), chunk))
    framed = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    head = _head("POST", f"/b/{answer}/u/{len(body)}", {**fields, "Transfer-Encoding": "chunked"})
    return head + framed + b"0\r\n\r\n"


def websocket() -> bytes:
    """The opening handshake."""
    return _head("GET", "/ws", _WEBSOCKET)


def records(requests: Iterable[bytes]) -> bytes:
    """As the load reads them: each with its length before it, four bytes, the highest first."""
    return b"".join(len(request).to_bytes(4, "big") + request for request in requests)


def _head(method: str, target: str, fields: dict[str, str]) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in {**_HOST, **fields}.items())]
    return "\r\n".join((*lines, "", "")).encode()
