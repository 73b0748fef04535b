"""Entries are equal when their bytes are, however that is asked."""

from __future__ import annotations

from mosaik.primitives.entry import EntryKind, seal


def test_equal_bytes_are_equal_entries() -> None:
    one, same = (seal(EntryKind.COMMAND, 1, 1, 0, b"x", 0) for _ in range(2))
    other = seal(EntryKind.COMMAND, 1, 1, 0, b"y", 0)
    assert one == same
    assert (one != same) is False
    assert one != other
    assert (one == other) is False
