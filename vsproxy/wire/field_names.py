"""The fields with a meaning for the proxy itself, as numbers, and how a name is taken for one of them."""

from __future__ import annotations

# 0 is every other field.
HOST = 1
CONTENT_LENGTH = 2
TRANSFER_ENCODING = 3
CONNECTION = 4
KEEP_ALIVE = 5
PROXY_CONNECTION = 6
UPGRADE = 7
TE = 8
HTTP2_SETTINGS = 9
EXPECT = 10
X_FORWARDED_FOR = 11
X_FORWARDED_PROTO = 12
X_FORWARDED_HOST = 13
X_REAL_IP = 14
X_REQUEST_ID = 15
FORWARDED = 16
# What is said about the client's certificate: several names, `CLIENT_CERT_NAMES`.
CLIENT_CERT = 17
UNDERSCORED = 18
# They stay as they are, and are only to be found again.
REFERER = 19
USER_AGENT = 20
KNOWN_NAMES = (
    b"",
    b"host",
    b"content-length",
    b"transfer-encoding",
    b"connection",
    b"keep-alive",
    b"proxy-connection",
    b"upgrade",
    b"te",
    b"http2-settings",
    b"expect",
    b"x-forwarded-for",
    b"x-forwarded-proto",
    b"x-forwarded-host",
    b"x-real-ip",
    b"x-request-id",
    b"forwarded",
)
CLIENT_CERT_NAMES = (
    b"x-client-cert-verify",
    b"x-client-cert-subject",
    b"x-client-cert-issuer",
    b"x-client-cert-serial",
    b"x-client-cert-fingerprint",
    b"x-client-cert-not-after",
    b"client-cert",
    b"client-cert-chain",
)
LONGEST_KNOWN = 25


def guesses() -> bytes:
    """The only field with a number that a name may be, by its length and first letter."""
    table = bytearray(32 * (LONGEST_KNOWN + 1))
    for kind, name in enumerate(KNOWN_NAMES[1:], 1):
        table[32 * len(name) + (name[0] & 31)] = kind
    for name in CLIENT_CERT_NAMES:
        table[32 * len(name) + (name[0] & 31)] = CLIENT_CERT
    table[32 * 7 + 18], table[32 * 10 + 21] = REFERER, USER_AGENT
    return bytes(table)
