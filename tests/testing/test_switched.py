"""A disk that fails when another process tells it to: each order is carried out, once, and none is undone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from mosaik.primitives.durable import WriteBatch
from mosaik.primitives.errors import ConfigError, StorageFull, StoragePoisoned
from mosaik.storage import Storage, open_storage
from mosaik.testing.faults import switched as wrapper
from mosaik.testing.faults.wrapped import Batches, WrappedEnvironment
from mosaik.testing.instruments import NodeDisk
from tests.storage.support import PEER, entries, identity

Open = Callable[[], Storage[Any]]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Opens the log of the node in the directory, as a new process would."""
    stack = ExitStack()

    def open_log() -> Storage[Any]:
        stack.close()
        environment = open_storage("switched+sqlite", peer=PEER, data_dir=tmp_path)
        stack.callback(environment.close)
        return environment.log(identity())

    with stack:
        yield open_log


@pytest.fixture
def disk(tmp_path: Path) -> NodeDisk:
    return NodeDisk(tmp_path)


def append(log: Storage[Any]) -> None:
    log.append(entries(1, log.tail))


def test_so_many_syncs_fail_as_were_told_to_and_no_more(opened: Open, disk: NodeDisk) -> None:
    append(opened())
    disk.fail_sync()
    disk.fail_sync(2)
    for number in range(1, 4):
        with pytest.raises(StoragePoisoned, match="the sync fails, as ordered"):
            append(opened())
        assert disk.failed == number
    log = opened()
    append(log)
    assert log.last().index == 5, "what was written is there, though nobody was told so"
    disk.fail_sync()
    with pytest.raises(StoragePoisoned):
        append(log)
    assert disk.failed == 4


def test_a_healed_disk_forgets_what_it_was_told(opened: Open, disk: NodeDisk) -> None:
    log = opened()
    disk.fail_sync(5)
    disk.fill()
    disk.heal()
    append(log)
    assert disk.failed == 0


def test_a_disk_does_all_that_it_was_told(opened: Open, disk: NodeDisk) -> None:
    log = opened()
    disk.fill()
    disk.fail_sync()
    disk.slow(0.0)
    with pytest.raises(StorageFull):
        append(log)
    assert disk.failed == 0
    log.write(WriteBatch())  # has no bytes that would have to find room


def test_what_is_told_while_a_sync_fails_is_not_undone(
    opened: Open, disk: NodeDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = WrappedEnvironment.write

    def interrupted(self: WrappedEnvironment, batches: Batches) -> None:
        write(self, batches)
        disk.fill()

    append(log := opened())
    disk.fail_sync()
    with monkeypatch.context() as patched:
        patched.setattr(WrappedEnvironment, "write", interrupted)
        with pytest.raises(StoragePoisoned):
            append(log)
    with pytest.raises(StorageFull):
        append(opened())


def test_a_node_may_be_told_before_it_starts(tmp_path: Path) -> None:
    disk = NodeDisk(tmp_path / "node-1")
    disk.heal()
    disk.fill()
    assert (tmp_path / "node-1").stat().st_mode & 0o777 == 0o700
    environment = open_storage("switched+sqlite", peer=PEER, data_dir=tmp_path / "node-1")
    with closing(environment):
        log = environment.log(identity())
        with pytest.raises(StorageFull):
            append(log)


def test_a_store_without_a_data_directory_cannot_be_told_anything(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="this node has none"):
        open_storage(f"{wrapper.scheme}+sqlite://{tmp_path}/a.db", peer=PEER)
