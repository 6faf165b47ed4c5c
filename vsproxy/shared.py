"""Memory that the supervisor makes before it forks: tables of counters and boards with texts.

No locks: each row of a table and each board has one writer, and readers take what is there. Numbers are
eight bytes and aligned, so none is ever seen half written; what is read of several of them may be from
different moments. A process that dies leaves what it had written last, and its successor goes on from there.
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress

WORD = 8
_NUMBER = struct.Struct("@q")
#: A publication that is being overwritten while it is read is read again; the writer is never that fast.
READ_TRIES = 1000


class Table:
    """`rows` x `slots` of records with the fields of `layout` (struct codes `q` and `d`).

    The first field of every record is its serial: what a slot counts for. A slot whose serial is not the one
    that a reader wants holds the counts of something that is no more.
    """

    __slots__ = ("_memory", "_row_size", "_struct", "rows", "slots")

    def __init__(self, memory: memoryview, rows: int, slots: int, layout: str) -> None:
        self.rows = rows
        self.slots = slots
        self._struct = struct.Struct("@" + layout)
        self._row_size = slots * self._struct.size
        self._memory = memory

    @staticmethod
    def size(rows: int, slots: int, layout: str) -> int:
        """Bytes that such a table takes."""
        return rows * slots * struct.calcsize("@" + layout)

    def write(self, row: int, slot: int, values: Sequence[float]) -> None:
        """Put a record, serial first."""
        self._struct.pack_into(self._memory, self._offset(row, slot), *values)

    def read(self, row: int, slot: int) -> tuple[float, ...]:
        """The record that is there; all zeros if there never was one."""
        return self._struct.unpack_from(self._memory, self._offset(row, slot))

    def records(self, slot: int, serial: int) -> Iterator[tuple[float, ...]]:
        """The records of `serial` in `slot`, of all rows that have one."""
        for row in range(self.rows):
            record = self.record(row, slot, serial)
            if record is not None:
                yield record

    def record(self, row: int, slot: int, serial: int) -> tuple[float, ...] | None:
        """The record of `serial` in `slot` and `row`, None if something else or nothing is there."""
        values = self.read(row, slot)
        return values if values[0] == serial else None

    def word(self, row: int, slot: int, field: int) -> int:
        """One whole-numbered field."""
        number: int = _NUMBER.unpack_from(self._memory, self._offset(row, slot) + field * WORD)[0]
        return number

    def whole_row(self, row: int) -> list[int]:
        """All of a row, for a table whose records are one whole number."""
        start = row * self._row_size
        return self._memory[start : start + self._row_size].cast("q").tolist()

    def clear(self, row: int, slot: int, fields: Sequence[int]) -> None:
        """Set `fields` to zero: only for whoever buries the row's writer."""
        for field in fields:
            _NUMBER.pack_into(self._memory, self._offset(row, slot) + field * WORD, 0)

    def _offset(self, row: int, slot: int) -> int:
        if not (0 <= row < self.rows and 0 <= slot < self.slots):
            raise IndexError(f"row {row}, slot {slot} of a table of {self.rows} x {self.slots}")
        return row * self._row_size + slot * self._struct.size


class Board:
    """A text of one writer, replaced as a whole. Two copies take turns, so readers always find a whole one."""

    __slots__ = ("_half", "_head", "_memory")

    _HALF_HEAD = 2 * WORD

    def __init__(self, memory: memoryview) -> None:
        self._memory = memory
        self._half = (len(memory) - WORD) // 2
        self._head = struct.Struct("@QQ")

    @property
    def generation(self) -> int:
        """How often something was published; 0: nothing yet."""
        number: int = _NUMBER.unpack_from(self._memory, 0)[0]
        return number

    @property
    def capacity(self) -> int:
        """Bytes that a text may have."""
        return self._half - self._HALF_HEAD

    def publish(self, text: bytes) -> None:
        """Replace the text. Raises ValueError if it is longer than `capacity`."""
        if len(text) > self.capacity:
            raise ValueError(f"{len(text)} bytes do not fit into {self.capacity}")
        generation = self.generation + 1
        start = self._start(generation)
        self._head.pack_into(self._memory, start, len(text), zlib.crc32(text))
        start += self._HALF_HEAD
        self._memory[start : start + len(text)] = text
        # Last, and in one store: readers look here first.
        _NUMBER.pack_into(self._memory, 0, generation)

    def read(self) -> tuple[int, bytes]:
        """The generation and its text; (0, b"") if nothing was published. Raises RuntimeError if there is none
        that holds still, which only a writer gone wild can cause."""
        for _ in range(READ_TRIES):
            generation = self.generation
            if generation == 0:
                return 0, b""
            start = self._start(generation)
            length, checksum = self._head.unpack_from(self._memory, start)
            start += self._HALF_HEAD
            text = bytes(self._memory[start : start + length])
            # The sum catches what a processor with weaker ordering may show in between.
            if self.generation == generation and zlib.crc32(text) == checksum:
                return generation, text
        raise RuntimeError("a board in shared memory is overwritten faster than it can be read")

    def _start(self, generation: int) -> int:
        return WORD + (generation & 1) * self._half


class Poke:
    """Wakes the loop of another process: an eventfd that both have from before the fork."""

    __slots__ = ("descriptor",)

    def __init__(self) -> None:
        self.descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def set(self) -> None:
        """Wake whoever waits; many calls before it looks are one."""
        # Full only after 2**64 calls without a look; it is readable then anyway.
        with suppress(BlockingIOError):
            os.eventfd_write(self.descriptor, 1)

    def clear(self) -> None:
        """Take note, so that the descriptor is readable again only after the next `set`."""
        with suppress(BlockingIOError):
            os.eventfd_read(self.descriptor)

    def close(self) -> None:
        """Close the descriptor of this process."""
        os.close(self.descriptor)


class Arena:
    """One anonymous shared mapping, handed out piece by piece before the fork."""

    def __init__(self, size: int) -> None:
        self._memory = memoryview(mmap.mmap(-1, size))
        self._used = 0

    def take(self, size: int) -> memoryview:
        """The next `size` bytes, zeroed and aligned. Raises ValueError when the arena is used up."""
        size = -(-size // WORD) * WORD
        if self._used + size > len(self._memory):
            raise ValueError(f"an arena of {len(self._memory)} bytes has no {size} more")
        piece = self._memory[self._used : self._used + size]
        self._used += size
        return piece
