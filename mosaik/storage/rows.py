"""Rows: how entries lie in an engine, and how one is found in a row.

A row is a head and the concatenation of consecutive sealed entries. The head names the first and the last
of them under a checksum: an engine whose own structures rot may hand out a row that ends early, even at
the end of an entry, and nothing else would tell. To find an entry the length fields are followed from the
row's start, which costs a fifth of verifying everything on the way; what is handed out is verified. When
the walk meets something impossible the whole row is verified, to name the right entry.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Any, Final, NamedTuple
from zlib import crc32

from mosaik.primitives.entry import (
    HEADER_SIZE,
    Damage,
    Entry,
    split_sealed,
    unseal,
)
from mosaik.storage.engine import ROW_SIZE

__all__ = [
    "HEAD_SIZE",
    "Found",
    "ReadRows",
    "Row",
    "all_rows",
    "find",
    "good_prefix",
    "pack",
    "read",
]

#: ``Engine.rows`` of one log: (first, last, limit) -> rows.
ReadRows = Callable[[int, int, int], list[tuple[int, bytes]]]

#: A row's head: its last index, and the checksum of that and of its first.
_HEAD: Final = struct.Struct(">QI")
#: Bytes of it.
HEAD_SIZE: Final = _HEAD.size
#: Entries of a row, at most.
_MOST: Final = (ROW_SIZE - _HEAD.size) // HEADER_SIZE
_ENDS: Final = struct.Struct(">QQ")
#: Payload length and index of a sealed header.
_WALK: Final = struct.Struct(">4xIQ")
#: Rows are fetched from the engine in runs of about this many bytes.
_READ_SIZE: Final = 1 << 20
_LAST: Final = (1 << 63) - 1


class Row(NamedTuple):
    """A row to be written: the indices of its first and last entry, and its bytes."""

    first: int
    last: int
    blob: bytes


class Found(NamedTuple):
    """An entry in its row.

    Attributes:
        first: the index of the row's first entry.
        blob: the row.
        end: where in it the entry ends.
        entry: the entry, verified.
    """

    first: int
    blob: bytes
    end: int
    entry: Entry[Any]

    def row(self) -> Row:
        """The row without what comes after the entry."""
        last = self.entry.index
        return Row(self.first, last, _head(self.first, last) + self.blob[HEAD_SIZE : self.end])


def _head(first: int, last: int) -> bytes:
    return _HEAD.pack(last, crc32(_ENDS.pack(first, last)))


def _last_of(first: int, blob: bytes) -> int:
    """The last index of a row, as its head says.

    Raises:
        Damage: the head is not what was written.
    """
    if len(blob) >= HEAD_SIZE:
        last, checksum = _HEAD.unpack_from(blob)
        if checksum == crc32(_ENDS.pack(first, last)):
            return int(last)
    raise Damage(first, "the head of its row is damaged")


def pack(entries: Sequence[Entry[Any]], sealed: list[bytes]) -> list[Row]:
    """Cuts a run of entries into rows.

    Args:
        sealed: the entries' sealed bytes, which the caller has at hand.
    """
    first = entries[0].index
    ends = list(accumulate(map(len, sealed)))
    room = ROW_SIZE - HEAD_SIZE
    if ends[-1] <= room:
        return [_packed(first, sealed)]
    rows: list[Row] = []
    start, offset = 0, 0
    while start < len(sealed):
        stop = max(start + 1, bisect_right(ends, offset + room))
        # Row by row, not sliced from one large string, whose memory would be mapped and unmapped.
        rows.append(_packed(first + start, sealed[start:stop]))
        start, offset = stop, ends[stop - 1]
    return rows


def _packed(first: int, sealed: list[bytes]) -> Row:
    last = first + len(sealed) - 1
    return Row(first, last, b"".join([_head(first, last), *sealed]))


def _offset(blob: bytes, first: int, index: int) -> int:
    """Where in a row that begins with ``first`` the entry ``index`` begins.

    Raises:
        Damage: a header on the way, or the one it arrives at, is not what it must be.
    """
    _last_of(first, blob)
    offset, at, size = HEAD_SIZE, first, len(blob)
    while offset + HEADER_SIZE <= size:
        length, found = _WALK.unpack_from(blob, offset)
        if found != at:
            break
        if at == index:
            return offset
        offset += HEADER_SIZE + length
        at += 1
    split_sealed(blob[HEAD_SIZE:], first=first)  # raises at the entry that is to blame
    raise Damage(at, "it is missing")


def find(rows: ReadRows, index: int) -> Found:
    """The entry and the row that holds it.

    Raises:
        Damage: it is missing or not what was sealed.
    """
    for first, blob in rows(index, index, 1)[:1]:
        if first <= index:
            start = _offset(blob, first, index)
            entry: Entry[Any] = unseal(blob, start, expected=index)
            return Found(first, blob, start + len(entry.sealed), entry)
    raise Damage(index, "it is missing")


def read(
    rows: ReadRows,
    first: int,
    last: int,
    limit: int,
    decode: Callable[[bytes], Any] | None,
) -> Iterator[Entry[Any]]:
    """The entries from ``first`` to ``last``, each verified, consecutive, each continuing the one before.

    Stops once ``limit`` sealed bytes were given; gives at least one.

    Raises:
        Damage: at the first that is missing or not what was sealed.
    """
    expected, given = first, 0
    before: Entry[Any] | None = None
    while expected <= last:
        # The first row may begin well before `expected`, hence one row more than is wanted.
        found = rows(expected, last, min(limit - given, _READ_SIZE) + ROW_SIZE)
        if not found or found[0][0] > expected:
            raise Damage(expected, "it is missing")
        for row_first, blob in found:
            if row_first > expected:
                raise Damage(expected, "it is missing")
            offset, end = _offset(blob, row_first, expected), min(last, _last_of(row_first, blob))
            while expected <= end:
                entry = unseal(blob, offset, expected=expected, decode=decode)
                _check_link(before, entry)
                yield entry
                before = entry
                expected += 1
                offset += len(entry.sealed)
                given += len(entry.sealed)
                if given >= limit:
                    return


def _check_link(before: Entry[Any] | None, entry: Entry[Any]) -> None:
    if before is None:
        return
    if entry.previous != before.checksum:
        raise Damage(entry.index, "it does not continue the entry before it")
    if entry.term < before.term or entry.time_ms < before.time_ms:
        raise Damage(entry.index, "its term or time goes back")


def all_rows(rows: ReadRows) -> Iterator[list[tuple[int, bytes]]]:
    """Every row of a log, as it is, in runs of about a megabyte."""
    first = 0
    while found := [row for row in rows(first, _LAST, _READ_SIZE) if row[0] >= first]:
        yield found
        first = found[-1][0] + 1


def good_prefix(first: int, blob: bytes) -> tuple[Entry[Any] | None, int]:
    """What of a row can be read.

    Returns:
        The last entry before any damage, if there is one; and the greatest index that the row may
        have held, which is what its head says. Where the head itself is damaged, nothing of the row counts
        as good, for it may have been cut, and it is assumed to have held the most that a row can: too
        much delays a replica, too little would make it forget.
    """
    try:
        last = _last_of(first, blob)
    except Damage:
        return None, first - 1 + _MOST
    good: Entry[Any] | None = None
    offset, index = HEAD_SIZE, first
    while index <= last:
        try:
            entry: Entry[Any] = unseal(blob, offset, expected=index)
            _check_link(good, entry)
        except Damage:
            break
        good = entry
        index += 1
        offset += len(entry.sealed)
    return good, last
