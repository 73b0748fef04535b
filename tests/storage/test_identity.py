"""Rules 1 and 9: whose store it is, whose log, and whether the machine restarted under it."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec
import pytest

from mosaik.primitives.cursor import Cursor
from mosaik.primitives.errors import (
    CorruptEntry,
    StorageFormatTooNew,
    StorageMismatch,
    StorageUnavailable,
)
from mosaik.storage import Change, SyncMode, boot, record
from mosaik.storage import identity as identity_module
from mosaik.storage.record import STORE_KEY
from tests.storage.support import (
    OTHER,
    Disk,
    DiskEngine,
    abandon,
    entries,
    identity,
    open_disk,
)


@pytest.fixture
def disk() -> Disk:
    return Disk()


def test_a_store_belongs_to_one_node(disk: Disk, tmp_path: Path) -> None:
    open_disk(disk, tmp_path).close()
    with pytest.raises(
        StorageMismatch, match="belongs to node 7070707070, not to 6f6f6f6f6f"
    ) as caught:
        open_disk(disk, tmp_path, peer=OTHER)
    assert caught.value.part == "peer"
    environment = open_disk(disk, tmp_path)
    with pytest.raises(StorageMismatch):
        environment.log(identity(peer=OTHER))
    environment.close()


def test_a_changed_parameter_is_named_with_its_values_and_the_cure(
    disk: Disk, tmp_path: Path
) -> None:
    environment = open_disk(disk, tmp_path)
    environment.log(identity("a", machine="counter", heartbeat_interval="0.5")).append(entries(1))
    environment.close()
    environment = open_disk(disk, tmp_path)
    changed = identity("a", machine="counter", heartbeat_interval="0.25")
    changed = type(changed)(
        group=b"n" * 32, peer=changed.peer, key=changed.key, parts=changed.parts
    )
    with pytest.raises(StorageMismatch, match=r"'0\.5' and now is '0\.25'.*log rebind") as caught:
        environment.log(changed)
    assert caught.value.part == "heartbeat_interval"
    assert [log.group for log in environment.logs()] == [identity("a").group]
    environment.log(identity("another key", machine="counter"))
    environment.close()


def test_the_same_group_under_another_key_is_refused(disk: Disk, tmp_path: Path) -> None:
    environment = open_disk(disk, tmp_path)
    mine = identity("a")
    environment.log(mine)
    with pytest.raises(StorageMismatch, match="another key"):
        environment.log(type(mine)(group=mine.group, peer=mine.peer, key=b"x" * 32))
    environment.close()


@pytest.mark.parametrize("field", ["group", "peer", "key"])
def test_ids_have_their_length(disk: Disk, tmp_path: Path, field: str) -> None:
    environment = open_disk(disk, tmp_path)
    short = msgspec.structs.replace(identity(), **{field: b"short"})
    with pytest.raises(ValueError, match=field):
        environment.log(short)
    environment.close()


def test_a_store_id_stays(disk: Disk, tmp_path: Path) -> None:
    environment = open_disk(disk, tmp_path)
    first = environment.log(identity()).hard_state.store
    environment.close()
    environment = open_disk(disk, tmp_path)
    assert environment.log(identity()).hard_state.store == first
    environment.close()


def test_a_lost_watermark_is_refused(disk: Disk, tmp_path: Path) -> None:
    open_disk(disk, tmp_path).close()
    (tmp_path / "mosaik.watermark").unlink()
    with pytest.raises(CorruptEntry, match=r"watermark .* is missing"):
        open_disk(disk, tmp_path)


def test_another_stores_watermark_is_refused(disk: Disk, tmp_path: Path) -> None:
    open_disk(disk, tmp_path / "a").close()
    open_disk(Disk(), tmp_path / "b").close()
    (tmp_path / "b" / "mosaik.watermark").rename(tmp_path / "a" / "mosaik.watermark")
    with pytest.raises(StorageMismatch, match="belongs to store") as caught:
        open_disk(disk, tmp_path / "a")
    assert caught.value.part == "store"


def test_a_store_that_died_while_it_was_made_is_made_again(disk: Disk, tmp_path: Path) -> None:
    # The watermark is there first; a stamped store without one would be refused for good.
    open_disk(disk, tmp_path).close()
    disk.cache.clear()
    open_disk(disk, tmp_path).close()


def test_logs_without_a_store_record_are_refused(disk: Disk, tmp_path: Path) -> None:
    environment = open_disk(disk, tmp_path)
    environment.log(identity())
    environment.close()
    del disk.cache[STORE_KEY, -1]
    with pytest.raises(CorruptEntry, match="its own record is gone"):
        open_disk(disk, tmp_path)


def test_a_newer_format_is_refused(
    disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "FORMAT", 2)
    open_disk(disk, tmp_path).close()
    monkeypatch.undo()
    with pytest.raises(StorageFormatTooNew, match="format 2"):
        open_disk(disk, tmp_path)


class _Boots:
    """A machine that can be restarted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.number = 0
        monkeypatch.setattr(identity_module, "boot_id", lambda: bytes([self.number]) * 16)


@pytest.fixture
def boots(monkeypatch: pytest.MonkeyPatch) -> _Boots:
    return _Boots(monkeypatch)


