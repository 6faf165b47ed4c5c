"""HTTP/1.1 as the tests read it: strict, small, and sharing nothing with the parser under test."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from support.peer import Ended, Peer

FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00\r\n]*?)[ \t]*")
STATUS_LINE = re.compile(rb"HTTP/(1\.[01]) ([1-5][0-9]{2})(?: ([^\x00\r\n]*))?")
REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([!-~\x80-\xff]+) HTTP/(1\.[01])")
CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[^\r\n\x00]*)?\r\n")


class Fields(list[tuple[str, str]]):
    """Field lines in their order; names are looked up without case."""

    def get(self, name: str) -> str | None:
        """The only value of `name`, or None. More than one fails the test."""
        values = self.get_all(name)
        assert len(values) <= 1, f"{name} is repeated: {values}"
        return values[0] if values else None

    def get_all(self, name: str) -> list[str]:
        """Every value of `name`, in order."""
        return [value for key, value in self if key.lower() == name.lower()]

    def has_token(self, name: str, token: str) -> bool:
        """Whether the comma-separated list `name` holds `token`."""
        return any(part.strip().lower() == token for value in self.get_all(name) for part in value.split(","))


@dataclass(slots=True)
class Message:
    """What requests and responses have in common."""

    version: str
    fields: Fields
    body: bytes = b""
    trailers: Fields = field(default_factory=Fields)
    complete: bool = False  # the framing said that the body ended; False: it was cut off
    framing: str = "none"  # none | length | chunked | close
    malformed: str = ""  # set when the body's framing itself was wrong


@dataclass(slots=True)
class Request(Message):
    """A request as a server saw it. `connection` numbers the server's connections from 1, and `introduction` is the
    PROXY header with which it began, as `support.introductions` writes it.
    """

    method: str = ""
    target: str = ""
    connection: int = 0
    introduction: str = ""
    raw: bytes = b""


@dataclass(slots=True)
class Response(Message):
    """A response as a client saw it. `closed` is set only when the body was read to the connection's end."""

    status: int = 0
    reason: str = ""
    interim: list[Response] = field(default_factory=list)
    closed: str | None = None


def parse_fields(block: bytes) -> Fields:
    """Field lines, each ended by CRLF. Anything odd fails the test."""
    fields = Fields()
    for line in block.split(b"\r\n")[:-1]:
        match = FIELD.fullmatch(line)
        assert match, f"malformed field line {line!r}"
        fields.append((match[1].decode(), match[2].decode("latin-1")))
    return fields


def parse_response_head(block: bytes) -> Response:
    """A status line and fields, ended by the empty line."""
    line, _, rest = block[:-2].partition(b"\r\n")
    match = STATUS_LINE.fullmatch(line)
    assert match, f"malformed status line {line!r}"
    return Response(
        version=match[1].decode(),
        fields=parse_fields(rest),
        status=int(match[2]),
        reason=(match[3] or b"").decode("latin-1"),
    )


def parse_request_head(block: bytes) -> Request:
    """A request line and fields, ended by the empty line."""
    line, _, rest = block[:-2].partition(b"\r\n")
    match = REQUEST_LINE.fullmatch(line)
    assert match, f"malformed request line {line!r}"
    return Request(
        version=match[3].decode(),
        fields=parse_fields(rest),
        method=match[1].decode(),
        target=match[2].decode("latin-1"),
        raw=block,
    )


async def read_response_head(peer: Peer) -> Response:
    """The next head, 1xx or not."""
    return parse_response_head(await peer.read_until(b"\r\n\r\n"))


async def read_response(peer: Peer, method: str = "GET") -> Response:
    """The next final response, with the 1xx before it; a cut body gives `complete` False.

    Raises Ended when the connection ends before a whole head.
    """
    interim = []
    response = await read_response_head(peer)
    while response.status < 200 and response.status != 101:
        interim.append(response)
        response = await read_response_head(peer)
    response.interim = interim
    if method == "HEAD" or response.status in (101, 204, 304):
        response.complete = True
        return response
    await read_body(peer, response, until_close=True)
    response.closed = peer.ended
    return response


async def read_request(peer: Peer, with_body: bool = True) -> Request:
    """The next request; without `with_body` only its head. Raises Ended when there is none."""
    request = parse_request_head(await peer.read_until(b"\r\n\r\n"))
    if with_body:
        await read_body(peer, request, until_close=False)
    return request


async def read_body(peer: Peer, message: Message, until_close: bool) -> None:
    """The body of `message`, by its framing; both framings at once fail the test."""
    length = message.fields.get("Content-Length")
    coding = message.fields.get("Transfer-Encoding")
    assert length is None or coding is None, "both Content-Length and Transfer-Encoding"
    if coding is not None:
        assert coding.lower() == "chunked", coding
        message.framing = "chunked"
        await _read_chunked(peer, message)
    elif length is not None:
        assert re.fullmatch("[0-9]+", length), length
        message.framing = "length"
        await _read_length(peer, message, int(length))
    elif until_close:
        message.framing = "close"
        message.body = await peer.read_to_end()
        message.complete = peer.ended == "fin"
    else:
        message.complete = True


async def _read_length(peer: Peer, message: Message, length: int) -> None:
    try:
        message.body = await peer.read_exactly(length)
        message.complete = True
    except Ended as end:
        message.body = end.got


async def _read_chunked(peer: Peer, message: Message) -> None:
    parts = []
    try:
        while True:
            line = await peer.read_until(b"\r\n")
            match = CHUNK_SIZE.fullmatch(line)
            if not match:
                message.malformed = f"chunk size {line!r}"
                return
            size = int(match[1], 16)
            if size == 0:
                break
            parts.append(await peer.read_exactly(size))
            if await peer.read_exactly(2) != b"\r\n":
                message.malformed = "no CRLF after a chunk"
                return
        message.trailers = await _read_trailers(peer)
        message.complete = True
    except Ended as end:
        parts.append(end.got)
    finally:
        message.body = b"".join(parts)


async def _read_trailers(peer: Peer) -> Fields:
    block = b""
    while (line := await peer.read_until(b"\r\n")) != b"\r\n":
        block += line
    return parse_fields(block)


def chunked(*parts: bytes, trailers: str = "") -> bytes:
    """`parts` as one chunk each, the last chunk and the trailers (`"A: b\\r\\n"`) after them."""
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts if part)
    return chunks + b"0\r\n" + trailers.encode() + b"\r\n"


def request_bytes(
    method: str = "GET",
    target: str = "/",
    *,
    host: str = "test.example",
    fields: dict[str, str] | None = None,
    body: bytes | None = None,
    version: str = "1.1",
) -> bytes:
    """A request; a body is framed by Content-Length unless `fields` says otherwise."""
    lines = {"Host": host, **(fields or {})}
    if body is not None and "Transfer-Encoding" not in lines:
        lines.setdefault("Content-Length", str(len(body)))
    head = f"{method} {target} HTTP/{version}\r\n" + "".join(f"{k}: {v}\r\n" for k, v in lines.items())
    return head.encode("latin-1") + b"\r\n" + (body or b"")
