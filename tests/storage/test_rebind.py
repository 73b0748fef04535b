"""A log under another identity, and a crash at every step on the way."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from mosaik.primitives.durable import WriteBatch
from mosaik.primitives.errors import (
    ConfigError,
    CorruptEntry,
    StorageLocked,
    StorageMismatch,
    StoragePoisoned,
)
from mosaik.storage import Change, LogIdentity, StorageEnvironment, open_storage
from mosaik.storage.rebind import rebind
from tests.storage.conftest import OpenBackend
from tests.storage.support import (
    OTHER,
    PEER,
    Disk,
    DiskEngine,
    abandon,
    end_of,
    entries,
    identity,
    open_disk,
)

OLD = identity("a", speed="1")
NEW = LogIdentity(group=b"n" * 32, peer=PEER, key=OLD.key, parts={"speed": "2"})
RUN = entries(3_000, size=1_000)


def fill(environment: StorageEnvironment) -> bytes:
    log = environment.log(OLD)
    log.append(RUN)
    log.write(WriteBatch(truncate_from=2_990, prune_to=10))
    environment.close()
    return log.hard_state.store


def check(environment: StorageEnvironment, store: bytes) -> None:
    assert environment.logs() == [NEW]
    log = environment.log(NEW)
    assert log.get_range(0, 9_999) == RUN[10:2_989]
    assert log.hard_state.store == store
    environment.verify(log)
    with pytest.raises(StorageMismatch):
        environment.log(OLD)


def test_the_log_is_found_under_the_new_identity(durable_backend: str, tmp_path: Path) -> None:
    store = fill(open_storage(durable_backend, peer=PEER, data_dir=tmp_path))
    environment = open_storage(durable_backend, peer=PEER, data_dir=tmp_path)
    with pytest.raises(StorageMismatch, match="mosaik log rebind"):
        environment.log(NEW)
    assert rebind(environment, NEW) == OLD
    assert rebind(environment, NEW) == NEW
    check(environment, store)
    environment.close()
    environment = open_storage(durable_backend, peer=PEER, data_dir=tmp_path)
    check(environment, store)
    environment.close()


class _Dies(DiskEngine):
    """Dies at the commit that ``left`` counts down to."""

    left = 0

    def commit(self, changes: Sequence[Change]) -> None:
        type(self).left -= 1
        if not type(self).left:
            raise KeyError("killed")
        super().commit(changes)


def test_it_may_be_interrupted_anywhere(tmp_path: Path) -> None:
    disk = Disk()
    store = fill(open_disk(disk, tmp_path))
    steps = 0
    while True:
        steps += 1
        environment = open_disk(disk, tmp_path, engine=_Dies)
        _Dies.left = steps
        try:
            rebind(environment, NEW)
        except StoragePoisoned:
            again = open_disk(disk, tmp_path)
            assert again.logs() == [OLD]
            assert again.log(OLD).get_range(0, 9_999) == RUN[10:2_989]
            again.close()
        else:
            check(environment, store)
            abandon(environment)
            break
    assert steps > 3
    # The watermark went with it.
    disk.cache = {key: blob for key, blob in disk.cache.items() if key[1] < 2_900}
    with pytest.raises(CorruptEntry, match="2989 entries were acknowledged"):
        open_disk(disk, tmp_path).log(NEW)


def test_what_it_cannot_do_is_said(opened: OpenBackend) -> None:
    environment = opened()
    with pytest.raises(ConfigError, match="no log under this group key"):
        rebind(environment, NEW)
    log = environment.log(OLD)
    log.append(RUN[:1])
    with pytest.raises(StorageLocked):
        rebind(environment, NEW)
    foreign = LogIdentity(group=NEW.group, peer=OTHER, key=NEW.key)
    with pytest.raises(StorageMismatch):
        rebind(environment, foreign)
    assert log.tail == end_of(RUN[:1])
