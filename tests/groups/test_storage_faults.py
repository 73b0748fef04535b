"""What a replica does when its store fails: nothing more is acknowledged, and it starts from the disk."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from mosaik.consensus import Write
from mosaik.groups import Consistency, running
from mosaik.groups.attachment import Attachment
from mosaik.machines import Counter
from mosaik.primitives.durable import WriteBatch
from mosaik.primitives.errors import (
    CorruptEntry,
    GroupTerminated,
    InvalidBatch,
    Offline,
    OutcomeUnknown,
    StorageError,
    StorageFormatTooNew,
    StorageFull,
    StorageMismatch,
    StoragePoisoned,
)
from tests.groups.fakes import FakeNode, FakeStore, World, fast
from tests.groups.test_group import CounterGroup, close_all, join, settle


@pytest_asyncio.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    await made.close()


async def formed(
    world: World, **changes: Any
) -> tuple[list[FakeNode], list[FakeStore], list[CounterGroup]]:
    nodes = [await world.node() for _ in range(3)]
    stores = [FakeStore() for _ in nodes]
    config = fast(bootstrap_expect=3, **changes)
    groups = [join(node, store, config) for node, store in zip(nodes, stores, strict=True)]
    await settle(groups)
    return nodes, stores, groups


class Fault:
    """Fails the next ``times`` batches that hold entries."""

    def __init__(
        self, store: FakeStore, error: Callable[[str], StorageError], times: int = 1
    ) -> None:
        self.error = error
        self.left = times
        self.hit = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        store.fail = self.fail

    def fail(self, batch: WriteBatch[Any]) -> Exception | None:
        if not self.left or not batch.entries:
            return None
        self.left -= 1
        self._loop.call_soon_threadsafe(self.hit.set)
        return self.error("planted by the test")


async def test_a_leader_whose_write_fails_steps_aside_and_comes_back(world: World) -> None:
    _, stores, groups = await formed(world)
    leader = next(i for i, group in enumerate(groups) if group.is_leader)
    await groups[leader].execute(Counter.Increment(1))
    bonds = list(groups[leader].bonds())
    Fault(stores[leader], StoragePoisoned)
    [outcome] = await asyncio.gather(
        groups[leader].execute(Counter.Increment(1)), return_exceptions=True
    )
    await settle(groups)
    assert stores[leader].openings == 2
    assert list(groups[leader].bonds()) == bonds  # they stayed
    values = {await group.query(Counter.Value()) for group in groups}
    # The followers may have committed it without this disk; whatever was said of it must be true.
    assert len(values) == 1
    if isinstance(outcome, OutcomeUnknown):
        assert values < {1, 2}
    else:
        assert values == ({1} if isinstance(outcome, Offline) else {2})
    await groups[leader].execute(Counter.Increment(1))
    await close_all(groups)


async def test_nothing_is_acknowledged_by_an_opening_after_its_failure(world: World) -> None:
    node = await world.node()
    store = FakeStore()
    group = join(node, store)
    await group.when().online()
    fault = Fault(store, StoragePoisoned)
    lost = group.execute(Counter.Increment(100))
    await fault.hit.wait()
    with pytest.raises(Offline):  # the next term's first entry lies where it would have been
        await lost
    await group.when().online()
    assert store.openings == 2
    assert (await group.execute(Counter.Increment(1))).result == 1  # the failed write is not in it
    await group.close()


async def test_the_planted_bug_that_goes_on_in_memory_acknowledges_what_no_disk_holds(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = await world.node()
    store = FakeStore()
    group = join(node, store)
    await group.when().online()

    def swallowing(opened: Attachment, write: Write) -> None:
        opened._disk.write(write.batch, lambda error: opened._persisted(write.sequence))

    monkeypatch.setattr(Attachment, "write", swallowing)
    Fault(store, StoragePoisoned)
    applied = await group.execute(Counter.Increment(100))
    assert applied.result == 100  # acknowledged
    assert all(log.get(applied) is None for log in store.opened.values())  # and nowhere
    await group.close()


async def test_after_three_failures_the_group_ends_with_the_cause(world: World) -> None:
    node = await world.node()
    store = FakeStore()
    group = join(node, store)
    await group.when().online()
    fault = Fault(store, StoragePoisoned, times=100)
    ended = group.when().committed().advanced()
    group.feed(Counter.Increment(1))
    await fault.hit.wait()
    with pytest.raises(GroupTerminated) as error:
        await asyncio.wait_for(ended, 10)
    assert isinstance(error.value.__cause__, StoragePoisoned)
    assert store.openings == 3
    await group.close()


def damaged(reason: str) -> CorruptEntry:
    return CorruptEntry(1, reason)


@pytest.mark.parametrize("error", [damaged, StorageMismatch, StorageFormatTooNew, InvalidBatch])
async def test_what_another_opening_would_only_find_again_ends_the_group_at_once(
    world: World, error: Callable[[str], StorageError]
) -> None:
    node = await world.node()
    store = FakeStore()
    group = join(node, store)
    await group.when().online()
    fault = Fault(store, error)
    ended = group.when().committed().advanced()
    group.feed(Counter.Increment(1))
    await fault.hit.wait()
    with pytest.raises(GroupTerminated) as raised:
        await asyncio.wait_for(ended, 10)
    assert type(raised.value.__cause__) is type(error(""))
    assert store.openings == 1
    await group.close()


async def test_the_planted_bug_that_hopes_serves_on_after_damage(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "_HOPELESS", ())
    node = await world.node()
    store = FakeStore()
    group = join(node, store)
    await group.when().online()
    Fault(store, damaged)
    with pytest.raises(Offline):  # said by the opening after the failed one
        await asyncio.wait_for(group.execute(Counter.Increment(1)), 10)
    await asyncio.wait_for(group.when().online(), 10)
    assert store.openings == 2
    await group.close()


async def test_a_full_disk_delays_and_loses_nothing(world: World) -> None:
    node = await world.node()
    store = FakeStore()
    group = join(node, store)
    await group.when().online()
    Fault(store, StorageFull, times=2)
    assert (await group.execute(Counter.Increment(1))).result == 1
    assert store.openings == 1
    await group.close()


async def test_a_leader_without_room_lets_another_lead(world: World) -> None:
    _, stores, groups = await formed(world)
    leader = next(i for i, group in enumerate(groups) if group.is_leader)
    # The first command also changes the hard state, for which messages wait; a later one does not.
    await groups[leader].execute(Counter.Increment(1))
    full = Fault(stores[leader], StorageFull, times=1000)
    changed = groups[leader].when().leader_changed()
    pending = groups[leader].execute(Counter.Increment(1))
    await asyncio.wait_for(changed, 5)
    full.left = 0
    await asyncio.gather(pending, return_exceptions=True)
    await settle(groups)
    assert len({await group.query(Counter.Value()) for group in groups}) == 1
    await close_all(groups)


def slow_sync(batch: WriteBatch[Any]) -> None:
    """What a disk does that has other things to do."""
    threading.Event().wait(0.1)


async def test_a_slow_disk_holds_up_nothing_but_its_own_writes(world: World) -> None:
    """The sync blocks its thread, never the event loop."""
    _, stores, groups = await formed(world, election_timeout=1.0)
    leader = next(i for i, group in enumerate(groups) if group.is_leader)
    for store in stores:
        store.fail = slow_sync
    began = time.monotonic()
    waiting = asyncio.gather(*(groups[leader].execute(Counter.Increment(1)) for _ in range(500)))
    turns = 0
    while not waiting.done():
        await asyncio.sleep(0.001)
        turns += 1
    await waiting
    assert time.monotonic() - began >= 0.1
    assert turns >= 20  # a loop that waited for the disk would have had a few
    assert groups[leader].is_leader
    assert await groups[leader].query(Counter.Value(), Consistency.WEAK) == 500
    for store in stores:
        store.fail = lambda batch: None
    await close_all(groups)


async def test_what_was_applied_is_replayed_when_the_disk_does_not_hold_it(world: World) -> None:
    """Not even a machine that is ahead of its disk is trusted."""
    node = await world.node()
    store = FakeStore()
    group = join(node, store)
    await group.when().online()
    await group.execute_many([Counter.Increment(1)] * 5)
    log = next(iter(store.opened.values()))
    fault = Fault(store, StoragePoisoned)

    def forget(batch: WriteBatch[Any]) -> Exception | None:
        error = fault.fail(batch)
        if error is not None:
            del log.rows[-2:]  # what a failed sync may do
        return error

    store.fail = forget
    with pytest.raises(Offline):
        await group.execute(Counter.Increment(1))
    await group.when().online()
    assert await group.query(Counter.Value()) == 3
    await group.close()
