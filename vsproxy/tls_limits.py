"""How much of anything TLS on a connection takes, keeps and gives at a time."""

from __future__ import annotations

#: A peer that was sent no more bytes than this has read all of it when it sees the end, and is left without waiting.
#: There are those (uvloop's) that drop what they hold back, of which there may be much, if a FIN comes before they have
#: answered the close_notify.
FEW_BYTES = 64 * 1024
#: One record holds no more bytes than this: a larger buffer would be allocated in vain.
RECORD = 16 * 1024
#: A BIO keeps for good the most that it has held: it is given no more bytes than this at a time. It is also all that
#: OpenSSL reads before it is looked at what came of it.
STEP = 64 * 1024
#: As much of each read is looked at first: in 64 KiB there may be 35 ms of updates of keys.
GLANCE = 4 * 1024
#: Bytes of a handshake. OpenSSL's limit for a client's chain of certificates is 100 KiB.
MAX_HANDSHAKE = 128 * 1024
#: What may come in a second without application data in it, in bytes of records. For each record that has some, as much
#: more as its padding may take (RFC 8446 section 5.4).
MAX_CHAFF = 32 * 1024
#: A byte of what TLS answers by itself counts for so many: an update of keys (27 bytes) that wants another in return,
#: or a renegotiation that is refused (31), takes 15 µs and more.
ANSWER_WEIGHT = 128
