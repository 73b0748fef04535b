"""Waiting for a group to become something."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mosaik.groups.watch import State
from mosaik.groups.when import When
from mosaik.primitives.cursor import Cursor, Index, IndexRange
from mosaik.primitives.digest import PeerId
from mosaik.primitives.errors import GroupTerminated

ME, OTHER = PeerId.from_bytes(b"m" * 32), PeerId.from_bytes(b"o" * 32)


@pytest.fixture
def state() -> State:
    return State()


@pytest.fixture
def when(state: State) -> When:
    return When(state, ME)


async def test_leaders(state: State, when: When) -> None:
    elected, changed, mine = when.leader_elected(), when.leader_changed(), when.is_leader()
    assert when.is_follower().done()  # nobody leads
    state.leader.set(OTHER)
    assert await elected == OTHER
    assert await changed == OTHER
    assert when.leader_elected().done()
    again = when.leader_changed()
    state.leader.set(None)
    state.leader.set(OTHER)
    assert not again.done()  # neither nobody nor the same is a change
    state.leader.set(ME)
    assert await again == ME
    assert await mine == ME
    assert not when.is_follower().done()
    assert when.leader_is(ME).done()
    assert not when.leader_is(OTHER).done()


async def test_online_and_quorum(state: State, when: When) -> None:
    assert when.offline().done()
    assert when.quorum_restored().done()
    online, lost = when.online(), when.quorum_lost()
    state.online.set(True)
    state.quorum_lost.set(True)
    assert await online is True
    assert await lost is True
    assert not when.offline().done()
    assert not when.quorum_restored().done()


async def test_positions(state: State, when: When) -> None:
    state.committed.set(Index(5))
    watch = when.committed()
    changed, advanced, reverted = watch.changed(), watch.advanced(), watch.reverted()
    reached, later = watch.reaches(5), watch.reaches(IndexRange(1, 9))
    assert await reached == 5
    state.committed.set(Index(7))
    assert await changed == 7
    assert await advanced == 7
    assert not later.done()
    state.committed.set(Index(0))
    assert await reverted == 0
    state.committed.set(Index(9))
    assert await later == 9


async def test_the_log(state: State, when: When) -> None:
    by_cursor, by_index = when.log().reaches(Cursor(2, 3)), when.log().reaches(5)
    state.log.set(Cursor(1, 5))
    assert await by_index == Cursor(1, 5)
    assert not by_cursor.done()
    reverted = when.log().reverted()
    state.log.set(Cursor(1, 4))
    assert await reverted == Cursor(1, 4)
    state.log.set(Cursor(2, 3))
    assert await by_cursor == Cursor(2, 3)


@pytest.mark.parametrize(
    "wait",
    ["leader_elected", "leader_changed", "is_leader", "online", "quorum_lost"],
)
async def test_nothing_waits_for_a_group_that_has_ended(
    state: State, when: When, wait: str
) -> None:
    cause = ValueError("the reason")

    def error() -> GroupTerminated:
        made = GroupTerminated("ended")
        made.__cause__ = cause
        return made

    before: Any = getattr(when, wait)()
    position = when.committed().advanced()
    abandoned = when.log().changed()
    state.end(error)
    after: Any = getattr(when, wait)()
    for waiting in (before, position, after, when.log().reaches(1)):
        with pytest.raises(GroupTerminated) as ended:
            await waiting
        assert ended.value.__cause__ is cause
    assert abandoned.done()


async def test_giving_up_waiting_leaves_nothing_behind(state: State, when: When) -> None:
    for _ in range(100):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(when.leader_elected(), 0)
    assert len(state.leader._waiting) <= 1
