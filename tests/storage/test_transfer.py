"""Logs in other stores: copies that are the same replica, restored backups that are another."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest

from mosaik.primitives.cursor import Cursor
from mosaik.primitives.durable import Anchor, HardState, SnapshotRef, WriteBatch
from mosaik.primitives.entry import Entry, EntryKind, seal
from mosaik.primitives.errors import (
    ConfigError,
    CorruptEntry,
    StorageError,
    StorageFormatTooNew,
    StorageMismatch,
    StorageUnavailable,
)
from mosaik.primitives.membership import Configuration, Member, Replica, Role, configuration_codec
from mosaik.storage import Storage, StorageEnvironment, open_storage
from mosaik.storage.backup import (
    BackupHead,
    check_backup,
    cut_head,
    is_backup,
    read_backup,
    stream_backup,
)
from mosaik.storage.backup_file import backup_path, write_backup
from mosaik.storage.rebirth import restore_log
from mosaik.storage.transfer import (
    LogHead,
    begin_log,
    copy_log,
    read_entries,
    read_head,
    require_equal,
    require_new,
)
from tests.storage.support import OTHER, PEER, entries, identity

T = TypeVar("T")

IDENTITY = identity(speed="1")
HISTORY = b"h" * 32
ME = Replica(PEER, b"first store id..", 3)
OTHERS = (Replica(OTHER, b"other store id..", 0), Replica(b"z" * 32, b"third store id..", 1))
HEAD = BackupHead(1_790_000_000_000, "0.1.0", "memory", PEER, hot=False)


def founded(environment: StorageEnvironment, count: int = 1000) -> Storage[Any]:
    """A log of a founded history, pruned at its beginning, with everything set that can be."""
    log = environment.log(IDENTITY)
    members = Configuration(tuple(Member(each, Role.VOTER) for each in sorted((ME, *OTHERS))))
    parts = [(EntryKind.CONFIG, configuration_codec.encode(members)), (EntryKind.FOUNDED, b"")]
    run: list[Entry[Any]] = []
    for kind, payload in parts:
        previous = run[-1].checksum if run else 0
        run.append(seal(kind, len(run) + 1, 1, 7, payload, previous))
    end = Anchor(1, 2, run[-1].checksum)
    run += entries(count - 2, after=end, term=2, size=200, time_ms=8)
    hard_state = HardState(
        term=5,
        voted_for=ME,
        store=ME.store,
        life=ME.life,
        history=HISTORY,
        configs=(1,),
        founded=2,
        first_command=3,
        dissolved=((b"d" * 32, b""),),
        floors=((ME, Cursor(1, 1)), (OTHERS[0], Cursor(5, 9))),
    )
    log.write(WriteBatch(hard_state=hard_state, reset_to=Anchor(), entries=run))
    log.write(WriteBatch(snapshot=SnapshotRef(end, "snapshot", 4, b"d" * 32)))
    return log


async def now(work: Callable[[], T]) -> T:
    return work()


def stream(
    *logs: tuple[LogHead, Storage[Any]], call: Callable[[Callable[[], Any]], Awaitable[Any]] = now
) -> AsyncIterator[bytes]:
    return stream_backup(HEAD, logs, call)


@pytest.fixture
def source() -> StorageEnvironment:
    return open_storage("memory", peer=PEER)


# -- copies -----------------------------------------------------------------------------------------


def test_a_copy_is_the_same_replica(
    source: StorageEnvironment, durable_backend: str, tmp_path: Path
) -> None:
    log = founded(source)
    log.prune_prefix(2)
    for attempt in ("there", "reopened"):
        destination = open_storage(durable_backend, peer=PEER, data_dir=tmp_path)
        if attempt == "there":
            require_new(destination)
            done: list[int] = []
            copy_log(source, destination, IDENTITY, done.append)
            assert sum(done) == 998
        require_equal(source, destination, IDENTITY)
        copy = destination.log(IDENTITY)
        assert copy.hard_state == log.hard_state
        assert copy.snapshot == log.snapshot
        assert copy.term_starts == ((3, 2),)
        with pytest.raises(StorageMismatch, match="holds logs already"):
            require_new(destination)
        destination.close()


def test_an_interrupted_copy_takes_no_part(source: StorageEnvironment) -> None:
    head = read_head(IDENTITY, founded(source))
    destination = open_storage("memory", peer=PEER)
    log = begin_log(destination, head)
    run = next(read_entries(source.log(IDENTITY), head))
    log.append(run[:10])
    assert log.hard_state == HardState(store=ME.store, life=ME.life, quarantine=True)
    with pytest.raises(StorageError, match="differs from its source"):
        require_equal(source, destination, IDENTITY)


@pytest.mark.parametrize("difference", ["entry", "hard state", "length", "parts"])
def test_a_difference_is_found(source: StorageEnvironment, difference: str) -> None:
    founded(source)
    destination = open_storage("memory", peer=PEER)
    copy_log(source, destination, IDENTITY)
    log = destination.log(IDENTITY)
    if difference == "hard state":
        log.write(WriteBatch(hard_state=msgspec.structs.replace(log.hard_state, term=6)))
    elif difference == "parts":
        log.retire()
        head = read_head(IDENTITY, source.log(IDENTITY))
        other = identity(speed="2")
        begin_log(destination, msgspec.structs.replace(head, identity=other))
    else:
        at = log.tail.index
        log.truncate(at)
        if difference == "entry":
            log.append(entries(1, after=log.tail, term=2, size=201, time_ms=8))
    with pytest.raises(StorageError, match="do not use it"):
        require_equal(source, destination, IDENTITY)


# -- backups ----------------------------------------------------------------------------------------


async def make_backup(source: StorageEnvironment, path: Path) -> LogHead:
    log = source.log(IDENTITY)
    head = read_head(IDENTITY, log)
    written: list[int] = []
    size = await write_backup(path, stream((head, log)), written.append)
    assert size == path.stat().st_size == sum(written)
    return head


async def test_a_backup_holds_everything(source: StorageEnvironment, tmp_path: Path) -> None:
    log = founded(source)
    path = tmp_path / "log.backup"
    head = await make_backup(source, path)
    assert is_backup(path)
    assert path.stat().st_mode & 0o777 == 0o600
    found = check_backup(path)
    assert found.head == HEAD
    assert found.logs == (head,)
    runs = [piece for piece in read_backup(path) if isinstance(piece, list)]
    assert [entry for run in runs for entry in run] == log.get_range(0, 9999)


async def test_two_logs_share_a_backup(source: StorageEnvironment, tmp_path: Path) -> None:
    first, second = founded(source), source.log(identity("other"))
    second.append(entries(5))
    heads = [(read_head(IDENTITY, first), first), (read_head(identity("other"), second), second)]
    path = tmp_path / "log.backup"
    await write_backup(path, stream(*heads))
    assert check_backup(path).logs == tuple(head for head, _ in heads)
    destination = open_storage("memory", peer=PEER)
    for head, _ in heads:
        restore_log(destination, path, head, PEER)
    assert destination.log(IDENTITY).get_range(0, 9999) == first.get_range(0, 9999)


async def test_it_ends_where_it_was_cut(source: StorageEnvironment, tmp_path: Path) -> None:
    log = founded(source)
    whole = read_head(IDENTITY, log)
    entry = log.get(500)
    assert entry is not None
    head = cut_head(whole, Anchor(entry.term, 500, entry.checksum))
    assert head.term_starts == whole.term_starts
    assert cut_head(whole, Anchor()).hard_state.configs == ()
    path = tmp_path / "log.backup"
    await write_backup(path, stream((head, log)))
    assert check_backup(path).logs == (head,)


async def test_no_flipped_bit_goes_unnoticed(source: StorageEnvironment, tmp_path: Path) -> None:
    founded(source, 4)
    path, changed = tmp_path / "log.backup", tmp_path / "changed"
    await make_backup(source, path)
    good = path.read_bytes()
    for at in range(len(good)):
        changed.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        with pytest.raises(StorageError):
            check_backup(changed)
    for length in range(0, len(good), 7):
        changed.write_bytes(good[:length])
        with pytest.raises(StorageError):
            check_backup(changed)
    changed.write_bytes(good + b"\0")
    with pytest.raises(CorruptEntry, match="follows its end"):
        check_backup(changed)


async def test_a_newer_format_is_named(source: StorageEnvironment, tmp_path: Path) -> None:
    founded(source, 12)
    path = tmp_path / "log.backup"
    await make_backup(source, path)
    good = path.read_bytes()
    path.write_bytes(good[:4] + b"\0\2" + good[6:])
    with pytest.raises(StorageFormatTooNew, match="format 2"):
        check_backup(path)
    path.write_bytes(b"something else")
    with pytest.raises(StorageUnavailable, match="not a backup"):
        check_backup(path)
    assert not is_backup(path)
    assert not is_backup(tmp_path / "nowhere")


async def test_nothing_is_written_over_and_nothing_left_behind(
    source: StorageEnvironment, tmp_path: Path
) -> None:
    log = founded(source)
    path = tmp_path / "log.backup"
    path.write_text("precious")
    with pytest.raises(StorageUnavailable, match="is there already"):
        await make_backup(source, path)
    path.unlink()
    (tmp_path / "log.backup.part").write_text("of somebody else")
    with pytest.raises(StorageUnavailable, match="another backup"):
        await make_backup(source, path)
    (tmp_path / "log.backup.part").unlink()

    async def pruned(work: Callable[[], T]) -> T:
        log.prune_prefix(900)
        return work()

    head = read_head(IDENTITY, log)
    with pytest.raises(CorruptEntry, match="missing"):
        await write_backup(path, stream((head, log), call=pruned))
    assert not list(tmp_path.iterdir())
    with pytest.raises(StorageUnavailable, match="cannot be written"):
        await make_backup(source, tmp_path / "nowhere" / "log.backup")


def test_a_directory_gets_a_file_with_a_name_of_its_own(tmp_path: Path) -> None:
    assert backup_path(tmp_path / "file", PEER) == tmp_path / "file"
    named = backup_path(tmp_path, PEER)
    assert named.parent == tmp_path
    assert named.name.startswith("mosaik-7070707070-")


# -- restored ---------------------------------------------------------------------------------------


async def test_a_restored_log_is_another_replica(
    source: StorageEnvironment, durable_backend: str, tmp_path: Path
) -> None:
    log = founded(source)
    head = await make_backup(source, tmp_path / "backup")
    for attempt in ("there", "reopened"):
        store = open_storage(durable_backend, peer=PEER, data_dir=tmp_path)
        if attempt == "there":
            restore_log(store, tmp_path / "backup", head, PEER)
        restored = store.log(IDENTITY)
        hard_state = restored.hard_state
        assert hard_state.store != ME.store
        assert hard_state.voted_for is None
        assert hard_state == HardState(
            term=5,
            store=hard_state.store,
            history=HISTORY,
            configs=(1,),
            founded=2,
            first_command=3,
            dissolved=((b"d" * 32, b""),),
            floors=((OTHERS[0], Cursor(5, 9)),),
        )
        assert restored.get_range(0, 9999) == log.get_range(0, 9999)
        assert restored.snapshot == log.snapshot
        store.verify(restored)
        store.close()


async def test_it_may_become_another_node_s(source: StorageEnvironment, tmp_path: Path) -> None:
    founded(source)
    head = await make_backup(source, tmp_path / "backup")
    store = open_storage("memory", peer=OTHER)
    made = restore_log(store, tmp_path / "backup", head, OTHER)
    assert store.logs() == [made.identity]
    assert made.identity.peer == OTHER


async def test_what_was_never_founded_comes_back_empty(
    source: StorageEnvironment, tmp_path: Path
) -> None:
    log = founded(source)
    log.truncate(2)
    log.write(WriteBatch(hard_state=msgspec.structs.replace(log.hard_state, founded=0)))
    head = await make_backup(source, tmp_path / "backup")
    store = open_storage("memory", peer=PEER)
    restore_log(store, tmp_path / "backup", head, PEER)
    restored = store.log(IDENTITY)
    assert restored.last() == (0, 0)
    assert restored.hard_state == HardState(
        store=restored.hard_state.store, dissolved=((b"d" * 32, b""),)
    )
    empty = open_storage("memory", peer=PEER)
    with pytest.raises(ConfigError, match="never founded"):
        restore_log(empty, tmp_path / "backup", head, PEER, new_history=True)
    assert not empty.logs()


async def test_a_new_history_has_one_voter(source: StorageEnvironment, tmp_path: Path) -> None:
    log = founded(source)
    head = await make_backup(source, tmp_path / "backup")
    store = open_storage("memory", peer=PEER)
    restore_log(store, tmp_path / "backup", head, PEER, new_history=True)
    restored = store.log(IDENTITY)
    hard_state = restored.hard_state
    assert hard_state.history not in (b"", HISTORY)
    assert hard_state.configs == (1, 1001)
    assert (hard_state.founded, hard_state.floors) == (2, ())
    assert restored.get_range(0, 1000) == log.get_range(0, 1000)
    entry = restored.get(1001)
    assert entry is not None
    (voter,) = configuration_codec.decode(entry.payload).voters
    assert voter == Replica(PEER, hard_state.store, 0)
    store.verify(restored)


async def test_a_log_that_was_being_dissolved_begins_nothing(
    source: StorageEnvironment, tmp_path: Path
) -> None:
    log = founded(source)
    log.write(WriteBatch(hard_state=msgspec.structs.replace(log.hard_state, dissolve=1000)))
    head = await make_backup(source, tmp_path / "backup")
    store = open_storage("memory", peer=PEER)
    with pytest.raises(ConfigError, match="being dissolved"):
        restore_log(store, tmp_path / "backup", head, PEER, new_history=True)
