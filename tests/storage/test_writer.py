"""The writer thread: order, group commit, and whose batch fails."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from mosaik.primitives.durable import WriteBatch
from mosaik.primitives.errors import (
    InvalidBatch,
    StorageClosed,
    StorageError,
    StorageFull,
    StoragePoisoned,
)
from mosaik.storage import Change, Storage, StorageEnvironment, Writer, open_storage, writer
from mosaik.storage.environment import EngineEnvironment
from mosaik.storage.watermark import Watermark
from tests.storage.support import PEER, Disk, DiskEngine, entries, identity, open_disk


class Held(DiskEngine):
    """An engine whose commits wait at a gate while it is closed."""

    gate: threading.Event
    commits: list[int]

    def commit(self, changes: Sequence[Change]) -> None:
        self.gate.wait()
        self.commits.append(len(changes))
        super().commit(changes)


class Rig:
    """A writer on a held engine."""

    def __init__(self, path: Path) -> None:
        self.disk = Disk()
        self.gate = threading.Event()
        self.gate.set()
        self.commits: list[int] = []
        self.path = path
        engine = type("Gated", (Held,), {"gate": self.gate, "commits": self.commits})
        self.environment: EngineEnvironment = open_disk(self.disk, path, engine=engine)
        self.writer = Writer(self.environment, owned=True)
        self.outcomes: list[tuple[str, StorageError | None]] = []

    def log(self, name: str) -> Storage[Any]:
        log = self.environment.log(identity(name))
        self.commits.clear()
        return log

    def submit(self, name: str, log: Storage[Any], batch: WriteBatch[Any]) -> None:
        self.writer.write(log, batch, lambda error: self.outcomes.append((name, error)))

    async def settle(self) -> None:
        await self.writer.call(lambda: None)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.gate.set()
    await rig.writer.close()


def batch(*of: Any) -> WriteBatch[Any]:
    return WriteBatch(entries=list(of))


async def test_what_waits_is_committed_together(rig: Rig) -> None:
    logs = {name: rig.log(name) for name in "abcd"}
    (entry,) = entries(1)
    rig.gate.clear()
    for name, log in logs.items():
        rig.submit(name, log, batch(entry))
    rig.gate.set()
    await rig.settle()
    assert rig.outcomes == [(name, None) for name in "abcd"]
    assert sum(rig.commits) == 4
    # The thread may have taken the first before the second was there; the rest went together.
    assert len(rig.commits) <= 2
    assert all(log.last().index == 1 for log in logs.values())


async def test_one_log_has_one_batch_in_a_transaction_and_keeps_its_order(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = rig.log("a")
    tried: list[int] = []
    commit = rig.environment.commit

    def counted(batches: Sequence[tuple[Storage[Any], WriteBatch[Any]]]) -> None:
        tried.append(len(batches))
        commit(batches)

    monkeypatch.setattr(rig.environment, "commit", counted)
    run = entries(5)
    rig.gate.clear()
    for entry in run:
        rig.submit(str(entry.index), log, batch(entry))
    rig.gate.set()
    await rig.settle()
    assert rig.outcomes == [(str(index), None) for index in range(1, 6)]
    assert tried == rig.commits == [1] * 5
    assert log.get_range(1, 9) == run


async def test_reads_see_what_was_submitted_before_them(rig: Rig) -> None:
    log = rig.log("a")
    run = entries(2)
    rig.submit("1", log, batch(run[0]))
    first = asyncio.ensure_future(rig.writer.call(lambda: log.get_range(1, 9)))
    await asyncio.sleep(0)
    rig.submit("2", log, batch(run[1]))
    assert await first == run[:1]
    assert await rig.writer.call(lambda: log.get_range(1, 9)) == run


async def test_an_invalid_batch_fails_its_own_group_only(rig: Rig) -> None:
    a, b, c, d = (rig.log(name) for name in "abcd")
    run = entries(2)
    rig.gate.clear()
    rig.submit("first", d, batch(run[0]))
    rig.submit("a", a, batch(run[0]))
    rig.submit("b", b, batch(run[1]))
    rig.submit("c", c, batch(run[0]))
    rig.gate.set()
    await rig.settle()
    outcomes = dict(rig.outcomes)
    assert isinstance(outcomes["b"], InvalidBatch)
    assert outcomes["a"] is outcomes["c"] is None
    assert (a.last().index, b.last().index, c.last().index) == (1, 0, 1)


async def test_without_the_repetition_it_would_fail_its_neighbours(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Planted bug: a refused transaction is not repeated batch by batch.
    monkeypatch.setattr(writer, "_REFUSALS", ())
    with pytest.raises((AssertionError, KeyError)):
        await test_an_invalid_batch_fails_its_own_group_only(rig)


async def test_a_full_disk_fails_only_what_does_not_fit(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, small, large = rig.log("first"), rig.log("small"), rig.log("large")
    commit = DiskEngine.commit

    def limited(self: DiskEngine, changes: Sequence[Change]) -> None:
        if sum(len(blob) for change in changes for _, blob in change.rows) > 500:
            raise StorageFull("no space left on the disk")
        commit(self, changes)

    monkeypatch.setattr(DiskEngine, "commit", limited)
    rig.gate.clear()
    rig.submit("first", first, batch(*entries(1)))
    rig.submit("small", small, batch(*entries(1)))
    rig.submit("large", large, batch(*entries(1, size=1000)))
    rig.gate.set()
    await rig.settle()
    outcomes = dict(rig.outcomes)
    assert outcomes["small"] is None
    assert isinstance(outcomes["large"], StorageFull)
    assert rig.environment.poisoned is None


async def test_poison_fails_everything_from_then_on(rig: Rig) -> None:
    a, b = rig.log("a"), rig.log("b")
    rig.disk.fail_syncs = 1
    rig.submit("a", a, batch(*entries(1)))
    await rig.settle()
    rig.submit("b", b, batch(*entries(1)))
    await rig.settle()
    assert [type(error) for _, error in rig.outcomes] == [StoragePoisoned] * 2
    with pytest.raises(StoragePoisoned):
        await rig.writer.call(lambda: a.get(1))


async def test_a_transaction_has_a_bound(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "MAX_TRANSACTION", 1000)
    logs = [rig.log(str(number)) for number in range(6)]
    huge = rig.log("huge")
    rig.gate.clear()
    for number, log in enumerate(logs):
        rig.submit(str(number), log, batch(*entries(1, size=400)))
    rig.submit("huge", huge, batch(*entries(1, size=5000)))
    rig.gate.set()
    await rig.settle()
    assert all(error is None for _, error in rig.outcomes)
    assert max(rig.commits) <= 2
    assert sum(rig.commits) == 7


async def test_the_loop_runs_while_the_disk_does_not(rig: Rig) -> None:
    log = rig.log("a")
    rig.gate.clear()
    rig.submit("a", log, batch(*entries(1)))
    for _ in range(100):
        await asyncio.sleep(0)
    assert not rig.outcomes
    rig.gate.set()
    await rig.settle()
    assert rig.outcomes == [("a", None)]


async def test_idleness_writes_the_watermark(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed = asyncio.Event()
    loop = asyncio.get_running_loop()
    flush = Watermark.flush

    def noted(self: Watermark) -> None:
        flush(self)
        loop.call_soon_threadsafe(flushed.set)

    monkeypatch.setattr(Watermark, "flush", noted)
    rig.submit("a", rig.log("a"), batch(*entries(3)))
    await rig.settle()
    await asyncio.wait_for(flushed.wait(), 10)
    mark = Watermark.open(rig.path / "mosaik.watermark")
    assert mark is not None
    assert mark.mark(identity("a").group).index == 3
    mark.close()


async def test_errors_of_jobs_reach_who_asked(rig: Rig) -> None:
    def fail() -> None:
        raise LookupError("no")

    with pytest.raises(LookupError):
        await rig.writer.call(fail)
    await rig.settle()


async def test_a_backends_own_exception_counts_as_poison(rig: Rig) -> None:
    class Foreign:
        """A store that raises what it likes."""

        key = "foreign"
        poisoned = None

        def commit(self, batches: Sequence[Any]) -> None:
            raise RuntimeError("something of its own")

        def idle(self) -> None:
            """Nothing."""

    foreign: Any = Foreign()
    done: asyncio.Future[StorageError | None] = asyncio.get_running_loop().create_future()
    other = Writer(foreign)
    other.write(rig.log("a"), batch(), done.set_result)
    error = await done
    assert isinstance(error, StoragePoisoned)
    assert isinstance(error.__cause__, RuntimeError)
    await other.close()


async def test_a_callback_that_raises_does_not_keep_the_next_from_being_called(rig: Rig) -> None:
    problems: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))

    def fail(_: object) -> None:
        raise LookupError("no")

    a, b = rig.log("a"), rig.log("b")
    rig.gate.clear()
    rig.writer.write(a, batch(*entries(1)), fail)
    rig.submit("b", b, batch(*entries(1)))
    rig.gate.set()
    await rig.settle()
    assert rig.outcomes == [("b", None)]
    assert [type(problem["exception"]) for problem in problems] == [LookupError]


async def test_closing_finishes_what_was_submitted(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    log = rig.log("a")
    for entry in entries(20):
        rig.submit("a", log, batch(entry))
    await rig.writer.close()
    await rig.writer.close()
    assert [error for _, error in rig.outcomes] == [None] * 20
    with pytest.raises(StorageClosed):
        rig.submit("a", log, batch())
    with pytest.raises(StorageClosed):
        log.get(1)
    for thread in threading.enumerate():
        if rig.environment.key in thread.name:
            thread.join(10)
            assert not thread.is_alive()


async def test_users_of_one_store_share_its_thread(tmp_path: Path) -> None:
    environment = open_disk(Disk(), tmp_path)
    a, b = Writer(environment), Writer(environment)
    names: list[str] = [await w.call(lambda: threading.current_thread().name) for w in (a, b)]
    assert names[0] == names[1]
    await a.close()
    assert await b.call(lambda: threading.current_thread().name) == names[1]
    await b.close()
    environment.close()


async def test_a_store_is_opened_off_the_loop() -> None:
    threads: list[str] = []

    def opener() -> StorageEnvironment:
        threads.append(threading.current_thread().name)
        return open_storage("memory", peer=PEER)

    opened = await Writer.open(opener)
    assert threads != [threading.current_thread().name]
    log = await opened.call(lambda: opened.environment.log(identity()))
    assert log.last().index == 0
    await opened.close()


async def test_an_opening_that_nobody_waits_for_is_closed_again() -> None:
    gate, closed = threading.Event(), threading.Event()

    class Late:
        def close(self) -> None:
            closed.set()

    def opener() -> Any:
        gate.wait()
        return Late()

    task = asyncio.ensure_future(Writer.open(opener))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gate.set()
    assert await asyncio.to_thread(closed.wait, 10)


def test_outcomes_for_a_closed_loop_are_let_go(tmp_path: Path) -> None:
    rig: list[Rig] = []
    gate: Callable[[], bool]

    async def submit() -> None:
        rig.append(Rig(tmp_path))
        log = rig[0].log("a")
        rig[0].gate.clear()
        rig[0].submit("a", log, batch(*entries(1)))

    asyncio.run(submit())
    gate = rig[0].gate.is_set
    assert not gate()
    rig[0].gate.set()

    async def close() -> None:
        await rig[0].writer.close()

    asyncio.run(close())
    assert rig[0].outcomes == []
