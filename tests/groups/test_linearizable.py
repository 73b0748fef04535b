"""A group whose leader changes under load answers as one server would that does one thing at a time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from itertools import pairwise
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
)
from tests.groups.fakes import KEY, FakeNode, FakeStore, World, fast

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


def require_telling(operations: list[Operation], changes: list[tuple[int, int]]) -> None:
    """A history in which nothing could have gone wrong shows nothing."""
    share = len(operations) / 20
    assert sum(isinstance(each.input, Map.Get) for each in operations) >= share
    assert sum(isinstance(each.input, Map.Exchange) for each in operations) >= share
    assert sum(each.output is True for each in operations) >= 5, "exchanges that were done"
    assert any(
        each.call < over and (each.ended or over) > began
        for began, over in changes
        for each in operations
    ), "nothing that was done ran while the leader changed"
    ended = [each for each in operations if each.ended is not None]
    overlaps = sum(one.call < other.call < (one.ended or 0) for one, other in pairwise(ended))
    assert overlaps >= len(ended) / 4, "one at a time"


def is_insertion(asked: object) -> bool:
    return isinstance(asked, Map.Insert)


def inserted(each: Operation) -> int | None:
    """The value that an insertion that was answered put there."""
    return int(each.input.value) if is_insertion(each.input) and each.ended is not None else None


def stale(operations: list[Operation]) -> list[Operation]:
    """The same with one read that saw what was there long before."""
    for at in range(len(operations) - 1, -1, -1):
        read = operations[at]
        before = [e for e in operations if e.key == read.key and (e.ended or 0) < read.call - 40]
        older = [value for value in map(inserted, before) if value not in {None, read.output}]
        if isinstance(read.input, Map.Get) and read.ended is not None and older:
            return [*operations[:at], read._replace(output=older[0]), *operations[at + 1 :]]
    raise AssertionError("no read could be made stale")


@pytest.mark.parametrize("seed", range(2))
async def test_every_history_has_an_order(world: World, seed: int) -> None:
    operations, changes = await recorded(world, seed)
    print(f"{len(operations)} operations, {sum(e.ended is None for e in operations)} unknown")
    require_telling(operations, changes)
    assert_linearizable(operations, MapEntry())
    assert check_linearizable(stale(operations), MapEntry())


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
