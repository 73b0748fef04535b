"""Tools open a store whoever's it is, look at what is damaged in it, and make nothing that is not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from mosaik.primitives.entry import HEADER_SIZE
from mosaik.primitives.errors import (
    CorruptEntry,
    InvalidBatch,
    StorageLocked,
    StorageUnavailable,
)
from mosaik.storage import open_existing, open_storage
from mosaik.storage.environment import EngineEnvironment
from mosaik.storage.findings import Finding, find_damage, find_damage_in_look
from mosaik.storage.rows import HEAD_SIZE
from mosaik.storage.shared import SharedEnvironment
from mosaik.storage.watermark import Header, Watermark
from tests.storage.stores import place_of, url_of
from tests.storage.support import (
    OTHER,
    PEER,
    Disk,
    end_of,
    entries,
    identity,
    open_disk,
)

RUN = entries(100)


def fill(backend: str, directory: Path, *, peer: bytes = PEER) -> None:
    environment = open_storage(backend, peer=peer, data_dir=directory)
    environment.log(identity(peer=peer)).append(RUN)
    environment.close()


def test_it_is_opened_as_its_owner(durable_backend: str, tmp_path: Path) -> None:
    fill(durable_backend, tmp_path, peer=OTHER)
    environment = open_existing(url_of(durable_backend, tmp_path))
    assert environment.logs() == [identity(peer=OTHER)]
    assert environment.log(identity(peer=OTHER)).get_range(0, 999) == RUN
    environment.close()
    environment = open_existing(durable_backend, data_dir=tmp_path)
    assert environment.logs() == [identity(peer=OTHER)]
    environment.close()


def test_what_stands_in_front_does_not_matter(durable_backend: str, tmp_path: Path) -> None:
    fill(durable_backend, tmp_path, peer=OTHER)
    environment = open_existing(f"slow+{url_of(durable_backend, tmp_path, 'delay=0s')}")
    assert environment.logs() == [identity(peer=OTHER)]
    environment.close()


def test_nothing_is_made_where_nothing_is(durable_backend: str, tmp_path: Path) -> None:
    with pytest.raises(StorageUnavailable, match="there is no store"):
        open_existing(url_of(durable_backend, tmp_path))
    assert not list(tmp_path.iterdir())
    place = place_of(durable_backend, tmp_path)
    if durable_backend == "sqlite":
        place.write_text("a letter")
    else:
        place.mkdir()
        (place / "letter").write_text("a letter")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(StorageUnavailable, match="not a store of mosaik"):
        open_existing(url_of(durable_backend, tmp_path))
    assert sorted(tmp_path.rglob("*")) == before


def test_memory_has_nothing_that_could_be_there() -> None:
    with pytest.raises(StorageUnavailable, match="there is no store"):
        open_existing("memory")


def test_one_that_is_in_use_is_locked(durable_backend: str, tmp_path: Path) -> None:
    environment = open_storage(durable_backend, peer=PEER, data_dir=tmp_path)
    with pytest.raises(StorageLocked, match="process"):
        open_existing(url_of(durable_backend, tmp_path))
    environment.close()


def test_one_that_an_opening_would_empty_is_left_alone(
    durable_backend: str, tmp_path: Path
) -> None:
    fill(f"{url_of(durable_backend, tmp_path)}sync=os", tmp_path)
    place = place_of(durable_backend, tmp_path)
    beside = Path(f"{place}.watermark") if place.is_file() else place / "mosaik.watermark"
    watermark = Watermark.open(beside)
    assert watermark is not None
    header = watermark.header
    watermark.write_header(Header(header.store, header.sync, b"another boot....", clean=False))
    with pytest.raises(StorageUnavailable, match="when the machine stopped"):
        open_existing(url_of(durable_backend, tmp_path))
    watermark.write_header(header)
    watermark.close()
    environment = open_existing(url_of(durable_backend, tmp_path))
    assert environment.log(identity()).get_range(0, 999) == RUN
    environment.close()


# -- looking ----------------------------------------------------------------------------------------


def damage(disk: Disk, index: int, *, header: bool = False) -> None:
    """Flips a bit of one entry's payload, or of its header, in the row that holds it."""
    for key, blob in disk.cache.items():
        log, first = key
        offset, at = HEAD_SIZE, first
        while first >= 0 and log == identity().group and offset < len(blob):
            if at == index:
                place = offset + (4 if header else HEADER_SIZE + 1)
                changed = bytearray(blob)
                changed[place] ^= 1
                disk.cache[key] = bytes(changed)
                return
            offset += HEADER_SIZE + int.from_bytes(blob[offset + 4 : offset + 8], "big")
            at += 1
    raise AssertionError(f"no entry {index}")


