"""Rows: how entries lie in an engine, and how one is found in a row.

A row is the concatenation of consecutive sealed entries. To find an entry in it the length fields are
followed from its start, which costs a fifth of verifying everything on the way; what is handed out is
verified. When the walk meets something impossible the whole row is verified, to name the right entry.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Any, Final, NamedTuple

from mosaik.primitives.entry import (
    HEADER_SIZE,
    Damage,
    Entry,
    split_sealed,
    unseal,
)
from mosaik.storage.engine import ROW_SIZE

__all__ = ["Found", "ReadRows", "Row", "all_rows", "find", "good_prefix", "pack", "read"]

#: ``Engine.rows`` of one log: (first, last, limit) -> rows.
ReadRows = Callable[[int, int, int], list[tuple[int, bytes]]]

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
        start, end: where in it the entry lies.
        entry: the entry, verified.
    """

    first: int
    blob: bytes
    start: int
    end: int
    entry: Entry[Any]


def pack(entries: Sequence[Entry[Any]], sealed: list[bytes]) -> list[Row]:
    """Cuts a run of entries into rows.

    Args:
        sealed: the entries' sealed bytes, which the caller has at hand.
    """
    first = entries[0].index
    ends = list(accumulate(map(len, sealed)))
    if ends[-1] <= ROW_SIZE:
        return [Row(first, first + len(sealed) - 1, b"".join(sealed))]
    rows: list[Row] = []
    start, offset = 0, 0
    while start < len(sealed):
        stop = max(start + 1, bisect_right(ends, offset + ROW_SIZE))
        # Row by row, not sliced from one large string, whose memory would be mapped and unmapped.
        rows.append(Row(first + start, first + stop - 1, b"".join(sealed[start:stop])))
        start, offset = stop, ends[stop - 1]
    return rows


def _offset(blob: bytes, first: int, index: int) -> int:
    """Where in a row that begins with ``first`` the entry ``index`` begins.

    Raises:
        Damage: a header on the way, or the one it arrives at, is not what it must be.
    """
    offset, at, size = 0, first, len(blob)
    while offset + HEADER_SIZE <= size:
        length, found = _WALK.unpack_from(blob, offset)
        if found != at:
            break
        if at == index:
            return offset
        offset += HEADER_SIZE + length
        at += 1
    split_sealed(blob, first=first)  # raises at the entry that is to blame
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
            return Found(first, blob, start, start + len(entry.sealed), entry)
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
            offset = _offset(blob, row_first, expected)
            while offset < len(blob) and expected <= last:
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
        have held. Without damage that is the entry's own. Behind damage it is counted by the length
        fields as far as they make sense, and after that assumed to be the most that the bytes allow:
        too much delays a replica, too little would make it forget.
    """
    good: Entry[Any] | None = None
    offset, index = 0, first
    while offset < len(blob):
        try:
            entry: Entry[Any] = unseal(blob, offset, expected=index)
            _check_link(good, entry)
        except Damage:
            return good, _reach(blob, offset, index)
        good = entry
        index += 1
        offset += len(entry.sealed)
    return good, index - 1


def _reach(blob: bytes, offset: int, index: int) -> int:
    while offset + HEADER_SIZE <= len(blob):
        length, found = _WALK.unpack_from(blob, offset)
        if found != index or offset + HEADER_SIZE + length > len(blob):
            break
        offset += HEADER_SIZE + length
        index += 1
    remaining = len(blob) - offset
    return index - 1 + -(-remaining // HEADER_SIZE)
