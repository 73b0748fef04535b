"""LMDB's map: it grows while the store is open, and is full only at the size that it was given."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mosaik.primitives.errors import StorageFull
from mosaik.storage import Storage, StorageEnvironment, open_storage
from mosaik.storage.environment import EngineEnvironment
from mosaik.storage.lmdb import LmdbEngine
from mosaik.storage.shared import SharedEnvironment
from tests.storage.stores import require, url_of
from tests.storage.support import PEER, entries, identity

SMALL = 256 * 1024


@pytest.fixture(autouse=True)
def _lmdb() -> None:
    require("lmdb")


def open_map(directory: Path, query: str) -> StorageEnvironment:
    return open_storage(url_of("lmdb", directory, query), peer=PEER)


@pytest.fixture
def growing(tmp_path: Path) -> Generator[StorageEnvironment]:
    with closing(open_map(tmp_path, f"map_size={SMALL}")) as environment:
        yield environment


def map_size(environment: StorageEnvironment) -> int:
    """As the engine says it now."""
    assert isinstance(environment, SharedEnvironment)
    assert isinstance(environment.shared, EngineEnvironment)
    engine = environment.shared._engine
    assert engine is not None
    return int(engine.describe().settings["map_size"])


def it_grows(environment: StorageEnvironment) -> None:
    """Two logs become much larger than the map was, and all of them is read back after each growth."""
    a, b = environment.log(identity("a")), environment.log(identity("b"))
    sizes = {map_size(environment)}
    for _ in range(12):
        for log in (a, b):
            log.append(entries(50, log.tail, size=4_000))
            assert log.get_range(0, log.tail.index) == entries(log.tail.index, size=4_000)
        sizes.add(map_size(environment))
    assert len(sizes) >= 4
    assert max(sizes) >= 12 * 2 * 50 * 4_000


def test_it_grows_while_it_is_open(growing: StorageEnvironment) -> None:
    it_grows(growing)


def test_a_map_that_does_not_grow_is_caught(
    growing: StorageEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(_: LmdbEngine) -> None:
        raise StorageFull("planted bug: the map stays as it is")

    monkeypatch.setattr(LmdbEngine, "_grow", refuses)
    with pytest.raises(StorageFull):
        it_grows(growing)


def test_one_commit_may_take_several_growths(growing: StorageEnvironment) -> None:
    log = growing.log(identity())
    huge = entries(1, size=5 << 20)
    log.append(huge)
    assert log.get(1) == huge[0]
    assert map_size(growing) > 5 << 20


def test_a_grown_map_opens_with_a_smaller_size(tmp_path: Path) -> None:
    query = f"map_size={SMALL}"
    with closing(open_map(tmp_path, query)) as environment:
        environment.log(identity()).append(entries(300, size=4_000))
    with closing(open_map(tmp_path, query)) as environment:
        log = environment.log(identity())
        assert log.get_range(0, 999) == entries(300, size=4_000)
        log.append(entries(10, log.tail, size=4_000))
        assert log.tail.index == 310


def fill(log: Storage[Any]) -> None:
    for _ in range(100):
        log.append(entries(10, log.tail, size=4_000))


def test_a_full_map_is_refused_and_a_larger_one_goes_on(tmp_path: Path) -> None:
    with closing(open_map(tmp_path, f"map_size={SMALL}&max_map_size={4 * SMALL}")) as environment:
        log = environment.log(identity())
        with pytest.raises(StorageFull, match="raise max_map_size"):
            fill(log)
        written = entries(log.tail.index, size=4_000)
        assert len(written) > 100
        assert environment.poisoned is None
        # The last state stands, is served, and can be made smaller to go on.
        assert log.get_range(0, 999) == written
        log.prune_prefix(50)
        log.append(entries(1, log.tail))
        log.truncate(len(written) + 1)
    with closing(open_map(tmp_path, f"map_size={SMALL}&max_map_size={64 * SMALL}")) as environment:
        log = environment.log(identity())
        assert log.get_range(51, 999) == written[50:]
        log.append(entries(50, log.tail, size=4_000))
