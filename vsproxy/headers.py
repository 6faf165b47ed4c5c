# cython: annotation_typing=False
"""What an exchange adds to the fields it passes on: Host, X-Forwarded-*, Forwarded, Via, Connection.

The parser has already set aside what belongs to one connection (RFC 9110 section 7.6.1) and what speaks
about the client; here it is decided what of the latter is kept and what is written anew.
"""

from __future__ import annotations

import ipaddress

from vsproxy.wire.message import RequestHead, ResponseHead, field_start

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

VIA_LINE = b"Via: 1.1 vsproxy\r\n"
VIA_2_LINE = b"Via: 2 vsproxy\r\n"
CHUNKED_LINE = b"Transfer-Encoding: chunked\r\n"
_VIA_LINE, _VIA_2_LINE, _CHUNKED_LINE = VIA_LINE, VIA_2_LINE, CHUNKED_LINE
#: Longer lines (bytes) are not kept for the next request: only who is up to something sends such a Host.
MAX_KNOWN = 2048
_MAX_KNOWN = MAX_KNOWN


def is_trusted(address: str, networks: tuple[Network, ...]) -> bool:
    """Whether `address` (IPv4 or IPv6 text, a zone allowed) lies in one of `networks`."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return any(ip in network for network in networks)


class Forwarding:
    """What the connections of one peer of a listener contribute to the fields of their requests.

    `peer` is the address of who connected ("" for a Unix socket), `trusted` whether it is one of the
    listener's trusted proxies: only then is what it says of its own client kept. `known` are the lines of
    the last request, which are those of the next one too, if its Host is `known_host` as it came and
    `known_upstream_host` as it goes on. `client_cert` are whole lines about the client's certificate, empty on a
    listener that asks for none: only there, a trusted proxy's own are kept.
    """

    __slots__ = (
        "client_cert",
        "constant",
        "forwarded",
        "known",
        "known_host",
        "known_upstream_host",
        "networks",
        "peer",
        "scheme",
        "trusted",
        "via",
    )

    def __init__(
        self,
        peer: str,
        scheme: bytes,
        networks: tuple[Network, ...],
        forwarded: bool,
        via: bool,
        client_cert: bytes = b"",
    ) -> None:
        self.peer = peer
        self.scheme = scheme
        self.networks = networks
        # Whoever reaches a Unix socket is a local front: trusted once the listener trusts anybody.
        self.trusted = bool(networks) and (not peer or is_trusted(peer, networks))
        self.forwarded = forwarded
        self.via = via
        text = (peer or "unix").encode("latin-1")
        self.constant = (
            b"X-Forwarded-For: " + text + b"\r\n"
            b"X-Real-IP: " + text + b"\r\n"
            b"X-Forwarded-Proto: " + scheme + b"\r\n" + client_cert
        )
        self.client_cert = client_cert
        self.known = b""
        self.known_host = b""
        self.known_upstream_host = b""

    def client(self, head: RequestHead) -> str:
        """The client's address: the last one in X-Forwarded-For that is not itself a trusted proxy."""
        if not self.trusted or not head.x_forwarded_for:
            return self.peer or "unix"
        found = self.peer or "unix"
        for item in reversed(head.x_forwarded_for.decode("latin-1").split(",")):
            address = item.strip(" \t")
            try:
                ipaddress.ip_address(address)
            except ValueError:
                break
            found = address
            if not is_trusted(address, self.networks):
                break
        return found

    def lines(self, head: RequestHead, upstream_host: bytes) -> bytes:
        """Host and the forwarding fields of one request, up to the name of X-Request-ID and its colon."""
        if self.known and head.host == self.known_host and upstream_host == self.known_upstream_host:
            return self.known
        if self.trusted:
            lines = self.kept_lines(head)
        elif head.host:
            lines = b"".join((self.constant, b"X-Forwarded-Host: ", head.host, b"\r\n"))
        else:
            lines = self.constant
        if self.forwarded:
            lines += self.forwarded_line(head)
        lines = b"".join((b"Host: ", upstream_host, b"\r\n", lines, b"X-Request-ID: "))
        if not self.trusted and len(lines) <= _MAX_KNOWN:
            self.known = lines
            self.known_host = head.host
            self.known_upstream_host = upstream_host
        return lines

    def kept_lines(self, head: RequestHead) -> bytes:
        """As `lines`, behind a trusted proxy: its word is kept, its address appended."""
        peer = (self.peer or "unix").encode("latin-1")
        chain = head.x_forwarded_for + b", " + peer if head.x_forwarded_for else peer
        real = head.x_real_ip or self.client(head).encode("latin-1")
        lines = [
            b"X-Forwarded-For: ", chain,
            b"\r\nX-Real-IP: ", real,
            b"\r\nX-Forwarded-Proto: ", head.x_forwarded_proto or self.scheme, b"\r\n",
        ]  # fmt: skip
        host = head.x_forwarded_host or head.host
        if host:
            lines += [b"X-Forwarded-Host: ", host, b"\r\n"]
        lines.append(self.client_cert or head.client_cert)
        if head.forwarded and not self.forwarded:
            lines += [b"Forwarded: ", head.forwarded, b"\r\n"]
        return b"".join(lines)

    def forwarded_line(self, head: RequestHead) -> bytes:
        """`Forwarded` of RFC 7239, behind what a trusted proxy already said."""
        peer = self.peer.encode("latin-1")
        if not peer:
            peer = b"unknown"
        elif b":" in peer:
            peer = b'"[' + peer + b']"'
        element = b"for=" + peer + b";proto=" + self.scheme
        if head.host:
            element += b';host="' + head.host + b'"'
        if self.trusted and head.forwarded:
            element = head.forwarded + b", " + element
        return b"Forwarded: " + element + b"\r\n"


