"""Applying entries: in order, in slices, from memory or from the store."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from mosaik.groups.applier import Applier
from mosaik.machines import ApplyContext, Counter
from mosaik.primitives.codec import Codec
from mosaik.primitives.entry import Entry, EntryKind, seal
from mosaik.primitives.errors import ApplyError, MosaikError

CODEC: Codec[Any] = Codec(Counter().command_type)


def log_of(count: int, every_noop: int = 0) -> list[Entry[Any]]:
    """A log of increments, with a no-op now and then."""
    entries: list[Entry[Any]] = []
    payload, previous = CODEC.encode(Counter.Increment(1)), 0
    for index in range(1, count + 1):
        noop = bool(every_noop) and index % every_noop == 0
        kind = EntryKind.NOOP if noop else EntryKind.COMMAND
        entries.append(seal(kind, index, 1, index, b"" if noop else payload, previous))
        previous = entries[-1].checksum
    return entries


class Source:
    """Entries of a log, of which only the newest are in memory."""

    def __init__(self, log: list[Entry[Any]], in_memory: int = 0) -> None:
        self.log = log
        self.in_memory = in_memory
        self.reads = 0

    def entries(self, first: int, last: int) -> list[Entry[Any]] | None:
        if first <= len(self.log) - self.in_memory:
            return None
        return self.log[first - 1 : last]

    def fetch(
        self, first: int, last: int, limit: int, done: Callable[[list[Entry[Any]]], None]
    ) -> None:
        self.reads += 1
        size = max(1, limit // len(self.log[0].sealed))
        found = self.log[first - 1 : min(last, first - 1 + size)]
        asyncio.get_running_loop().call_soon(done, found)


class Scene:
    def __init__(self, machine: Counter, source: Source) -> None:
        self.landed: list[tuple[int, Any]] = []
        self.failed: asyncio.Future[MosaikError] = asyncio.get_running_loop().create_future()
        self.applier = Applier(machine, bytes(32), self._landed, self.failed.set_result)
        self.applier.attach(source)

    def _landed(self, entries: Sequence[Entry[Any]], results: Sequence[Any]) -> None:
        assert len(entries) == len(results)
        self.landed += [(e.index, result) for e, result in zip(entries, results, strict=True)]

    async def reaches(self, index: int) -> int:
        """Waits for it; returns how many turns the event loop took meanwhile."""
        turns = 0
        while self.applier.applied < index and not self.failed.done():
            turns += 1
            await asyncio.sleep(0)
        return turns


@pytest.mark.parametrize("in_memory", [5000, 1000, 0])
async def test_every_entry_is_applied_once_and_in_order(in_memory: int) -> None:
    machine = Counter()
    scene = Scene(machine, Source(log_of(5000, every_noop=7), in_memory))
    for target in (1, 10, 10, 3000, 5000):
        scene.applier.advance(target)
    await scene.reaches(5000)
    assert [index for index, _ in scene.landed] == list(range(1, 5001))
    results = [result for index, result in scene.landed if index % 7]
    assert results == list(range(1, len(results) + 1))
    assert {result for index, result in scene.landed if index % 7 == 0} == {None}


async def test_nothing_beyond_the_target_is_applied() -> None:
    scene = Scene(Counter(), Source(log_of(2000)))
    scene.applier.advance(700)
    await scene.reaches(700)
    for _ in range(20):
        await asyncio.sleep(0)
    assert scene.applier.applied == 700
    assert len(scene.landed) == 700


class Busy(Counter):
    """Takes 20 microseconds of processor time for each command."""

    def apply(self, command: Any, context: ApplyContext) -> int:
        until = time.perf_counter() + 20e-6
        while time.perf_counter() < until:
            pass
        return super().apply(command, context)


async def test_a_large_batch_leaves_the_event_loop_its_turns() -> None:
    """10,000 commands of 20 microseconds: 0.2 s at least, in slices of a few milliseconds."""
    scene = Scene(Busy(), Source(log_of(10_000), 10_000))
    scene.applier.advance(10_000)
    assert await scene.reaches(10_000) >= 30


async def test_the_planted_bug_that_applies_all_at_once_stalls_the_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mosaik.groups.applier.SLICE", 1e9)
    scene = Scene(Busy(), Source(log_of(10_000), 10_000))
    scene.applier.advance(10_000)
    assert await scene.reaches(10_000) < 30


async def test_a_handler_that_raises_is_named_with_its_entry() -> None:
    class Fragile(Counter):
        def apply(self, command: Any, context: ApplyContext) -> int:
            if context.cursor.index == 77:
                raise ZeroDivisionError("seventy-seven")
            return super().apply(command, context)

    scene = Scene(Fragile(), Source(log_of(200), 200))
    scene.applier.advance(200)
    error = await scene.failed
    assert isinstance(error, ApplyError)
    assert error.index == 77
    assert isinstance(error.__cause__, ZeroDivisionError)
    assert scene.applier.applied < 77
    scene.applier.advance(200)
    assert scene.applier.applied < 77  # and nothing more


@pytest.mark.parametrize("fault", ["raises", "too few"])
async def test_a_batch_handler_that_fails_is_named_too(fault: str) -> None:
    class Batched(Counter):
        def apply_batch(self, commands: Sequence[tuple[Any, ApplyContext]]) -> list[int]:
            if fault == "raises":
                raise ZeroDivisionError
            return super().apply_batch(commands)[:-1]

    scene = Scene(Batched(), Source(log_of(20), 20))
    scene.applier.advance(20)
    error = await scene.failed
    assert isinstance(error, ApplyError)
    assert error.index == 1


async def test_an_entry_that_is_no_command_of_this_machine_is_named() -> None:
    log = log_of(3)
    log.append(seal(EntryKind.COMMAND, 4, 1, 4, b"\xa5hello", log[-1].checksum))
    scene = Scene(Counter(), Source(log, 4))
    scene.applier.advance(4)
    error = await scene.failed
    assert isinstance(error, ApplyError)
    assert error.index == 4
    assert "signature()" in str(error)


async def test_a_new_source_replaces_what_was_on_its_way() -> None:
    machine = Counter()
    scene = Scene(machine, Source(log_of(2000)))
    scene.applier.advance(2000)
    scene.applier.restart()
    assert (scene.applier.applied, machine.query(Counter.Value())) == (0, 0)
    scene.applier.attach(Source(log_of(100)))
    scene.applier.advance(100)
    await scene.reaches(100)
    for _ in range(10):
        await asyncio.sleep(0)
    assert machine.query(Counter.Value()) == 100