def test_unsynced_entries_survive_the_process(disk: Disk, tmp_path: Path, boots: _Boots) -> None:
    environment = open_disk(disk, tmp_path, sync=SyncMode.OS)
    log = environment.log(identity())
    log.append(entries(3))
    store = log.hard_state.store
    abandon(environment)
    environment = open_disk(disk, tmp_path, sync=SyncMode.OS)
    log = environment.log(identity())
    assert (log.last().index, log.hard_state.store) == (3, store)
    environment.close()


@pytest.mark.parametrize("then", SyncMode)
def test_after_a_restart_of_the_machine_an_unsynced_store_is_a_new_one(
    disk: Disk, tmp_path: Path, boots: _Boots, caplog: pytest.LogCaptureFixture, then: SyncMode
) -> None:
    environment = open_disk(disk, tmp_path, sync=SyncMode.OS)
    log = environment.log(identity(machine="counter"))
    log.append(entries(3))
    environment.idle()
    store = log.hard_state.store
    abandon(environment)
    boots.number += 1
    with caplog.at_level(logging.WARNING):
        environment = open_disk(disk, tmp_path, sync=then)
    assert "new store id" in caplog.text
    assert environment.logs() == [identity(machine="counter")]
    log = environment.log(identity(machine="counter"))
    assert log.last() == Cursor(0, 0)
    assert log.hard_state.store != store
    store = log.hard_state.store
    environment.close()
    environment = open_disk(disk, tmp_path, sync=then)
    assert environment.log(identity(machine="counter")).hard_state.store == store
    environment.close()


def test_a_synced_store_that_is_opened_unsynced_is_watched_from_then_on(
    disk: Disk, tmp_path: Path, boots: _Boots
) -> None:
    open_disk(disk, tmp_path).close()
    environment = open_disk(disk, tmp_path, sync=SyncMode.OS)
    environment.log(identity()).append(entries(3))
    abandon(environment)
    boots.number += 1
    environment = open_disk(disk, tmp_path)
    assert environment.log(identity()).last() == Cursor(0, 0)
    environment.close()


def test_after_a_clean_close_it_is_the_old_one(disk: Disk, tmp_path: Path, boots: _Boots) -> None:
    environment = open_disk(disk, tmp_path, sync=SyncMode.OS)
    log = environment.log(identity())
    log.append(entries(3))
    store = log.hard_state.store
    environment.close()
    disk.lose_power()
    boots.number += 1
    environment = open_disk(disk, tmp_path, sync=SyncMode.OS)
    log = environment.log(identity())
    assert (log.last().index, log.hard_state.store) == (3, store)
    environment.close()


def test_a_close_that_could_not_sync_is_not_clean(
    disk: Disk, tmp_path: Path, boots: _Boots
) -> None:
    environment = open_disk(disk, tmp_path, sync=SyncMode.OS)
    environment.log(identity()).append(entries(3))
    disk.fail_syncs = 1
    with pytest.raises(StorageUnavailable, match="Input/output"):
        environment.close()
    disk.lose_power()
    boots.number += 1
    environment = open_disk(disk, tmp_path, sync=SyncMode.OS)
    assert environment.log(identity()).last() == Cursor(0, 0)
    environment.close()


def test_a_restart_during_the_renewal_repeats_it(
    disk: Disk, tmp_path: Path, boots: _Boots, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = open_disk(disk, tmp_path, sync=SyncMode.OS)
    environment.log(identity()).append(entries(3))
    abandon(environment)
    boots.number += 1
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", _fail)
        with pytest.raises(StorageUnavailable):
            open_disk(disk, tmp_path, sync=SyncMode.OS)
    environment = open_disk(disk, tmp_path, sync=SyncMode.OS)
    assert environment.log(identity()).last() == Cursor(0, 0)
    environment.close()


def _fail(*_: object) -> None:
    raise OSError(5, "Input/output error")


def test_without_the_boot_id_the_restart_would_go_unseen(
    disk: Disk, tmp_path: Path, boots: _Boots
) -> None:
    # Planted bug: the machine restarts and the boot id stays. Half of what was unsynced is back.
    environment = open_disk(disk, tmp_path, sync=SyncMode.OS)
    log = environment.log(identity())
    disk.sync()
    log.append(entries(3))
    store = log.hard_state.store
    abandon(environment)
    disk.lose_power()
    environment = open_disk(disk, tmp_path, sync=SyncMode.OS)
    log = environment.log(identity())
    assert (log.last().index, log.hard_state.store) == (0, store)  # it votes as one who forgot
    environment.close()


def test_the_kernel_names_the_boot(monkeypatch: pytest.MonkeyPatch) -> None:
    assert boot.boot_id() == boot.boot_id()
    assert len(boot.boot_id()) == 16
    monkeypatch.setattr(boot, "_SOURCE", Path("/nowhere"))
    assert boot.boot_id() != boot.boot_id()


def test_an_unreadable_log_record_does_not_stop_the_renewal(
    disk: Disk, tmp_path: Path, boots: _Boots
) -> None:
    environment = open_disk(disk, tmp_path, sync=SyncMode.OS)
    environment.log(identity())
    abandon(environment)
    DiskEngine(disk, sync=SyncMode.OS).commit([Change(log=identity().group, meta=b"garbage")])
    boots.number += 1
    environment = open_disk(disk, tmp_path, sync=SyncMode.OS)
    assert environment.logs() == []
    environment.close()
