"""Rule 5: what opening says of a log that is damaged, before the watermark and beyond it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from mosaik.primitives.cursor import IndexRange
from mosaik.primitives.durable import Anchor, WriteBatch
from mosaik.primitives.entry import Entry
from mosaik.primitives.errors import CorruptEntry, InvalidBatch
from mosaik.storage import environment as environment_module
from mosaik.storage import recover as recover_module
from mosaik.storage.contract import LogIdentity
from mosaik.storage.environment import EngineEnvironment
from mosaik.storage.log import EngineLog
from mosaik.storage.record import LogRecord
from mosaik.storage.recover import recover
from mosaik.storage.rows import HEAD_SIZE, ReadRows, good_prefix, pack
from mosaik.storage.state import LogState
from tests.storage.support import (
    Disk,
    abandon,
    end_of,
    entries,
    identity,
    open_disk,
)

LOG = identity().group


class Store:
    """A log of ten entries in rows of two, of which the watermark knows six."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.disk = Disk()
        self.run = entries(10)
        environment = open_disk(self.disk, path)
        log = environment.log(identity())
        for at in range(0, 6, 2):
            log.append(self.run[at : at + 2])
        environment.idle()
        for at in range(6, 10, 2):
            log.append(self.run[at : at + 2])
        abandon(environment)

    def open(self) -> tuple[EngineEnvironment, EngineLog[Any]]:
        environment = open_disk(self.disk, self.path)
        try:
            return environment, environment.log(identity())
        except BaseException:
            environment.close()
            raise

    def flip(self, index: int, offset: int = 45) -> None:
        """Changes a byte of an entry."""
        first = index if index % 2 else index - 1
        size = len(self.run[0].sealed)
        blob = bytearray(self.disk.cache[LOG, first])
        blob[HEAD_SIZE + (index - first) * size + offset] ^= 1
        self.disk.cache[LOG, first] = bytes(blob)

    def lose(self, *firsts: int) -> None:
        """Removes rows."""
        for first in firsts:
            del self.disk.cache[LOG, first]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def acknowledged_entries_are_missed(store: Store) -> None:
    store.lose(5, 7, 9)
    with pytest.raises(CorruptEntry) as caught:
        store.open()
    assert caught.value.index == 5
    assert "6 entries were acknowledged" in str(caught.value)


def test_acknowledged_entries_are_missed(store: Store) -> None:
    acknowledged_entries_are_missed(store)


