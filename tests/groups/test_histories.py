"""What callers see when a history ends: it was dissolved, or a majority forgot it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from mosaik.groups import Consistency
from mosaik.machines import Counter
from mosaik.primitives.errors import HistoryLost, StoragePoisoned
from tests.groups.fakes import FakeStore, World, fast
from tests.groups.test_group import close_all, join, settle
from tests.groups.test_storage_faults import Fault


@pytest_asyncio.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    await made.close()


async def test_a_history_without_commands_gives_way_to_one_with(world: World) -> None:
    """Two nodes that began apart meet: the one that holds nothing joins the other."""
    nodes = [await world.node(), await world.node()]
    world.hub.separate(nodes[0].peer, nodes[1].peer)
    groups = [join(node) for node in nodes]
    await settle(groups)
    await groups[0].execute_many([Counter.Increment(1)] * 7)
    reverted = groups[1].when().committed().reverted()
    world.hub.heal()
    await asyncio.wait_for(reverted, 10)
    await settle(groups)
    assert await groups[1].query(Counter.Value(), Consistency.STRONG) == 7
    assert (await groups[1].execute(Counter.Increment(1))).result == 8
    await close_all(groups)


async def test_two_histories_with_commands_stay_apart(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither may be given up, so each goes on for itself and says so."""
    nodes = [await world.node(), await world.node()]
    world.hub.separate(nodes[0].peer, nodes[1].peer)
    groups = [join(node) for node in nodes]
    await settle(groups)
    for group in groups:
        await group.execute(Counter.Increment(1))
    world.hub.heal()
    async with asyncio.timeout(10):
        while "divergent history" not in caplog.text:
            await asyncio.sleep(0.01)
    for group in groups:
        assert (await group.execute(Counter.Increment(1))).result == 2
    await close_all(groups)


async def test_when_a_majority_forgot_the_rest_refuses_writes(world: World) -> None:
    """In memory, two of three restart: what they acknowledged cannot be vouched for any more."""
    nodes = [await world.node(durable=False) for _ in range(3)]
    config = fast(bootstrap_expect=3)
    groups = [join(node, FakeStore(durable=False), config) for node in nodes]
    await settle(groups)
    await groups[0].execute(Counter.Increment(1))
    survivor = groups[0]
    for node in nodes[1:]:
        world.hub.isolate(node.peer)
    for group in groups[1:]:
        await group.close()
    world.hub.heal()
    again = [join(node, FakeStore(durable=False), config) for node in nodes[1:]]
    async with asyncio.timeout(10):
        while survivor._replica.view is None or not survivor._replica.view.lost:
            await asyncio.sleep(0.01)
    with pytest.raises(HistoryLost):
        survivor.execute(Counter.Increment(1))
    assert await survivor.query(Counter.Value(), Consistency.WEAK) == 1
    await close_all([survivor, *again])


async def test_a_poisoned_store_concerns_every_group_in_it(world: World) -> None:
    """The one that wrote nothing lets go of it too, or the other could never open it again."""
    node = await world.node()
    store = FakeStore()
    one = join(node, store)
    two = join(node, store, fast(query_timeout=2.0))
    assert one.id != two.id
    await settle([one])
    await settle([two])
    assert store.openings == 2
    fault = Fault(store, StoragePoisoned)
    offline = two.when().offline()
    one.feed(Counter.Increment(1)).add_done_callback(lambda done: done.exception())
    await fault.hit.wait()
    await asyncio.wait_for(offline, 5)
    await settle([one])
    await settle([two])
    assert store.openings == 4
    await close_all([one, two])
