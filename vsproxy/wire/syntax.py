# cython: annotation_typing=False
"""The grammar of RFC 9110 and 9112 at the level of bytes: character classes and small recognisers.

Nothing here uses the text methods of `bytes`: several of them accept more than HTTP does.
"""

from __future__ import annotations

# Bits of a character's class.
NAME = 1  # tchar of RFC 9110 5.6.2 but "_", which back ends may read as "-"
TOKEN = 2  # tchar
VALUE = 4  # what a field value may hold: HTAB, SP, VCHAR, obs-text (RFC 9110 5.5)
TARGET = 8  # what a request target may hold: visible ASCII but "#"
PATH = 16  # the same but "?"
HOST = 32  # uri-host as a name (RFC 3986 3.2.2); without "," that a list parser would split at
IPV6 = 64  # inside the brackets of an IPv6 address

_DIGITS = frozenset(b"0123456789")
_LETTERS = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_TCHARS = _DIGITS | _LETTERS | frozenset(b"!#$%&'*+-.^_`|~")
_HOST_CHARS = _DIGITS | _LETTERS | frozenset(b"-._~%!$&'()*+;=")
_IPV6_CHARS = frozenset(b"0123456789abcdefABCDEF:.")


def _classify(byte: int) -> int:
    bits = 0
    if byte in _TCHARS:
        bits |= TOKEN if byte == ord("_") else TOKEN | NAME
    if byte == 9 or (byte >= 32 and byte != 127):
        bits |= VALUE
    if 32 < byte < 127 and byte != ord("#"):
        bits |= TARGET if byte == ord("?") else TARGET | PATH
    if byte in _HOST_CHARS:
        bits |= HOST
    if byte in _IPV6_CHARS:
        bits |= IPV6
    return bits


CLASSES = bytes([_classify(byte) for byte in range(256)])
"""The class bits of every byte."""
LOWER = bytes([byte + 32 if 65 <= byte <= 90 else byte for byte in range(256)])
"""Every byte with ASCII letters in lower case, also a table for `bytes.translate`."""

MAX_LENGTH = 2**63 - 1
_CLASSES, _LOWER = CLASSES, LOWER
_TOKEN, _VALUE, _HOST, _IPV6 = TOKEN, VALUE, HOST, IPV6
_MAX_TENTH, _MAX_LAST_DIGIT = MAX_LENGTH // 10, MAX_LENGTH % 10


def all_of(data: bytes, start: int, end: int, classes: int) -> bool:
    """Whether data[start:end] is not empty and every byte of it is of one of `classes`."""
    table = _CLASSES
    i = start
    while i < end and table[data[i]] & classes:
        i += 1
    return i == end and end > start


def same_name(data: bytes, start: int, end: int, name: bytes, length: int) -> bool:
    """Whether data[start:end] is `name` (lower case, of `length` bytes) but for the case of ASCII letters."""
    if end - start != length:
        return False
    table = _LOWER
    i = 0
    while i < length:
        if table[data[start + i]] != name[i]:
            return False
        i += 1
    return True


def part(data: bytes, start: int, end: int) -> bytes:
    """data[start:end], where 0 <= start <= end <= len(data)."""
    return data[start:end]


def skip_blanks(data: bytes, start: int, end: int) -> int:
    """The offset of the first byte in data[start:end] that is neither SP nor HTAB, or `end`."""
    while start < end and (data[start] == 32 or data[start] == 9):
        start += 1
    return start


def trim_blanks(data: bytes, start: int, end: int) -> int:
    """`end`, moved left over trailing SP and HTAB."""
    while end > start and (data[end - 1] == 32 or data[end - 1] == 9):
        end -= 1
    return end


def element_end(data: bytes, start: int, end: int) -> int:
    """The offset of the next comma in data[start:end], or `end`."""
    while start < end and data[start] != 44:
        start += 1
    return start


def decimal(data: bytes, start: int, end: int) -> int:
    """The value of data[start:end] as 1*DIGIT, at most `MAX_LENGTH`; -1 if it is anything else."""
    if start >= end:
        return -1
    value = 0
    i = start
    while i < end:
        digit = data[i] - 48
        if digit < 0 or digit > 9:
            return -1
        if value > _MAX_TENTH or (value == _MAX_TENTH and digit > _MAX_LAST_DIGIT):
            return -1
        value = value * 10 + digit
        i += 1
    return value


