# cython: annotation_typing=False
"""The bytes of a log line, put into a buffer one piece behind the other. No line is taken apart again.

All functions take the buffer and the offset in it, and return the offset after what they have put there. They
do not look how large the buffer is: `room_for` says what the caller has to have room for.
"""

from __future__ import annotations

# Before what cannot stand in a line as it is, the longest: `\u00ff`.
_LONGEST_ESCAPE = 6
# Of a number without sign, of 64 bits.
_MOST_DIGITS = 20
_MICROSECONDS = 1e6

MOST_DIGITS = _MOST_DIGITS
#: Bytes that a duration takes at most: digits, a point, three digits.
MOST_OF_DURATION = MOST_DIGITS + 4


def room_for(size: int) -> int:
    """Bytes that `put_text` needs at most for `size` bytes."""
    return _LONGEST_ESCAPE * size


def put(buf: bytearray, at: int, data: bytes) -> int:
    """`data` as it is."""
    source = data
    size = len(data)
    i = 0
    while i < size:
        buf[at + i] = source[i]
        i += 1
    return at + size


def is_plain(data: bytes, start: int, end: int) -> bool:
    """Whether data[start:end] is printable ASCII without quote and backslash."""
    special = 0
    i = start
    # All of it, without leaving early: a loop of this form is what compilers turn into vectors.
    while i < end:
        byte = data[i]
        special |= (byte < 32) | (byte > 126) | (byte == 34) | (byte == 92)
        i += 1
    return special == 0


def put_text(buf: bytearray, at: int, data: bytes, start: int, end: int, escapes: list[bytes]) -> int:
    """data[start:end], where `escapes` has what stands for each byte that is not plain."""
    source = data
    i = start
    if is_plain(data, start, end):
        while i < end:
            buf[at + i - start] = source[i]
            i += 1
        return at + end - start
    while i < end:
        at = put(buf, at, escapes[source[i]])
        i += 1
    return at


def put_number(buf: bytearray, at: int, number: int) -> int:
    """`number`, which is not negative and less than 2**63, in decimal digits."""
    rest = number
    end = at + 1
    while rest >= 10:
        rest = rest // 10
        end += 1
    rest = number
    i = end - 1
    while i >= at:
        buf[i] = 48 + rest % 10
        rest = rest // 10
        i -= 1
    return end


def put_three_digits(buf: bytearray, at: int, number: int) -> int:
    """`number`, from 0 to 999, in three digits."""
    buf[at] = 48 + number // 100
    buf[at + 1] = 48 + number // 10 % 10
    buf[at + 2] = 48 + number % 10
    return at + 3


def put_milliseconds(buf: bytearray, at: int, seconds: float) -> int:
    """`seconds` as milliseconds with microseconds behind the point; `null` if negative."""
    if seconds < 0.0:
        return put(buf, at, b"null")
    micros = int(seconds * _MICROSECONDS + 0.5)
    at = put_number(buf, at, micros // 1000)
    buf[at] = 46
    return put_three_digits(buf, at + 1, micros % 1000)
