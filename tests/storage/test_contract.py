"""The contract's reads and writes, on every backend that is installed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from mosaik.primitives.cursor import Cursor, IndexRange
from mosaik.primitives.durable import Anchor, HardState, SnapshotRef, WriteBatch
from mosaik.primitives.entry import Entry
from mosaik.primitives.errors import InvalidBatch, StorageClosed, StorageLocked
from mosaik.primitives.membership import Replica
from mosaik.storage import Capability, Storage, StorageEnvironment, open_storage
from mosaik.storage.log import EngineLog
from tests.storage.conftest import OpenBackend
from tests.storage.support import PEER, end_of, entries, hard, identity


@pytest.fixture
def environment(opened: OpenBackend) -> StorageEnvironment:
    return opened()


@pytest.fixture
def log(environment: StorageEnvironment) -> EngineLog[Any]:
    log = environment.log(identity())
    assert isinstance(log, EngineLog)
    return log


def test_a_new_log_is_empty(log: Storage[Any]) -> None:
    assert log.available() == IndexRange(0, 0)
    assert log.last() == Cursor(0, 0)
    assert log.tail == log.anchor == Anchor()
    assert log.term_at(0) == 0
    assert log.term_at(1) is None
    assert log.get(0) is log.get(1) is None
    assert log.get_range(0, 10) == []
    assert len(log.hard_state.store) == 16
    assert log.suspect is None


def test_appended_entries_are_read_back(log: Storage[Any]) -> None:
    run = entries(5)
    log.append(run[:2])
    log.append(run[2:])
    assert log.available() == IndexRange(0, 5)
    assert log.last() == Cursor(1, 5)
    assert [log.get(index) for index in range(1, 6)] == run
    assert log.get_range(2, 4) == run[1:4]
    assert log.get_range(0, 99) == run
    assert log.get_range(4, 2) == []
    assert [entry.sealed for entry in log.get_range(1, 5)] == [entry.sealed for entry in run]


def test_a_range_stops_at_its_limit_and_gives_at_least_one(log: Storage[Any]) -> None:
    run = entries(100)
    size = len(run[0].sealed)
    log.append(run)
    assert log.get_range(10, 90, limit=1) == run[9:10]
    assert log.get_range(10, 90, limit=3 * size) == run[9:12]


@pytest.mark.parametrize("size", [1, 16, 3_000, 70_000])
def test_entries_of_any_size_share_or_fill_rows(log: Storage[Any], size: int) -> None:
    run = entries(64, size=size)
    log.append(run)
    assert log.get_range(1, 64) == run
    log.truncate(33)
    assert log.get_range(1, 64) == run[:32]
    log.prune_prefix(16)
    assert log.get_range(1, 64) == run[16:32]


def test_terms_are_known_without_reading(log: Storage[Any]) -> None:
    first = entries(3, term=2)
    second = entries(2, end_of(first), term=5)
    log.append([*first, *second])
    assert list(log.term_starts) == [(1, 2), (4, 5)]
    assert [log.term_at(index) for index in range(7)] == [0, 2, 2, 2, 5, 5, None]


def test_truncation_removes_the_end(log: Storage[Any]) -> None:
    run = entries(10)
    log.append(run)
    log.truncate(11)
    assert log.last().index == 10
    log.truncate(5)
    assert log.tail == end_of(run[:4])
    assert log.get(5) is None
    other = entries(3, end_of(run[:4]), term=2)
    log.append(other)
    assert log.get_range(1, 99) == [*run[:4], *other]
    log.truncate(0)
    assert log.last() == Cursor(0, 0)
    assert list(log.term_starts) == []


def test_truncation_at_the_anchor_keeps_the_anchor(log: Storage[Any]) -> None:
    run = entries(10)
    log.append(run)
    log.prune_prefix(4)
    log.truncate(2)
    assert log.available() == IndexRange(4, 4)
    assert log.last() == Cursor(1, 4)
    log.append(entries(1, log.tail, term=3))
    assert log.last() == Cursor(3, 5)


def test_pruning_removes_the_beginning(log: Storage[Any]) -> None:
    run = entries(10)
    log.append(run)
    for up_to in (0, 4, 4, 2):
        log.prune_prefix(up_to)
    assert log.available() == IndexRange(4, 10)
    assert log.anchor == end_of(run[:4])
    assert log.term_at(4) == 1
    assert log.term_at(3) is None
    assert log.term_at(0) == 0
    assert log.get(4) is None
    assert log.get_range(0, 99) == run[4:]
    log.prune_prefix(99)
    assert log.available() == IndexRange(10, 10)
    assert log.last() == Cursor(1, 10)
    log.append(entries(1, end_of(run)))
    assert log.get_range(0, 99) == entries(1, end_of(run))


def test_a_reset_continues_after_its_anchor(log: Storage[Any]) -> None:
    log.append(entries(3))
    anchor = Anchor(7, 100, 1234)
    log.reset_to(anchor)
    assert log.available() == IndexRange(100, 100)
    assert log.last() == Cursor(7, 100)
    assert log.term_at(100) == 7
    assert log.get_range(0, 999) == []
    run = entries(2, anchor, term=7)
    log.append(run)
    assert log.get_range(0, 999) == run
    assert list(log.term_starts) == [(101, 7)]


def test_a_batch_applies_its_parts_in_order(log: EngineLog[Any]) -> None:
    run = entries(10)
    log.append(run)
    tail = entries(6, end_of(run[:4]), term=2)
    snapshot = SnapshotRef(end_of(run[:2]), "snap", 10, bytes(32))
    log.write(
        WriteBatch(
            hard_state=hard(log, term=2),
            truncate_from=5,
            entries=tail,
            prune_to=3,
            snapshot=snapshot,
        )
    )
    assert log.hard_state.term == 2
    assert log.get_range(0, 99) == [run[3], *tail]
    assert list(log.term_starts) == [(4, 1), (5, 2)]
    assert log.snapshot == snapshot


def test_pruning_reaches_into_the_same_batch(log: Storage[Any]) -> None:
    run = entries(6)
    log.append(run[:2])
    log.write(WriteBatch(entries=run[2:], prune_to=4))
    assert log.anchor == end_of(run[:4])
    assert log.get_range(0, 99) == run[4:]
    log.write(WriteBatch(truncate_from=6, prune_to=5))
    assert log.available() == IndexRange(5, 5)


def _vote(who: bytes) -> Replica:
    return Replica(who * 32, b"s" * 16, 0)


def _invalid(log: EngineLog[Any]) -> dict[str, WriteBatch[Any]]:
    tail = log.tail
    good = entries(3, tail, term=3)
    foreign: list[Entry[Any]] = entries(1, Anchor(3, tail.index, tail.checksum ^ 1), term=3)
    return {
        "a gap": WriteBatch(entries=good[1:]),
        "a gap within": WriteBatch(entries=[good[0], good[2]]),
        "an entry again": WriteBatch(entries=[good[0], good[0]]),
        "a term that goes back": WriteBatch(entries=entries(1, tail, term=2)),
        "another predecessor": WriteBatch(entries=foreign),
        "a time that goes back": WriteBatch(entries=entries(1, tail, term=3, time_ms=0)),
        "a second vote": WriteBatch(hard_state=hard(log, voted_for=_vote(b"b"))),
        "a vote taken back": WriteBatch(hard_state=hard(log, voted_for=None)),
        "an older term": WriteBatch(hard_state=hard(log, term=2)),
        "an earlier life": WriteBatch(hard_state=hard(log, life=0, term=9)),
        "a life without an empty log": WriteBatch(hard_state=hard(log, life=2)),
        "another history in one life": WriteBatch(hard_state=hard(log, history=b"x" * 32)),
        "no store id": WriteBatch(hard_state=hard(log, store=b"")),
        "a negative truncation": WriteBatch(truncate_from=-1),
        "a negative pruning": WriteBatch(prune_to=-1),
        "a negative reset": WriteBatch(reset_to=Anchor(0, -1, 0)),
        "a good part and a bad one": WriteBatch(
            hard_state=hard(log, term=9), entries=[*good, good[2]]
        ),
    }


def test_what_does_not_fit_is_refused_and_changes_nothing(log: EngineLog[Any]) -> None:
    first = hard(log, life=1, history=b"h" * 32, term=3, voted_for=_vote(b"a"))
    log.write(WriteBatch(hard_state=first, reset_to=Anchor(), entries=entries(4, term=3)))
    before = (log.hard_state, log.tail, log.term_starts, log.get_range(0, 99))
    for name, batch in _invalid(log).items():
        with pytest.raises(InvalidBatch):
            log.write(batch)
        assert (log.hard_state, log.tail, log.term_starts, log.get_range(0, 99)) == before, name
    # And the refusals left nothing behind that the next batch would trip over.
    log.append(entries(2, log.tail, term=3))
    assert log.last() == Cursor(3, 6)


def _no_rules_of_life(old: HardState, new: HardState) -> None:
    """Planted bug: second votes and older terms are accepted."""


def _no_continuity(
    draft: object, run: list[Entry[Any]]
) -> tuple[list[bytes], list[tuple[int, int]]]:
    """Planted bug: gaps, older terms and foreign predecessors are accepted."""
    return [entry.sealed for entry in run], [(run[0].index, run[0].term)]


@pytest.mark.parametrize(
    ("check", "planted"),
    [("_check_life", _no_rules_of_life), ("_Draft._follow", _no_continuity)],
)
def test_a_forgotten_check_is_noticed(
    log: EngineLog[Any], monkeypatch: pytest.MonkeyPatch, check: str, planted: object
) -> None:
    monkeypatch.setattr(f"mosaik.storage.plan.{check}", planted)
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        test_what_does_not_fit_is_refused_and_changes_nothing(log)


def test_a_new_life_starts_over(log: EngineLog[Any]) -> None:
    log.write(WriteBatch(hard_state=hard(log, term=5, history=b"h" * 32), entries=entries(3)))
    log.write(WriteBatch(hard_state=hard(log, life=1, term=0, history=b""), reset_to=Anchor()))
    assert log.hard_state.life == 1
    assert log.last() == Cursor(0, 0)
    reborn = hard(log, store=b"n" * 16, life=0)
    log.write(WriteBatch(hard_state=reborn, reset_to=Anchor()))
    assert log.hard_state.store == b"n" * 16


def test_logs_of_one_store_are_apart(environment: StorageEnvironment) -> None:
    a, b = environment.log(identity("a")), environment.log(identity("b"))
    run = entries(5)
    environment.commit([(a, WriteBatch(entries=run)), (b, WriteBatch(entries=run[:2]))])
    a.truncate(2)
    assert a.last().index == 1
    assert b.get_range(0, 9) == run[:2]
    assert {each.group for each in environment.logs()} == {identity("a").group, identity("b").group}
    with pytest.raises(InvalidBatch, match="does not fit"):
        environment.commit([(a, WriteBatch(entries=run[1:2])), (b, WriteBatch(entries=run))])
    assert a.last().index == 1


def test_one_log_has_one_batch_in_a_commit(environment: StorageEnvironment) -> None:
    log = environment.log(identity())
    run = entries(2)
    with pytest.raises(InvalidBatch, match="two batches"):
        environment.commit([(log, WriteBatch(entries=run[:1])), (log, WriteBatch(entries=run[1:]))])


def test_a_log_of_another_store_is_refused(environment: StorageEnvironment) -> None:
    other = open_storage("memory", peer=PEER)
    with pytest.raises(InvalidBatch, match="not a log of this store"):
        environment.commit([(other.log(identity()), WriteBatch(entries=entries(1)))])
    other.close()


def test_a_whole_log_can_be_verified(environment: StorageEnvironment, log: Storage[Any]) -> None:
    log.append(entries(3_000, size=500))
    log.prune_prefix(10)
    seen: list[int] = []
    environment.verify(log, seen.append)
    assert seen[-1] == 3_000
    assert seen == sorted(seen)


def test_a_retired_log_is_forgotten(environment: StorageEnvironment, log: Storage[Any]) -> None:
    store = log.hard_state.store
    log.append(entries(3))
    log.retire()
    assert environment.logs() == []
    with pytest.raises(StorageClosed, match="retired"):
        log.append(entries(1))
    fresh = environment.log(identity())
    assert fresh.last() == Cursor(0, 0)
    assert fresh.hard_state.store != store


def test_a_closed_store_is_closed(environment: StorageEnvironment, log: Storage[Any]) -> None:
    log.append(entries(1))
    environment.close()
    environment.close()
    with pytest.raises(StorageClosed):
        log.get(1)
    with pytest.raises(StorageClosed):
        environment.log(identity())


def test_the_store_says_what_it_gives(environment: StorageEnvironment, backend: str) -> None:
    described = environment.describe()
    assert described.url.startswith(backend)
    assert (Capability.KILL_SAFE in described.capabilities) == (backend != "memory")


def test_everything_is_there_again(durable_backend: str, tmp_path: Path) -> None:
    environment = open_storage(durable_backend, peer=PEER, data_dir=tmp_path)
    log = environment.log(identity("a", machine="counter"))
    assert isinstance(log, EngineLog)
    run = entries(300, size=400)
    snapshot = SnapshotRef(end_of(run[:20]), "snap", 10, bytes(32))
    log.append(run)
    log.write(
        WriteBatch(
            hard_state=hard(log, term=4, voted_for=_vote(b"a")),
            truncate_from=251,
            entries=entries(10, end_of(run[:250]), term=4),
            prune_to=20,
            snapshot=snapshot,
        )
    )
    before = (log.hard_state, log.anchor, log.tail, tuple(log.term_starts), log.snapshot)
    content = log.get_range(0, 999)
    environment.close()
    again = open_storage(durable_backend, peer=PEER, data_dir=tmp_path)
    log = again.log(identity("a", machine="counter"))
    assert (log.hard_state, log.anchor, log.tail, tuple(log.term_starts), log.snapshot) == before
    assert log.get_range(0, 999) == content
    again.verify(log)
    again.close()


def test_a_second_process_is_locked_out(durable_backend: str, tmp_path: Path) -> None:
    environment = open_storage(durable_backend, peer=PEER, data_dir=tmp_path)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover  # it ends below, without pytest
        answer = b"opened"
        try:
            open_storage(f"{durable_backend}://{_path(environment)}", peer=PEER)
        except StorageLocked as error:
            answer = str(error).encode()
        except BaseException as error:
            answer = repr(error).encode()
        os.write(writer, answer)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        told = pipe.read().decode()
    os.waitpid(child, 0)
    assert f"process {os.getpid()} has this store open" in told
    environment.log(identity()).append(entries(1))
    environment.close()


def _path(environment: StorageEnvironment) -> str:
    return environment.key.partition(":")[2]
