"""Order and outcome of commands, with the leader and the log played by the test."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from mosaik.groups.call import AppliedRange, Call
from mosaik.groups.outcome import Pending
from mosaik.groups.pipeline import MAX_FLIGHT, Leadership, Pipeline
from mosaik.primitives.cursor import Applied, Index, IndexRange
from mosaik.primitives.entry import Entry, EntryKind, seal
from mosaik.primitives.errors import GroupTerminated, Offline, OutcomeUnknown

A1, B2 = Leadership(b"a", 1), Leadership(b"b", 2)


class Leader:
    """Takes flights; the test says what becomes of them."""

    def __init__(self) -> None:
        self.flights: list[tuple[Leadership, int, list[bytes]]] = []
        self.reachable = True

    def dispatch(self, leadership: Leadership, token: int, payloads: Sequence[bytes]) -> bool:
        if self.reachable:
            self.flights.append((leadership, token, list(payloads)))
        return self.reachable

    @property
    def token(self) -> int:
        return self.flights[-1][1]


class Scene:
    """A pipeline and what the caller sees of it."""

    def __init__(self, kind: type[Pipeline] = Pipeline) -> None:
        self.leader = Leader()
        self.pipeline = kind(self.leader, patience=2.0)

    def give(self, *names: str, many: bool = False, feed: bool = False) -> Pending[Any]:
        pending: Pending[Any] = Pending(loop=asyncio.get_running_loop())
        payloads = [name.encode() for name in names]
        call = Call(list(names), payloads, pending, many=many or len(names) > 1, feed=feed)
        self.pipeline.put(call)
        return pending

    def send(self, leadership: Leadership | None = A1, now: float = 0.0) -> int:
        self.pipeline.advance(leadership, now)
        return self.leader.token if self.leader.flights else 0

    def land(self, first: int, *terms: int) -> None:
        entries: list[Entry[Any]] = [
            seal(EntryKind.COMMAND, first + offset, term, 0, b"", 0)
            for offset, term in enumerate(terms)
        ]
        self.pipeline.landed(entries, [f"r{entry.index}" for entry in entries])


def outcome(pending: Pending[Any]) -> Any:
    """What the caller sees: a value, the error's type, or None while it waits."""
    if not pending.done():
        return None
    error = pending.exception()
    return type(error) if error is not None else pending.result()


async def test_a_command_is_done_when_its_own_entry_is_applied() -> None:
    scene = Scene()
    one, two = scene.give("one"), scene.give("two")
    token = scene.send()
    assert scene.leader.flights == [(A1, token, [b"one", b"two"])]
    scene.pipeline.accepted(token, first=5, term=1, applied=4)
    assert outcome(one) is None
    scene.land(5, 1)
    assert outcome(one) == 5
    assert isinstance(one.result(), Applied)
    assert one.result().result == "r5"
    assert outcome(two) is None
    scene.land(6, 1)
    assert outcome(two) == 6
    assert len(scene.pipeline) == 0


async def test_another_entry_in_its_place_is_no_success() -> None:
    scene = Scene()
    one, two = scene.give("one"), scene.give("two")
    scene.pipeline.accepted(scene.send(), first=5, term=1, applied=4)
    scene.land(5, 1, 2)
    assert outcome(one) == 5
    assert outcome(two) is Offline
    assert two.exception().commands == ["two"]  # type: ignore[union-attr]


async def test_the_planted_bug_that_trusts_the_index_reports_a_false_success() -> None:
    class TrustsTheIndex(Pipeline):
        def landed(self, entries: Sequence[Entry[Any]], results: Sequence[Any]) -> None:
            same = [seal(e.kind, e.index, 1, 0, b"", 0) for e in entries]
            super().landed(same, results)

    scene = Scene(TrustsTheIndex)
    one = scene.give("one")
    scene.pipeline.accepted(scene.send(), first=5, term=1, applied=4)
    scene.land(5, 2)  # somebody else's command
    assert outcome(one) == 5


async def test_an_entry_of_an_older_term_in_its_place_is_no_success() -> None:
    scene = Scene()
    one = scene.give("one")
    scene.pipeline.accepted(scene.send(B2), first=5, term=2, applied=4)
    scene.land(5, 1)
    assert outcome(one) is Offline


@pytest.mark.parametrize(
    ("first", "term"), [(4, 1), (5, 2)], ids=["at an index that was applied", "of another term"]
)
async def test_an_answer_that_comes_too_late_to_tell_leaves_the_outcome_unknown(
    first: int, term: int
) -> None:
    scene = Scene()
    one, behind = scene.give("one"), scene.give("behind")
    token = scene.send()
    scene.pipeline.accepted(token, first=first, term=term, applied=4)
    scene.land(5, 1, 1)
    assert (outcome(one), outcome(behind)) == (OutcomeUnknown, OutcomeUnknown)