def request_lines(
    head: RequestHead, host: bytes, forwarding: Forwarding, request_id: bytes, upgrade: bytes
) -> bytes:
    """The head that goes to a server, framed as `head` says; `upgrade` is what is asked for, or empty."""
    if head.chunked:
        tail = b"Transfer-Encoding: chunked\r\n\r\n"
    elif head.content_length >= 0:
        tail = b"".join((b"Content-Length: ", head.length, b"\r\n\r\n"))
    else:
        tail = b"\r\n"
    if forwarding.via:
        # Behind the Via fields that came, whose order is that of the hops (RFC 9110 section 7.6.3).
        tail = (_VIA_2_LINE if head.minor == 2 else _VIA_LINE) + tail
    if head.expect_continue:
        tail = b"Expect: 100-continue\r\n" + tail
    if upgrade:
        tail = b"".join((b"Connection: Upgrade\r\nUpgrade: ", upgrade, b"\r\n", tail))
    # Ours first: what the client sent is of any length.
    return b"".join((head.line, forwarding.lines(head, host), request_id, b"\r\n", head.fields, tail))


def response_lines(
    head: ResponseHead, chunked: bool, keep_alive: bool, client_minor: int, via: bool, hsts: bytes, body: bytes
) -> bytes:
    """The head that goes to the client, and `body` behind it.

    `chunked` says how the body will be framed if no length is known. `hsts` is a line of Strict-Transport-Security
    for answers that have none of their own, or empty.
    """
    if not keep_alive:
        end = b"Connection: close\r\n\r\n"
    elif client_minor == 0:
        end = b"Connection: keep-alive\r\n\r\n"
    else:
        end = b"\r\n"
    if via:
        end = _VIA_LINE + end
    if hsts and field_start(head.fields, b"strict-transport-security", 25) < 0:
        end = hsts + end
    if chunked:
        return b"".join((head.line, head.fields, _CHUNKED_LINE, end, body))
    if head.content_length >= 0 and head.status != 204:
        return b"".join((head.line, head.fields, b"Content-Length: ", head.length, b"\r\n", end, body))
    return b"".join((head.line, head.fields, end, body))


def interim_lines(head: ResponseHead) -> bytes:
    """A 1xx head. A 101 carries the protocol that was agreed on."""
    if head.status == 101:
        return b"".join(
            (head.line, head.fields, b"Connection: Upgrade\r\nUpgrade: ", head.upgrade, b"\r\n\r\n")
        )
    return b"".join((head.line, head.fields, b"\r\n"))
