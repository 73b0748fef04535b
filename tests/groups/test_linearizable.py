"""A group whose leader changes under load answers as one server would that does one thing at a time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from mosaik.groups import Consistency, Group
from mosaik.machines import Map
from mosaik.primitives.errors import MosaikError, OutcomeUnknown
from mosaik.testing.linearizability import (
    History,
    MapEntry,
    Operation,
    assert_linearizable,
    check_linearizable,
    require_telling,
    with_stale_read,
)
from tests.groups.fakes import KEY, FakeNode, FakeStore, World, fast
from tests.linearizability.kinds import inserted, is_exchange, is_read

KEYS = ("a", "b", "c")
CLIENTS = 6
CHANGES = 4
AnyGroup = Group[Any, Any, Any]


@pytest_asyncio.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    await made.close()


def join(node: FakeNode) -> AnyGroup:
    builder = node.groups.with_key(KEY).with_state_machine(Map(str, int))
    chosen = builder.with_log_storage(FakeStore())
    return chosen.with_consensus_config(fast(bootstrap_expect=3)).join()


class Recorder:
    """Clients of a group, and what they saw.

    Attributes:
        history: of all of them.
        changes: when each change of leaders began and ended, on the history's clock.
        stop: set when they have done enough.
    """

    def __init__(self, groups: list[AnyGroup], seed: int) -> None:
        self.history = History()
        self.changes: list[tuple[int, int]] = []
        self.stop = asyncio.Event()
        self._groups = groups
        self._seed = seed
        self._number = 0

    async def client(self, number: int) -> None:
        rng = random.Random(self._seed * 100 + number)
        known: dict[str, int | None] = dict.fromkeys(KEYS)
        while not self.stop.is_set():
            group, key = rng.choice(self._groups), rng.choice(KEYS)
            self._number += 1
            asked: Any = Map.Get(key)
            if (chance := rng.random()) < 0.3:
                asked = Map.Exchange(key, known[key], self._number)
            elif chance < 0.5:
                asked = Map.Insert(key, self._number)
            elif chance < 0.6:
                asked = Map.Remove(key)
            operation = self.history.begin(key, asked, client=number)
            try:
                if isinstance(asked, Map.Get):
                    found = await group.query(asked, Consistency.STRONG)
                    known[key] = found
                else:
                    found = (await group.execute(asked)).result
            except OutcomeUnknown:
                self.history.lose(operation)
            except MosaikError:
                self.history.drop(operation)
                await asyncio.sleep(0.005)  # nobody to ask; not to spin while there is none
            else:
                self.history.end(operation, found)

    async def run(self, world: World, nodes: list[FakeNode]) -> list[Operation]:
        """Works until the leader has changed often enough: it hands over, or is cut off."""
        async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
            for number in range(CLIENTS):
                tasks.create_task(self.client(number))
            for change in range(CHANGES):
                group = next(each for each in self._groups if each.is_leader)
                node = nodes[self._groups.index(group)]
                other = self._groups[(self._groups.index(group) + 1) % 3]
                changed, began = other.when().leader_changed(), self.history.mark()
                if change % 2:
                    world.hub.isolate(node.peer)
                    await changed
                    world.hub.heal()
                else:
                    await group.transfer_leadership()
                    await changed
                self.changes.append((began, self.history.mark()))
                await asyncio.gather(*(each.when().online() for each in self._groups))
                target = len(self.history) + 60
                while len(self.history) < target:
                    await asyncio.sleep(0.005)
            self.stop.set()
        return self.history.operations()


async def recorded(world: World, seed: int) -> tuple[list[Operation], list[tuple[int, int]]]:
    nodes = [await world.node() for _ in range(3)]
    groups = [join(node) for node in nodes]
    await asyncio.gather(*(group.when().online() for group in groups))
    recorder = Recorder(groups, seed)
    operations = await recorder.run(world, nodes)
    await asyncio.gather(*(group.close() for group in groups))
    return operations, recorder.changes


@pytest.mark.parametrize("seed", range(2))
async def test_every_history_has_an_order(world: World, seed: int) -> None:
    operations, changes = await recorded(world, seed)
    print(f"{len(operations)} operations, {sum(e.ended is None for e in operations)} unknown")
    require_telling(operations, changes, reads=is_read, exchanges=is_exchange)
    assert_linearizable(operations, MapEntry())
    stale = with_stale_read(operations, reads=is_read, written=inserted)
    assert check_linearizable(stale, MapEntry())


async def test_the_planted_bug_that_reads_from_its_own_copy_is_found(world: World) -> None:
    """A strong read that is answered like a weak one."""
    query: Callable[..., Any] = getattr(Group, "query")  # noqa: B009 - its type has parameters

    def weak(self: AnyGroup, asked: Any, _consistency: Any = None) -> Any:
        return query(self, asked, Consistency.WEAK)

    for seed in range(5):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Group, "query", weak)
            operations, _ = await recorded(world, seed + 10)
        if check_linearizable(operations, MapEntry()):
            return
    raise AssertionError("five histories of stale reads, and none was found")