def test_without_a_watermark_they_would_not_be(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Planted bug: the log is believed to be as long as the engine says.
    def trusting(
        record: LogRecord,
        rows: ReadRows,
        last_row: tuple[int, bytes] | None,
        mark: Anchor,
        *,
        url: str,
    ) -> LogState:
        return recover(record, rows, last_row, Anchor(), url=url)

    monkeypatch.setattr(environment_module, "recover", trusting)
    with pytest.raises(pytest.fail.Exception):
        acknowledged_entries_are_missed(store)


def test_a_whole_log_that_vanished_is_missed(store: Store) -> None:
    store.lose(1, 3, 5, 7, 9)
    del store.disk.cache[LOG, -1]
    with pytest.raises(CorruptEntry, match="the log is gone"):
        store.open()


def test_a_whole_store_that_vanished_is_missed(store: Store) -> None:
    store.disk.cache.clear()
    with pytest.raises(CorruptEntry, match="is empty, but its watermark"):
        store.open()


@pytest.mark.parametrize("offset", [0, 5, 10, 20, 33, 37, 45])
def test_damage_up_to_the_watermark_refuses(store: Store, offset: int) -> None:
    store.lose(7, 9)
    store.flip(6, offset)
    with pytest.raises(CorruptEntry) as caught:
        store.open()
    assert caught.value.index == 6


def test_another_entry_at_the_watermark_refuses(store: Store) -> None:
    other = entries(2, end_of(store.run[:4]), size=17)
    [row] = pack(other, [entry.sealed for entry in other])
    store.disk.cache[LOG, 5] = row.blob
    with pytest.raises(CorruptEntry, match="not the entry that was acknowledged"):
        store.open()


def test_entries_lost_beyond_the_watermark_cannot_be_missed(store: Store) -> None:
    # The bound that the watermark gives: what was acknowledged within its lateness.
    store.lose(9)
    environment, log = store.open()
    assert log.last().index == 8
    assert log.suspect is None
    environment.close()


@pytest.mark.parametrize("offset", [1, 20, 37, 45])
@pytest.mark.parametrize("index", [9, 10])
def test_damage_beyond_the_watermark_is_suspect(store: Store, index: int, offset: int) -> None:
    store.flip(index, offset)
    environment, log = store.open()
    assert log.suspect == IndexRange(index, 10)
    assert log.last().index == index - 1
    assert log.tail == end_of(store.run[: index - 1])
    assert log.get(index) is None
    assert log.get_range(0, 99) == store.run[: index - 1]
    environment.close()
    # Neither served nor dropped: the bytes are there as they were.
    assert (LOG, 9) in store.disk.cache


def test_the_reach_of_unreadable_damage_is_not_underrated(store: Store) -> None:
    # With the length itself damaged nobody can tell how many entries followed.
    store.flip(9, 6)
    environment, log = store.open()
    assert log.suspect is not None
    assert log.suspect.start == 9
    assert log.suspect.end >= 10
    environment.close()


def test_several_damaged_rows_are_one_suspect_range(store: Store) -> None:
    store.flip(7)
    store.flip(9)
    environment, log = store.open()
    assert log.suspect == IndexRange(7, 10)
    assert log.last().index == 6
    environment.close()


def test_a_term_whose_entries_are_gone_is_suspect(store: Store) -> None:
    environment, log = store.open()
    log.append(entries(2, log.tail, term=2))
    abandon(environment)
    store.lose(11)
    environment, log = store.open()
    assert log.suspect == IndexRange(11, 11)
    assert log.last().term == 1
    environment.close()


def terms_of_a_damaged_tail(store: Store) -> list[int]:
    """What three openings say of a tail that began a term, with a vote in a later term between them."""
    environment, log = store.open()
    log.append(entries(2, log.tail, term=5))
    abandon(environment)
    store.flip(11)
    said: list[int] = []
    for _ in range(3):
        environment, log = store.open()
        assert log.suspect is not None
        said.append(log.suspect_term)
        hard = log.hard_state
        log.write(WriteBatch(hard_state=msgspec.structs.replace(hard, term=hard.term + 4)))
        assert log.suspect_term == said[-1]
        environment.close()
    return said


def test_the_highest_term_of_a_damaged_tail_is_remembered(store: Store) -> None:
    assert terms_of_a_damaged_tail(store) == [5, 5, 5]


def test_without_a_record_of_it_a_vote_would_make_it_be_forgotten(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forgetful(state: LogState, store_id: bytes, identity: LogIdentity) -> LogRecord:
        return msgspec.structs.replace(before(state, store_id, identity), suspect_term=0)

    before = LogState.record
    monkeypatch.setattr(LogState, "record", forgetful)
    assert terms_of_a_damaged_tail(store) == [5, 1, 1]


@pytest.mark.parametrize(
    "batch", [WriteBatch[Any](truncate_from=9), WriteBatch[Any](truncate_from=4)]
)
def test_truncation_ends_the_suspicion(store: Store, batch: WriteBatch[Any]) -> None:
    store.flip(9)
    environment, log = store.open()
    log.write(batch)
    assert log.suspect is None
    environment.close()
    environment, log = store.open()
    assert log.suspect is None
    assert (
        log.get_range(0, 99) == store.run[: batch.truncate_from - 1 if batch.truncate_from else 0]
    )
    environment.close()


def test_truncation_above_the_suspect_range_does_not(store: Store) -> None:
    store.flip(9)
    environment, log = store.open()
    log.truncate(10)
    assert log.suspect == IndexRange(9, 10)
    environment.close()


def test_a_tail_supplied_in_part_stays_suspect_over_a_restart(store: Store) -> None:
    store.flip(9)
    environment, log = store.open()
    with pytest.raises(InvalidBatch):
        log.append(store.run[9:])
    log.append(store.run[8:9])
    assert log.suspect == IndexRange(10, 10)
    environment.close()
    environment, log = store.open()
    assert log.get(9) == store.run[8]
    assert log.suspect == IndexRange(10, 10)
    log.append(store.run[9:])
    assert log.suspect is None
    environment.close()
    environment, log = store.open()
    assert log.suspect is None
    assert log.get_range(0, 99) == store.run
    environment.verify(log)
    environment.close()


def test_the_damaged_end_of_a_row_is_removed_when_it_is_supplied(store: Store) -> None:
    store.flip(10)
    environment, log = store.open()
    log.append(store.run[9:])
    assert log.suspect is None
    assert log.get_range(0, 99) == store.run
    environment.close()


def test_pruning_with_a_suspect_tail_keeps_the_suspicion(store: Store) -> None:
    store.flip(9)
    environment, log = store.open()
    log.prune_prefix(99)
    assert log.available() == IndexRange(8, 8)
    environment.close()
    environment, log = store.open()
    assert log.suspect == IndexRange(9, 10)
    environment.close()


@pytest.mark.parametrize("index", [1, 2, 3])
def test_damage_further_down_is_found_exactly_where_it_is_read(store: Store, index: int) -> None:
    store.flip(index)
    environment, log = store.open()
    for good in range(1, 11):
        if good != index:
            assert log.get(good) == store.run[good - 1]
    with pytest.raises(CorruptEntry) as caught:
        log.get(index)
    assert caught.value.index == index
    with pytest.raises(CorruptEntry) as caught:
        environment.verify(log)
    assert caught.value.index == index
    environment.close()


def test_damaged_lengths_do_not_mislead(store: Store) -> None:
    store.flip(1, 7)
    environment, log = store.open()
    with pytest.raises(CorruptEntry) as caught:
        log.get(2)
    assert caught.value.index == 1
    environment.close()


def test_a_row_missing_in_the_middle_is_found(store: Store) -> None:
    store.lose(3)
    environment, log = store.open()
    for read in (lambda: log.get(3), lambda: log.get(4), lambda: log.get_range(1, 9)):
        with pytest.raises(CorruptEntry, match="missing"):
            read()
    assert log.get_range(5, 10) == store.run[4:]
    environment.close()


def test_a_row_in_another_rows_place_is_found(store: Store) -> None:
    other = entries(2, end_of(store.run[:2]), size=18)
    [row] = pack(other, [entry.sealed for entry in other])
    store.disk.cache[LOG, 3] = row.blob
    environment, log = store.open()
    with pytest.raises(CorruptEntry, match="does not continue") as caught:
        log.get_range(1, 10)
    assert caught.value.index == 5
    environment.close()


def test_a_damaged_record_is_found(store: Store) -> None:
    blob = bytearray(store.disk.cache[LOG, -1])
    blob[-1] ^= 1
    store.disk.cache[LOG, -1] = bytes(blob)
    with pytest.raises(CorruptEntry, match="record of the log"):
        store.open()


def test_opening_reads_the_end_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = open_disk(disk := Disk(), tmp_path)
    log = environment.log(identity())
    run: list[Entry[Any]] = entries(4_000, size=400)
    log.append(run)
    environment.close()
    read: list[int] = []

    def counted(first: int, blob: bytes) -> tuple[Entry[Any] | None, int]:
        read.append(first)
        return good_prefix(first, blob)

    monkeypatch.setattr(recover_module, "good_prefix", counted)
    monkeypatch.setattr(recover_module, "find", None)
    environment = open_disk(disk, tmp_path)
    environment.log(identity())
    assert len(read) == 1
    environment.close()