async def test_the_planted_bug_that_takes_a_late_answer_denies_what_was_done() -> None:
    """It may have been applied before the answer came; to say "certainly not done" would be a lie."""

    class Hasty(Pipeline):
        def accepted(self, token: int, first: int, term: int, applied: int) -> None:
            super().accepted(token, first, term, applied=first - 1)

    scene = Scene(Hasty)
    one = scene.give("one")
    scene.pipeline.accepted(scene.send(), first=4, term=1, applied=4)
    scene.land(5, 1)
    assert outcome(one) is Offline


async def test_entries_before_it_change_nothing() -> None:
    scene = Scene()
    one = scene.give("one")
    scene.pipeline.accepted(scene.send(B2), first=5, term=2, applied=2)
    scene.land(3, 1, 2)
    assert outcome(one) is None
    scene.land(5, 2)
    assert outcome(one) == 5


async def test_a_refused_command_comes_back_and_so_does_all_behind_it() -> None:
    scene = Scene()
    one = scene.give("one")
    first = scene.send()
    two = scene.give("two")
    second = scene.send()
    three = scene.give("three")
    scene.pipeline.refused(first, "not the leader")
    assert outcome(one) is Offline
    assert outcome(three) is Offline  # was given before the failure was known
    assert outcome(two) is None
    scene.pipeline.refused(second, "not the leader")
    assert outcome(two) is Offline


async def test_a_leader_that_accepts_behind_a_refusal_gives_no_success() -> None:
    """A leader refuses while it hands over, and may go on leading in the same term."""
    scene = Scene()
    one = scene.give("one")
    first = scene.send()
    two = scene.give("two")
    second = scene.send()
    scene.pipeline.refused(first, "leadership is being handed over")
    scene.pipeline.accepted(second, first=5, term=1, applied=4)
    scene.land(5, 1)
    assert outcome(one) is Offline
    assert outcome(two) is OutcomeUnknown


async def test_the_planted_bug_without_dooming_breaks_the_order_of_calls() -> None:
    class DoomsNothing(Pipeline):
        def _doom(self, why: str) -> None:
            """The bug."""

    scene = Scene(DoomsNothing)
    one = scene.give("one")
    first = scene.send()
    two = scene.give("two")
    second = scene.send()
    scene.pipeline.refused(first, "leadership is being handed over")
    scene.pipeline.accepted(second, first=5, term=1, applied=4)
    scene.land(5, 1)
    assert (outcome(one), outcome(two)) == (Offline, 5)


async def test_a_new_leader_gets_nothing_until_the_old_one_s_flights_are_decided() -> None:
    scene = Scene()
    one = scene.give("one")
    scene.pipeline.accepted(scene.send(A1), first=5, term=1, applied=4)
    two = scene.give("two")
    scene.send(B2)
    assert len(scene.leader.flights) == 1
    scene.land(5, 1)
    scene.send(B2)
    assert (outcome(one), outcome(two)) == (5, None)
    assert scene.leader.flights[-1][0] == B2


async def test_what_was_given_before_a_failure_fails_with_it() -> None:
    scene = Scene()
    scene.give("one")
    scene.pipeline.accepted(scene.send(A1), first=5, term=1, applied=4)
    two = scene.give("two")
    scene.send(B2)
    scene.land(5, 2)
    assert outcome(two) is Offline
    assert len(scene.leader.flights) == 1


async def test_a_leader_that_falls_silent_leaves_the_outcome_unknown() -> None:
    scene = Scene()
    one = scene.give("one")
    scene.send(A1, now=10.0)
    two = scene.give("two")
    assert scene.pipeline.deadline == 12.0
    scene.send(A1, now=11.9)
    assert outcome(one) is None
    scene.send(A1, now=12.0)
    assert outcome(one) is OutcomeUnknown
    assert outcome(two) is OutcomeUnknown  # it went out at 11.9, behind the first


async def test_accepted_commands_wait_for_their_leader_and_not_longer() -> None:
    scene = Scene()
    one = scene.give("one")
    scene.pipeline.accepted(scene.send(A1, now=0.0), first=5, term=1, applied=4)
    scene.send(A1, now=1000.0)
    assert outcome(one) is None  # the leader leads; a slow disk is not a failure
    scene.send(None, now=1001.0)
    scene.send(B2, now=1002.9)
    assert outcome(one) is None
    scene.send(B2, now=1003.0)
    assert outcome(one) is OutcomeUnknown


