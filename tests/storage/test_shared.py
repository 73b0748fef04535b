"""Rule 8: groups that name the same store share it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from mosaik.primitives.errors import (
    ConfigError,
    StorageClosed,
    StorageLocked,
    StoragePoisoned,
    StorageUnavailable,
)
from mosaik.storage import EnginePlugin, Place, StorageURL
from mosaik.storage.shared import SharedEnvironment
from tests.storage.support import OTHER, PEER, Disk, DiskEngine, entries, identity


class Options(msgspec.Struct, frozen=True):
    speed: int = 1


class Store:
    """A plugin on one disk that counts its openings."""

    def __init__(self) -> None:
        self.disk = Disk()
        self.opened = 0
        self.plugin = EnginePlugin("disk", Options, self.connect)

    def connect(self, place: Place, options: Options) -> DiskEngine:
        self.opened += 1
        return DiskEngine(self.disk)

    def open(self, path: Path, *, speed: int = 1, peer: bytes = PEER) -> SharedEnvironment:
        environment = self.plugin.open(
            StorageURL.of_path("disk", path), Options(speed), data_dir=None, peer=peer
        )
        assert isinstance(environment, SharedEnvironment)
        return environment


@pytest.fixture
def store() -> Store:
    return Store()


def test_a_store_that_was_closed_by_way_of_a_log_is_opened_anew(
    store: Store, tmp_path: Path
) -> None:
    a = store.open(tmp_path)
    log = a.log(identity())
    log.append(entries(1))
    log.environment.close()
    with pytest.raises(StorageClosed):
        a.log(identity())
    b = store.open(tmp_path)
    assert store.opened == 2
    assert b.log(identity()).last().index == 1
    a.close()
    assert b.log(identity()).last().index == 1  # which is no user of the old one
    b.close()


def test_the_last_user_closes_it(store: Store, tmp_path: Path) -> None:
    a, b = store.open(tmp_path), store.open(tmp_path)
    assert store.opened == 1
    assert a.key == b.key
    assert a.shared is b.shared
    a.close()
    a.close()
    with pytest.raises(StorageClosed):
        a.log(identity())
    b.log(identity()).append(entries(1))
    b.close()
    with store.open(tmp_path) as again:
        assert store.opened == 2
        assert again.log(identity()).last().index == 1


def test_it_is_known_by_its_real_path(store: Store, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with store.open(tmp_path / "real") as a, store.open(tmp_path / "link" / ".." / "link") as b:
        assert a.shared is b.shared


def test_other_options_are_refused_and_named(store: Store, tmp_path: Path) -> None:
    with store.open(tmp_path), pytest.raises(ConfigError, match="speed=1 there and speed=2 here"):
        store.open(tmp_path, speed=2)
    store.open(tmp_path, speed=2).close()


def test_another_node_of_this_process_is_refused(store: Store, tmp_path: Path) -> None:
    with store.open(tmp_path), pytest.raises(StorageLocked, match="a store of its own"):
        store.open(tmp_path, peer=OTHER)


def test_a_poisoned_opening_is_not_shared_any_further(store: Store, tmp_path: Path) -> None:
    a = store.open(tmp_path)
    store.disk.fail_syncs = 1
    with pytest.raises(StoragePoisoned):
        a.log(identity())
    b, c = store.open(tmp_path), store.open(tmp_path)
    assert b.shared is c.shared is not a.shared
    a.close()
    b.close()
    c.log(identity()).append(entries(1))
    c.close()


def test_an_opening_that_fails_holds_nothing(store: Store, tmp_path: Path) -> None:
    store.disk.fail_syncs = 1
    with pytest.raises(StorageUnavailable, match="Input/output"):
        store.open(tmp_path)
    store.open(tmp_path).close()