def hex_digit(byte: int) -> int:
    """The value of one HEXDIG, -1 if it is none."""
    if 48 <= byte <= 57:
        return byte - 48
    if 97 <= byte <= 102:
        return byte - 87
    if 65 <= byte <= 70:
        return byte - 55
    return -1


def lists_trailers(data: bytes, start: int, end: int) -> bool:
    """Whether the TE value data[start:end] has the member "trailers" (RFC 9110 10.1.4)."""
    while start < end:
        start = skip_blanks(data, start, end)
        comma = element_end(data, start, end)
        if same_name(data, start, trim_blanks(data, start, comma), b"trailers", 8):
            return True
        start = comma + 1
    return False


def is_version(data: bytes, start: int) -> bool:
    """Whether the eight bytes at `start` have the form of an HTTP version (RFC 9112 2.3)."""
    return (
        data[start] == 72
        and data[start + 1] == 84
        and data[start + 2] == 84
        and data[start + 3] == 80
        and data[start + 4] == 47
        and 48 <= data[start + 5] <= 57
        and data[start + 6] == 46
        and 48 <= data[start + 7] <= 57
    )


def http_minor(data: bytes, start: int) -> int:
    """1 or 0 if the eight bytes at `start` are HTTP/1.1 or HTTP/1.0, else -1."""
    if not is_version(data, start) or data[start + 5] != 49 or data[start + 7] > 49:
        return -1
    return data[start + 7] - 48


def is_host(data: bytes, start: int, end: int) -> bool:
    """Whether data[start:end] is a host that is not empty, with an optional port (RFC 9110 7.2)."""
    i = start
    if i < end and data[i] == 91:  # "["
        i += 1
        colons = 0
        while i < end and _CLASSES[data[i]] & _IPV6:
            if data[i] == 58:
                colons += 1
            i += 1
        if colons < 2 or i >= end or data[i] != 93:
            return False
        i += 1
    else:
        while i < end and _CLASSES[data[i]] & _HOST:
            i += 1
    if i == start:
        return False
    if i == end:
        return True
    port_digits = end - i - 1
    return data[i] == 58 and 1 <= port_digits <= 5 and 0 <= decimal(data, i + 1, end) <= 65535


def field_name_end(data: bytes, start: int, end: int) -> int:
    """The offset of the colon if data[start:end] is one field line without its CRLF, else -1."""
    i = start
    while i < end and _CLASSES[data[i]] & _TOKEN:
        i += 1
    if i == start or i >= end or data[i] != 58:
        return -1
    if i + 1 < end and not all_of(data, i + 1, end, _VALUE):
        return -1
    return i


def is_chunk_extension(data: bytes, start: int, end: int) -> bool:
    """Whether data[start:end] is *( ";" token [ "=" ( token / quoted-string ) ] ) (RFC 9112 7.1.1).

    The "bad" whitespace that the grammar tolerates there is refused.
    """
    i = start
    while i < end:
        if data[i] != 59:
            return False
        i = token_end(data, i + 1, end)
        if i < 0:
            return False
        if i < end and data[i] == 61:
            i += 1
            i = quoted_end(data, i + 1, end) if i < end and data[i] == 34 else token_end(data, i, end)
            if i < 0:
                return False
    return True


def token_end(data: bytes, start: int, end: int) -> int:
    """The offset after the token at `start`, -1 if there is none."""
    i = start
    while i < end and _CLASSES[data[i]] & _TOKEN:
        i += 1
    return i if i > start else -1


def quoted_end(data: bytes, start: int, end: int) -> int:
    """The offset after the closing quote of a quoted-string whose content begins at `start`, -1 if bad."""
    i = start
    while i < end and data[i] != 34:
        if data[i] == 92:  # the backslash of a quoted-pair
            i += 1
            if i >= end:
                return -1
        if not _CLASSES[data[i]] & _VALUE:
            return -1
        i += 1
    return i + 1 if i < end else -1


def bad_line_reason(data: bytes, start: int, stop: int) -> str:
    """Why the field line at `start`, which could not be read past `stop`, is refused."""
    byte = data[stop]
    if byte == 10:
        return "bare lf"
    if byte == 13 and data[stop + 1] != 10:
        return "bare cr"
    if stop == start:
        return "folded line" if byte == 32 or byte == 9 else "bad field name"
    if data.find(b":", start, stop) < 0:
        return "blank before colon" if byte == 32 or byte == 9 else "bad field name"
    return "bad field value"
