"""How far a damaged row may have reached is never underestimated: entries would be forgotten."""

from __future__ import annotations

import pytest

from mosaik.primitives.entry import HEADER_SIZE, Damage
from mosaik.storage import rows
from mosaik.storage.rows import HEAD_SIZE, ReadRows, good_prefix, pack, read
from tests.storage.support import entries

COUNT = 8
#: Payloads with which one flipped bit of a length makes an entry reach over others exactly, or nearly.
SIZES = [0, 8, 24, 60, 88]


def row(size: int) -> bytes:
    stored = entries(COUNT, size=size)
    [packed] = pack(stored, [entry.sealed for entry in stored])
    return packed.blob


def too_short(size: int, *, zeroed: int = 0) -> list[int]:
    """The places where a flipped bit, or so many zeros, make the row seem shorter than it is."""
    blob = row(size)
    found: list[int] = []
    for at in range(len(blob)):
        for bit in range(8) if not zeroed else (0,):
            damaged = bytearray(blob)
            if zeroed:
                damaged[at : at + zeroed] = bytes(len(damaged[at : at + zeroed]))
            else:
                damaged[at] ^= 1 << bit
            good, reach = good_prefix(1, bytes(damaged))
            if reach < COUNT and bytes(damaged) != blob:
                found.append(at)
            assert good is None or good.index <= max(0, at - HEAD_SIZE) // (HEADER_SIZE + size) + 1
    return found


@pytest.mark.parametrize("size", SIZES)
def test_no_flipped_bit_hides_an_entry(size: int) -> None:
    assert too_short(size) == []


@pytest.mark.parametrize("size", SIZES)
def test_no_zeros_hide_an_entry(size: int) -> None:
    assert too_short(size, zeroed=16) == []


def test_damage_that_leaves_lengths_alone_is_measured_exactly() -> None:
    """Too much would delay a replica for nothing."""
    blob = bytearray(row(60))
    blob[HEAD_SIZE + 3 * 100 + HEADER_SIZE] ^= 1  # the payload of entry 4
    good, reach = good_prefix(1, bytes(blob))
    assert good is not None
    assert (good.index, reach) == (3, COUNT)
    blob[HEAD_SIZE + 7 * 100 + HEADER_SIZE] ^= 1
    assert good_prefix(1, bytes(blob))[1] == COUNT


def rows_of(blob: bytes) -> ReadRows:
    """An engine that has this one row."""

    def found(_first: int, _last: int, _limit: int) -> list[tuple[int, bytes]]:
        return [(1, blob)]

    return found


@pytest.mark.parametrize("size", SIZES)
def test_a_row_that_its_engine_hands_out_cut_hides_no_entry(size: int) -> None:
    """An engine keeps a row's size in structures of its own, and one bit of those may flip, too."""
    blob = row(size)
    for at in range(1, len(blob)):
        good, reach = good_prefix(1, blob[:at])
        assert reach >= COUNT
        assert reach > (good.index if good is not None else 0)
    with pytest.raises(Damage, match=r"missing|cut short"):
        list(read(rows_of(blob[: HEAD_SIZE + HEADER_SIZE + size]), 1, COUNT, 1 << 20, None))


@pytest.mark.parametrize("size", SIZES)
def test_what_stands_behind_a_row_is_not_taken_for_its_entries(size: int) -> None:
    blob = row(size)
    more = entries(COUNT + 1, size=size)[-1].sealed
    good, reach = good_prefix(1, blob + more)
    assert good is not None
    assert (good.index, reach) == (COUNT, COUNT)


def test_the_planted_bug_that_measures_a_row_by_its_bytes_is_caught(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A row cut at the end of an entry looks whole."""
    blob = row(60)[: HEAD_SIZE + 5 * (HEADER_SIZE + 60)]
    assert good_prefix(1, blob)[1] == COUNT

    def believes(_first: int, _blob: bytes) -> int:
        return 5

    monkeypatch.setattr(rows, "_last_of", believes)
    good, reach = good_prefix(1, blob)
    assert good is not None
    assert (good.index, reach) == (5, 5)