async def test_a_broken_link_decides_only_what_was_not_answered() -> None:
    scene = Scene()
    one = scene.give("one")
    scene.pipeline.accepted(scene.send(), first=5, term=1, applied=4)
    two = scene.give("two")
    scene.send()
    three = scene.give("three")
    scene.pipeline.unreachable(b"somebody else")
    assert outcome(two) is None
    scene.pipeline.unreachable(b"a")
    assert (outcome(one), outcome(two), outcome(three)) == (None, OutcomeUnknown, Offline)
    scene.land(5, 1)
    assert outcome(one) == 5


async def test_without_a_leader_nothing_is_tried() -> None:
    scene = Scene()
    one = scene.give("one")
    scene.send(None)
    assert outcome(one) is Offline
    assert scene.leader.flights == []
    scene.leader.reachable = False
    two = scene.give("two")
    scene.send(A1)
    assert outcome(two) is Offline


async def test_feed_is_answered_when_the_leader_has_appended() -> None:
    scene = Scene()
    one, many = scene.give("one", feed=True), scene.give("two", "three", feed=True)
    scene.pipeline.accepted(scene.send(), first=5, term=1, applied=4)
    assert (outcome(one), outcome(many)) == (Index(5), IndexRange(6, 7))


async def test_a_batch_is_answered_with_its_range_and_results() -> None:
    scene = Scene()
    batch = scene.give("one", "two", "three")
    scene.pipeline.accepted(scene.send(), first=5, term=1, applied=4)
    scene.land(5, 1, 1)
    assert outcome(batch) is None
    scene.land(7, 1)
    assert outcome(batch) == IndexRange(5, 7)
    assert isinstance(batch.result(), AppliedRange)
    assert batch.result().results == ["r5", "r6", "r7"]


async def test_a_batch_of_which_a_part_is_done_is_not_called_undone() -> None:
    scene = Scene()
    batch = scene.give("one", "two", "three")
    scene.pipeline.accepted(scene.send(), first=5, term=1, applied=4)
    scene.land(5, 1, 2)
    assert outcome(batch) is OutcomeUnknown


async def test_a_batch_of_which_a_slice_is_accepted_is_not_called_undone() -> None:
    scene = Scene()
    batch = scene.give(*[f"c{n}" for n in range(MAX_FLIGHT + 1)])
    first = scene.send()
    second = scene.send()
    scene.pipeline.accepted(first, first=5, term=1, applied=4)
    scene.pipeline.refused(second, "no")
    assert outcome(batch) is OutcomeUnknown


async def test_a_batch_is_not_called_undone_while_a_slice_of_it_is_unanswered() -> None:
    scene = Scene()
    batch = scene.give(*[f"c{n}" for n in range(3 * MAX_FLIGHT)])
    first, second = scene.send(), scene.send()
    scene.pipeline.refused(first, "leadership is being handed over")
    scene.pipeline.accepted(second, first=5, term=1, applied=4)
    assert outcome(batch) is OutcomeUnknown


async def test_a_batch_that_is_refused_as_a_whole_comes_back_as_a_whole() -> None:
    scene = Scene()
    batch = scene.give(*[f"c{n}" for n in range(MAX_FLIGHT)])
    scene.pipeline.refused(scene.send(), "no")
    assert outcome(batch) is Offline


async def test_a_dissolved_history_hands_everything_back() -> None:
    scene = Scene()
    one = scene.give("one")
    scene.pipeline.accepted(scene.send(), first=5, term=1, applied=4)
    two = scene.give("two")
    scene.pipeline.discard("dissolved")
    assert (outcome(one), outcome(two)) == (Offline, Offline)


async def test_an_ended_group_answers_everybody() -> None:
    scene = Scene()
    one = scene.give("one")
    scene.send()
    two = scene.give("two")
    scene.pipeline.raise_all(lambda: GroupTerminated("over"))
    assert (outcome(one), outcome(two)) == (GroupTerminated, GroupTerminated)
    assert len(scene.pipeline) == 0


async def test_a_caller_that_gave_up_waiting_disturbs_nobody() -> None:
    scene = Scene()
    one, two = scene.give("one"), scene.give("two")
    scene.pipeline.accepted(scene.send(), first=5, term=1, applied=4)
    one.cancel()
    scene.land(5, 1, 1)
    assert outcome(two) == 6


async def test_pending_can_be_awaited_as_a_task_and_as_a_future() -> None:
    scene = Scene()
    one, two = scene.give("one"), scene.give("two")
    task = asyncio.create_task(one)
    scene.pipeline.accepted(scene.send(), first=5, term=1, applied=4)
    scene.land(5, 1, 1)
    assert await task == 5
    assert await asyncio.wait_for(two, 1) == 6
    abandoned = scene.give("three")
    waiting = asyncio.create_task(abandoned)
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
