"""Rules 1, 2 and 6: what survives a crash, and the bugs that would show if it did not.

Each rule is a function that checks it on a given engine. The tests run it on the sound engine, where it
holds, and on one with a planted bug, where it must be seen to fail.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from mosaik.primitives.durable import Anchor, WriteBatch
from mosaik.primitives.entry import Entry
from mosaik.primitives.errors import (
    CorruptEntry,
    InvalidBatch,
    StorageError,
    StorageFull,
    StoragePoisoned,
)
from mosaik.storage import Change, rows
from mosaik.storage.memory import MemoryEngine
from tests.storage.support import (
    Disk,
    DiskEngine,
    abandon,
    end_of,
    entries,
    hard,
    identity,
    open_disk,
)

Rule = Callable[[type[DiskEngine], Path], None]


def acknowledged_survives_power_loss(engine: type[DiskEngine], path: Path) -> None:
    disk = Disk()
    environment = open_disk(disk, path, engine=engine)
    log = environment.log(identity())
    run = entries(5)
    log.append(run)
    log.write(WriteBatch(hard_state=hard(log, term=7)))
    abandon(environment)
    disk.lose_power()
    log = open_disk(disk, path, engine=engine).log(identity())
    assert log.get_range(0, 9) == run
    assert log.hard_state.term == 7


def truncation_survives_power_loss(engine: type[DiskEngine], path: Path) -> None:
    disk = Disk()
    environment = open_disk(disk, path, engine=engine)
    log = environment.log(identity())
    run = entries(5)
    log.append(run)
    log.truncate(3)
    abandon(environment)
    disk.lose_power()
    log = open_disk(disk, path, engine=engine).log(identity())
    assert log.get_range(0, 9) == run[:2]


def a_batch_is_there_wholly_or_not_at_all(engine: type[DiskEngine], path: Path) -> None:
    disk = Disk()
    environment = open_disk(disk, path, engine=engine)
    log = environment.log(identity())
    run = entries(4)
    log.append(run)
    disk.fail_syncs = 1
    batch = WriteBatch(
        hard_state=hard(log, term=2),
        truncate_from=3,
        entries=entries(3, end_of(run[:2]), term=2),
    )
    with pytest.raises(StoragePoisoned):
        log.write(batch)
    disk.lose_power()
    log = open_disk(disk, path, engine=engine).log(identity())
    new = [*run[:2], *batch.entries]
    found = (log.hard_state.term, log.get_range(0, 9))
    assert found in [(0, run), (2, new)]


def what_opening_shows_is_durable(engine: type[DiskEngine], path: Path) -> None:
    """A sync fails, the store is opened again, shows the batch, and then the power fails."""
    disk = Disk()
    environment = open_disk(disk, path, engine=engine)
    log = environment.log(identity())
    run = entries(5)
    log.append(run[:3])
    disk.fail_syncs = 1
    with pytest.raises(StoragePoisoned):
        log.append(run[3:])
    environment = open_disk(disk, path, engine=engine)
    shown = environment.log(identity()).get_range(0, 9)
    environment.close()
    disk.lose_power()
    log = open_disk(disk, path, engine=engine).log(identity())
    assert log.get_range(0, 9) == shown


class NeverSyncs(DiskEngine):
    """Planted bug: commits return before they are durable."""

    def sync(self) -> None:
        """Forgets to."""


class TruncatesWithoutSync(DiskEngine):
    """Planted bug: a change without rows or meta is not synced."""

    def commit(self, changes: Sequence[Change]) -> None:
        if all(change.delete_from is not None for change in changes):
            MemoryEngine.commit(self, changes)
            self.disk.write(self._pages())
        else:
            super().commit(changes)


class CommitsByHalves(DiskEngine):
    """Planted bug: deletions and rows are two transactions."""

    def commit(self, changes: Sequence[Change]) -> None:
        for change in changes:
            if change.delete_from is not None:
                MemoryEngine.commit(self, [Change(log=change.log, delete_from=change.delete_from)])
                self.disk.write(self._pages())
                failures, self.disk.fail_syncs = self.disk.fail_syncs, 0
                self.sync()
                self.disk.fail_syncs = failures
        super().commit(changes)


class OpensWithoutSettling(DiskEngine):
    """Planted bug: an opening shows what the cache holds."""

    def settle(self) -> None:
        self.disk.sync()


RULES: dict[Rule, type[DiskEngine]] = {
    acknowledged_survives_power_loss: NeverSyncs,
    truncation_survives_power_loss: TruncatesWithoutSync,
    a_batch_is_there_wholly_or_not_at_all: CommitsByHalves,
    what_opening_shows_is_durable: OpensWithoutSettling,
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_rule_holds(rule: Rule, tmp_path: Path) -> None:
    rule(DiskEngine, tmp_path)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_planted_bug_is_caught(rule: Rule, tmp_path: Path) -> None:
    with pytest.raises((AssertionError, CorruptEntry)):
        rule(RULES[rule], tmp_path)


def test_a_failed_commit_poisons_every_log_of_the_store(tmp_path: Path) -> None:
    disk = Disk()
    environment = open_disk(disk, tmp_path)
    a, b = environment.log(identity("a")), environment.log(identity("b"))
    disk.fail_syncs = 1
    with pytest.raises(StoragePoisoned) as caught:
        a.append(entries(1))
    assert isinstance(caught.value.__cause__, OSError)
    assert environment.poisoned is caught.value.__cause__
    for use in (
        lambda: b.append(entries(1)),
        lambda: b.get(1),
        lambda: environment.log(identity("c")),
        environment.logs,
        environment.idle,
    ):
        with pytest.raises(StoragePoisoned):
            use()
    environment.close()


def test_a_poisoned_store_can_be_opened_again_while_old_handles_live(tmp_path: Path) -> None:
    disk = Disk()
    old = open_disk(disk, tmp_path)
    log = old.log(identity())
    disk.fail_syncs = 1
    with pytest.raises(StoragePoisoned):
        log.append(entries(1))
    again = open_disk(disk, tmp_path)
    again.log(identity()).append(entries(2, again.log(identity()).tail))
    with pytest.raises(StoragePoisoned):
        log.get(1)
    again.close()


def test_a_full_disk_is_no_poison(tmp_path: Path) -> None:
    disk = Disk()
    environment = open_disk(disk, tmp_path)
    log = environment.log(identity())
    run = entries(4)
    log.append(run[:2])
    disk.full = True
    refused: list[WriteBatch[Any]] = [WriteBatch(entries=run[2:]), WriteBatch(truncate_from=1)]
    for batch in refused:
        with pytest.raises(StorageFull):
            log.write(batch)
        assert log.tail == end_of(run[:2])
    disk.full = False
    log.append(run[2:])
    assert log.get_range(0, 9) == run
    environment.close()


def test_a_refused_truncation_leaves_the_watermark_high(tmp_path: Path) -> None:
    disk = Disk()
    environment = open_disk(disk, tmp_path)
    log = environment.log(identity())
    log.append(entries(4))
    environment.idle()
    disk.full = True
    with pytest.raises(StorageFull):
        log.truncate(1)
    environment.close()
    disk.full = False
    del disk.cache[identity().group, 1]
    with pytest.raises(CorruptEntry, match="4 entries were acknowledged"):
        open_disk(disk, tmp_path).log(identity())


def test_what_is_pruned_at_once_is_never_stored(tmp_path: Path) -> None:
    disk = Disk()
    environment = open_disk(disk, tmp_path)
    log = environment.log(identity())
    log.write(WriteBatch(entries=entries(40, size=4_000), prune_to=20))
    kept = [first for name, first in disk.cache if name == identity().group and first > 0]
    assert max(kept) > 20
    assert len([first for first in kept if first <= 20]) == 1  # the row that also holds entry 21
    log.write(WriteBatch(entries=entries(40, log.tail, size=4_000), prune_to=999))
    assert not [first for name, first in disk.cache if name == identity().group and first > 0]
    environment.close()


class Model:
    """What a log must look like, as a plain list."""

    def __init__(self) -> None:
        self.anchor = Anchor()
        self.entries: list[Entry[Any]] = []
        self.term = 1

    @property
    def tail(self) -> Anchor:
        return end_of(self.entries) if self.entries else self.anchor

    def batch(self, rng: random.Random) -> WriteBatch[Any]:
        """A random batch that fits, applied to the model."""
        reset = truncate = prune = None
        if rng.random() < 0.05:
            reset = Anchor(self.term, rng.randrange(100), rng.randrange(1 << 32))
            self.anchor, self.entries = reset, []
        if rng.random() < 0.25:
            truncate = rng.randrange(max(0, self.anchor.index - 2), self.tail.index + 3)
            self.entries = [entry for entry in self.entries if entry.index < truncate]
        self.term += rng.random() < 0.2
        size = rng.choice([1, 30, 200])
        new = entries(rng.choice([0, 1, 3, 30]), self.tail, term=self.term, size=size)
        self.entries += new
        if rng.random() < 0.2:
            prune = rng.randrange(self.tail.index + 3)
            gone = [entry for entry in self.entries if entry.index <= prune]
            if gone:
                self.anchor = end_of(gone)
                self.entries = self.entries[len(gone) :]
        return WriteBatch(reset_to=reset, truncate_from=truncate, entries=new, prune_to=prune)

    def check(self, log: Any) -> None:
        assert (log.anchor, log.tail) == (self.anchor, self.tail)
        assert log.get_range(0, 1 << 40) == self.entries
        for entry in self.entries:
            assert log.term_at(entry.index) == entry.term
        starts = [
            (entry.index, entry.term)
            for before, entry in zip([None, *self.entries], self.entries, strict=False)
            if before is None or before.term != entry.term
        ]
        assert list(log.term_starts) == starts
        assert log.suspect is None


@pytest.mark.parametrize("seed", range(12))
def test_random_batches_with_crashes_equal_a_plain_list(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "ROW_SIZE", 600)
    rng = random.Random(seed)
    disk, model = Disk(), Model()
    environment = open_disk(disk, tmp_path)
    log = environment.log(identity())
    for _ in range(80):
        log.write(model.batch(rng))
        crash = rng.random()
        if crash < 0.15:
            abandon(environment)
            if crash < 0.05:
                disk.lose_power()
        elif crash < 0.2:
            environment.close()
        elif crash < 0.3:
            environment.idle()
            continue
        else:
            continue
        environment = open_disk(disk, tmp_path)
        log = environment.log(identity())
        model.check(log)
        environment.verify(log)
    model.check(log)
    environment.close()


def test_errors_name_the_store(tmp_path: Path) -> None:
    environment = open_disk(Disk(), tmp_path)
    with pytest.raises(InvalidBatch, match=f"disk://{tmp_path}") as caught:
        environment.log(identity()).append(entries(2)[1:])
    error: StorageError = caught.value
    assert error.url == f"disk://{tmp_path}"
    environment.close()
