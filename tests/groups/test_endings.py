"""Unhappy ends: a bug, a full disk, a failed store, a handle closed while another is made."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from mosaik.consensus import step
from mosaik.groups.replica import Replica
from mosaik.machines import Counter
from mosaik.primitives.errors import (
    GroupTerminated,
    InternalError,
    Offline,
    OutcomeUnknown,
    StorageFull,
    StoragePoisoned,
)
from tests.groups.fakes import FakeStore, World, fast
from tests.groups.test_group import close_all, join
from tests.groups.test_storage_faults import Fault, formed


@pytest_asyncio.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    await made.close()


@pytest.mark.parametrize("where", ["in the core", "in the driver"])
async def test_a_bug_ends_the_replica_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """A core that stopped halfway through a step must not be stepped again, nor go on leading."""
    node = await world.node()
    group = join(node)
    await group.when().online()

    def broken(*_: Any) -> None:
        raise IndexError("planted by the test")

    ended = group.when().committed().advanced()
    if where == "in the core":
        monkeypatch.setattr(step, "_run_timers", broken)
    else:
        monkeypatch.setattr(Replica, "_send", broken)
        monkeypatch.setattr(Replica, "_carry_out", broken)
    with pytest.raises(GroupTerminated) as error:  # and not: "certainly not done"
        await group.execute(Counter.Increment(1))
    assert isinstance(error.value.__cause__, InternalError)
    with pytest.raises(GroupTerminated):
        await ended
    assert not group.is_leader
    await group.close()


async def test_a_removal_that_the_store_interrupted_may_have_happened(world: World) -> None:
    _, stores, groups = await formed(world)
    other = next(i for i, group in enumerate(groups) if not group.is_leader)
    stores[other].gate.clear()
    asked = asyncio.ensure_future(groups[other].leave())
    await asyncio.sleep(0)
    Fault(stores[other], StoragePoisoned)
    stores[other].fail = lambda batch: StoragePoisoned("planted by the test")
    groups[other]._running.store_poisoned(stores[other].key, StoragePoisoned("planted"))
    stores[other].gate.set()
    with pytest.raises(OutcomeUnknown, match="it may still happen"):
        await asked
    stores[other].fail = lambda batch: None
    await close_all(groups)


async def test_a_full_disk_is_told_to_callers(world: World) -> None:
    node = await world.node()
    store = FakeStore()
    group = join(node, store, fast(forward_timeout=0.3))
    await group.when().online()
    full = Fault(store, StorageFull, times=1_000_000)
    taken = group.execute(Counter.Increment(1))
    await full.hit.wait()
    await group.when().offline()
    with pytest.raises(OutcomeUnknown):
        await taken
    with pytest.raises(Offline, match="this node's store cannot be written: planted by the test"):
        await group.execute(Counter.Increment(1))
    full.left = 0
    await group.when().online()
    assert (await group.execute(Counter.Increment(1))).result == 2  # the unknown one was done
    await group.close()


async def test_a_quorum_that_was_lost_before_the_store_failed_is_reported_back(
    world: World,
) -> None:
    nodes, _, groups = await formed(world)
    cut = next(i for i, group in enumerate(groups) if not group.is_leader)
    for i, node in enumerate(nodes):
        if i != cut:
            world.hub.separate(nodes[cut].peer, node.peer)
    await groups[cut].when().quorum_lost()
    groups[cut]._running._break(StoragePoisoned("planted by the test"))
    world.hub.heal()
    await groups[cut].when().online()
    await groups[cut].when().quorum_restored()
    await close_all(groups)


async def test_joining_while_the_last_handle_closes_gives_one_that_lives(world: World) -> None:
    nodes, stores, groups = await formed(world)
    leader = next(i for i, group in enumerate(groups) if group.is_leader)
    closing = asyncio.ensure_future(groups[leader].close())
    await asyncio.sleep(0)
    again = join(nodes[leader], stores[leader], fast(bootstrap_expect=3))
    await closing
    groups[leader] = again
    await again.when().online()
    assert (await again.execute(Counter.Increment(1))).result == 1
    await close_all(groups)