def written(disk: Disk, directory: Path) -> None:
    environment = open_disk(disk, directory)
    log = environment.log(identity())
    for at in range(0, 100, 10):
        log.append(RUN[at : at + 10])
    environment.close()


def findings(disk: Disk, directory: Path) -> list[Finding]:
    environment = open_disk(disk, directory)
    try:
        return list(find_damage_in_look(environment.look(identity().group)))
    finally:
        environment.close()


def test_a_good_log_has_no_findings(tmp_path: Path) -> None:
    disk = Disk()
    written(disk, tmp_path)
    assert findings(disk, tmp_path) == []
    environment = open_disk(disk, tmp_path)
    reached: list[int] = []
    assert list(find_damage(environment.log(identity()), reached.append)) == []
    assert reached[-1] == 100


def test_every_bad_entry_is_named(tmp_path: Path) -> None:
    disk = Disk()
    written(disk, tmp_path)
    for index in (13, 14, 55, 98):
        damage(disk, index)
    checksum = "its checksum does not match its content"
    named = [(13, 14, checksum), (55, 55, checksum), (98, 98, checksum)]
    assert findings(disk, tmp_path) == [Finding(*each) for each in named]


def test_what_lies_behind_a_damaged_length_is_named_too(tmp_path: Path) -> None:
    disk = Disk()
    written(disk, tmp_path)
    damage(disk, 36, header=True)
    found = findings(disk, tmp_path)
    assert [(each.first, each.last) for each in found] == [(36, 36), (37, 40)]
    assert "behind the damage" in found[1].reason


def test_missing_entries_are_named_to_the_last_that_was_acknowledged(tmp_path: Path) -> None:
    disk = Disk()
    written(disk, tmp_path)
    group = identity().group
    disk.cache = {
        key: blob for key, blob in disk.cache.items() if key not in {(group, 91), (group, 41)}
    }
    environment = open_disk(disk, tmp_path)
    with pytest.raises(CorruptEntry, match="100 entries were acknowledged"):
        environment.log(identity())
    environment.close()
    assert [(each.first, each.last) for each in findings(disk, tmp_path)] == [(41, 50), (91, 100)]


def test_a_suspect_tail_is_named_as_such(tmp_path: Path) -> None:
    disk = Disk()
    environment = open_disk(disk, tmp_path)
    log = environment.log(identity())
    log.append(RUN[:90])
    environment.idle()  # the watermark stands at 90
    log.append(RUN[90:])
    environment._poisoned_by(KeyboardInterrupt("killed"))
    damage(disk, 97)
    (found,) = findings(disk, tmp_path)
    assert (found.first, found.last, found.suspect) == (97, 100, True)


def test_a_view_is_not_written_to(tmp_path: Path) -> None:
    disk = Disk()
    written(disk, tmp_path)
    environment = open_disk(disk, tmp_path)
    look = environment.look(identity().group)
    with pytest.raises(InvalidBatch, match="a view of a log"):
        look.log.append(entries(1, after=end_of(RUN)))
    log = environment.log(identity())
    assert log.tail == end_of(RUN)
    with pytest.raises(StorageLocked):
        environment.look(identity().group)


def test_a_log_is_given_up_without_being_opened(durable_backend: str, tmp_path: Path) -> None:
    environment = open_storage(durable_backend, peer=PEER, data_dir=tmp_path)
    log = environment.log(identity())
    log.append(RUN)
    environment.log(identity("other")).append(RUN)
    before = log.hard_state.store
    environment.close()
    environment = open_existing(durable_backend, data_dir=tmp_path)
    assert isinstance(environment, SharedEnvironment)
    assert isinstance(environment.shared, EngineEnvironment)
    fresh = environment.shared.empty(identity().group)
    assert fresh.store != before
    log = environment.log(identity())
    assert log.hard_state == fresh
    assert log.tail.index == 0
    assert log.get_range(0, 999) == []
    assert environment.log(identity("other")).get_range(0, 999) == RUN
    environment.close()
    environment = open_existing(durable_backend, data_dir=tmp_path)
    assert environment.log(identity()).hard_state == fresh
    environment.close()
