"""The watermark's file: two slots each, torn writes, and never too high."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from mosaik.primitives.durable import Anchor, WriteBatch
from mosaik.primitives.errors import CorruptEntry, StorageFormatTooNew, StoragePoisoned
from mosaik.storage import SyncMode, watermark
from mosaik.storage.watermark import SLOT_SIZE, Header, Watermark
from tests.storage.support import Disk, abandon, end_of, entries, identity, open_disk

HEADER = Header(b"s" * 16, SyncMode.FULL, bytes(16), clean=True)
A, B = b"a" * 32, b"b" * 32


def reopen(path: Path) -> Watermark:
    again = Watermark.open(path)
    assert again is not None
    return again


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mark"


def test_marks_come_back(path: Path) -> None:
    mark = Watermark.create(path, HEADER)
    assert not mark.has_marks
    mark.acknowledge(A, Anchor(1, 10, 3))
    mark.acknowledge(B, Anchor(2, 20, 4))
    mark.flush()
    mark.acknowledge(A, Anchor(1, 11, 5))
    mark.close()
    again = reopen(path)
    assert again.header == HEADER
    assert again.has_marks
    assert again.mark(A) == Anchor(1, 10, 3)  # what was only noted is lost
    assert again.mark(B) == Anchor(2, 20, 4)
    assert again.mark(b"c" * 32) == Anchor()


def test_a_new_file_is_durable_before_it_has_its_name(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def synced(descriptor: int) -> None:
        steps.append("directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def renamed(old: Path, new: Path) -> Path:
        steps.append("name")
        return rename(old, new)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "rename", renamed)
    Watermark.create(path, HEADER).close()
    assert steps == ["file", "name", "directory"]


def test_only_what_changed_is_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = Watermark.create(path, HEADER)
    mark.acknowledge(A, Anchor(1, 10, 3))
    mark.flush()
    monkeypatch.setattr("os.pwrite", None)
    mark.acknowledge(A, Anchor(1, 10, 3))
    mark.flush()
    mark.lower(A, Anchor(1, 10, 3))
    mark.lower(B, Anchor())
    mark.close()


def test_no_file_is_no_watermark(path: Path) -> None:
    assert Watermark.open(path) is None


def test_a_torn_write_leaves_the_mark_before(path: Path) -> None:
    mark = Watermark.create(path, HEADER)
    for index in (1, 2, 3):
        mark.acknowledge(A, Anchor(1, index, index))
        mark.flush()
    mark.close()
    content = bytearray(path.read_bytes())
    for slot, expected in ((3, 2), (2, 3)):  # the third mark lies in slot 1 of the pair
        torn = content.copy()
        torn[slot * SLOT_SIZE + 50 : (slot + 1) * SLOT_SIZE] = b"\xff" * (SLOT_SIZE - 50)
        path.write_bytes(torn)
        assert reopen(path).mark(A).index == expected
    both = content.copy()
    both[2 * SLOT_SIZE + 20] ^= 1
    both[3 * SLOT_SIZE + 20] ^= 1
    path.write_bytes(both)
    with pytest.raises(CorruptEntry, match="both copies"):
        Watermark.open(path)


def test_a_first_write_that_tore_promised_nothing(path: Path) -> None:
    mark = Watermark.create(path, HEADER)
    mark.acknowledge(A, Anchor(1, 1, 1))
    mark.flush()
    mark.close()
    content = bytearray(path.read_bytes())
    content[3 * SLOT_SIZE + 30] ^= 1
    path.write_bytes(content)
    assert reopen(path).mark(A) == Anchor()
    path.write_bytes(content[: 3 * SLOT_SIZE])
    assert reopen(path).mark(A) == Anchor()


def test_forgotten_logs_make_room(path: Path) -> None:
    mark = Watermark.create(path, HEADER)
    for log in (A, B):
        mark.acknowledge(log, Anchor(1, 1, 1))
        mark.flush()
    size = path.stat().st_size
    mark.forget(A)
    mark.forget(A)
    mark.acknowledge(b"c" * 32, Anchor(3, 3, 3))
    mark.flush()
    mark.close()
    assert path.stat().st_size == size
    again = reopen(path)
    assert again.mark(A) == Anchor()
    assert again.mark(b"c" * 32) == Anchor(3, 3, 3)


def test_a_file_that_is_none_is_refused(path: Path) -> None:
    path.write_bytes(b"hello" * 100)
    with pytest.raises(CorruptEntry):
        Watermark.open(path)


def test_a_newer_format_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watermark, "FORMAT", 2)
    Watermark.create(path, HEADER).close()
    monkeypatch.undo()
    with pytest.raises(StorageFormatTooNew, match="format 2"):
        Watermark.open(path)


def test_the_mark_is_late_by_a_bound(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("mosaik.storage.watermark.time.monotonic", lambda: clock[0])
    mark = Watermark.create(path, HEADER)
    assert not mark.overdue
    mark.acknowledge(A, Anchor(1, 1, 1))
    clock[0] += watermark.LATENESS / 2
    mark.acknowledge(A, Anchor(1, 2, 1))
    assert not mark.overdue
    clock[0] += watermark.LATENESS / 2
    assert mark.overdue
    mark.flush()
    assert not mark.overdue
    mark.close()


def test_commits_write_an_overdue_mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("mosaik.storage.watermark.time.monotonic", lambda: clock[0])
    disk = Disk()
    environment = open_disk(disk, tmp_path)
    log = environment.log(identity())
    log.append(entries(3))
    clock[0] += watermark.LATENESS
    log.append(entries(1, log.tail))
    abandon(environment)
    mark = reopen(tmp_path / "mosaik.watermark")
    assert mark.mark(identity().group).index == 3
    mark.close()


def test_what_an_opening_shows_is_marked(tmp_path: Path) -> None:
    disk = Disk()
    environment = open_disk(disk, tmp_path)
    environment.log(identity()).append(entries(3))
    abandon(environment)
    environment = open_disk(disk, tmp_path)
    environment.log(identity())
    environment.close()
    mark = reopen(tmp_path / "mosaik.watermark")
    assert mark.mark(identity().group).index == 3
    mark.close()


def a_lawful_truncation_is_no_alarm(path: Path) -> None:
    """Whatever moment the process dies at, around a truncation below the watermark."""
    disk = Disk()
    environment = open_disk(disk, path)
    log = environment.log(identity())
    run = entries(10)
    log.append(run)
    environment.idle()
    before = dict(disk.cache)
    log.write(WriteBatch(truncate_from=4, entries=entries(2, end_of(run[:3]), term=2)))
    after = dict(disk.cache)
    abandon(environment)
    for pages in (after, before):
        disk.cache = dict(pages)
        environment = open_disk(disk, path)
        assert environment.log(identity()).suspect is None
        abandon(environment)


def test_a_lawful_truncation_is_no_alarm(tmp_path: Path) -> None:
    a_lawful_truncation_is_no_alarm(tmp_path)


def test_a_mark_that_is_not_lowered_would_be_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Planted bug: the watermark is left as it was when entries below it are removed.
    def forgets_to(mark: Watermark, log: bytes, to: Anchor) -> None:
        pass

    monkeypatch.setattr(Watermark, "lower", forgets_to)
    with pytest.raises(CorruptEntry):
        a_lawful_truncation_is_no_alarm(tmp_path)


@pytest.mark.parametrize("anchor", [Anchor(), Anchor(5, 10, 99), Anchor(5, 50, 99)])
def test_a_lawful_reset_is_no_alarm(tmp_path: Path, anchor: Anchor) -> None:
    disk = Disk()
    environment = open_disk(disk, tmp_path)
    log = environment.log(identity())
    log.append(entries(10))
    environment.idle()
    before = dict(disk.cache)
    log.write(WriteBatch(reset_to=anchor, truncate_from=anchor.index))
    after = dict(disk.cache)
    abandon(environment)
    for pages in (after, before):
        disk.cache = dict(pages)
        environment = open_disk(disk, tmp_path)
        environment.log(identity())
        abandon(environment)


def test_a_retired_log_is_no_alarm(tmp_path: Path) -> None:
    disk = Disk()
    environment = open_disk(disk, tmp_path)
    log = environment.log(identity())
    log.append(entries(10))
    environment.idle()
    before = dict(disk.cache)
    log.retire()
    after = dict(disk.cache)
    abandon(environment)
    for pages in (after, before):
        disk.cache = dict(pages)
        environment = open_disk(disk, tmp_path)
        environment.log(identity())
        abandon(environment)


def test_a_mark_that_cannot_be_written_poisons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = open_disk(Disk(), tmp_path)
    log = environment.log(identity())
    log.append(entries(1))

    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("os.fdatasync", fail)
    with pytest.raises(StoragePoisoned):
        environment.idle()
    assert environment.poisoned is not None
