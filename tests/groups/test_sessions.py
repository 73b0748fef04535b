"""Sessions: a command that has to be given again is applied once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from mosaik.groups import Group, Session
from mosaik.groups.call import Call
from mosaik.groups.sessions import (
    EXPIRED,
    MAX_ANSWERS,
    MAX_SESSIONS,
    SESSION_MS,
    Answer,
    Expired,
    Sessions,
)
from mosaik.machines import Counter
from mosaik.primitives.entry import EntryKind, seal
from mosaik.primitives.errors import (
    ApplyError,
    CodecError,
    GroupTerminated,
    OutcomeUnknown,
    SessionExpired,
)
from mosaik.primitives.session import SessionHeader, SessionOp, unwrap, wrap
from tests.groups.fakes import FakeStore, World, fast
from tests.groups.test_group import close_all, formed, join, settle

ADD = Counter.Increment
CounterSession = Session[Any, Any, Any]


@pytest_asyncio.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    await made.close()


class Deaf:
    """The answers to a call's commands get lost, so many times: what was applied is told to be unknown."""

    def __init__(self, patch: pytest.MonkeyPatch, times: int) -> None:
        self.left = times
        self.lost = 0
        heard = Call.applied

        def applied(call: Call, index: int, result: Any) -> None:
            if self.left and isinstance(result, Answer):
                self.left -= 1
                self.lost += 1
                call.unknown("the answer was lost")
            else:
                heard(call, index, result)

        patch.setattr(Call, "applied", applied)


# -- groups -----------------------------------------------------------------------------------------


async def test_a_session_answers_as_the_group_does(world: World) -> None:
    node = await world.node()
    async with join(node) as group:
        await group.when().online()
        async with await group.session() as session:
            applied = await session.execute(ADD(5))
            assert applied.result == 5
            assert int(applied) == group.committed
            assert (await group.execute(ADD(1))).result == 6
            assert (await session.execute(ADD(1))).result == 7
        with pytest.raises(SessionExpired, match="was closed"):
            await session.execute(ADD(1))
        other: CounterSession = await group.session()
        with pytest.raises(CodecError):
            await other.execute("no command")
        assert await group.query(Counter.Value()) == 7


async def test_a_command_whose_answer_was_lost_is_applied_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, groups = await formed(world)
    for group in groups:
        session = await group.session()
        deaf = Deaf(monkeypatch, times=2)
        before = group.committed
        applied = await session.execute(ADD(1))
        assert deaf.lost == 2
        assert int(applied) == before + 1, "where it was applied, and not where it was given again"
        assert applied.result == groups.index(group) + 1
        monkeypatch.undo()
    assert await groups[0].query(Counter.Value()) == 3
    await close_all(groups)


async def test_several_under_way_are_applied_once_each(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, groups = await formed(world)
    session = await groups[0].session()
    deaf = Deaf(monkeypatch, times=30)
    answers = await asyncio.gather(*(session.execute(ADD(1)) for _ in range(100)))
    assert deaf.lost == 30
    assert sorted(answer.result for answer in answers) == list(range(1, 101))
    assert await groups[1].query(Counter.Value()) == 100
    await close_all(groups)


async def churned(world: World, commands: int) -> int:
    """What the counter shows after so many commands of a session, while leaders are cut off."""
    nodes, groups = await formed(world)
    session = await groups[0].session()
    for number in range(commands):
        giving = asyncio.ensure_future(session.execute(ADD(1)))
        if number % 3 == 1:
            leader = next(i for i, node in enumerate(nodes) if node.peer == groups[0].leader)
            changed = groups[(leader + 1) % 3].when().leader_changed()
            world.hub.isolate(nodes[leader].peer)
            await changed
            world.hub.heal()
        await giving
    await settle(groups)
    value = await groups[1].query(Counter.Value())
    await close_all(groups)
    return int(value)


async def test_a_session_goes_on_across_changes_of_leaders(world: World) -> None:
    assert await churned(world, 10) == 10


@pytest.mark.parametrize("replayed", [False, True])
async def test_a_session_goes_on_after_restarts(
    world: World, monkeypatch: pytest.MonkeyPatch, replayed: bool
) -> None:
    """A process that is started anew gives the command again under the number that it had."""
    assert await restarted(world, monkeypatch, replayed=replayed) == (1, 1)


async def restarted(
    world: World, monkeypatch: pytest.MonkeyPatch, *, replayed: bool
) -> tuple[int, int]:
    """The answer to a command that is given again after a restart, and what the counter shows."""
    node, store = await world.node(), FakeStore()
    group = join(node, store, fast(bootstrap_expect=1))
    await group.when().online()
    session = await group.session()
    id_, number = session.id, session.next
    Deaf(monkeypatch, times=10**9)
    with pytest.raises(OutcomeUnknown, match="give it again under its number"):
        await session.execute(ADD(1), timeout=0.3)
    monkeypatch.undo()
    if replayed:
        await group.close()
        group = join(node, store, fast(bootstrap_expect=1))
        await group.when().online()
    again = await group.session(id_)
    applied = await again.execute(ADD(1), number=number)
    assert again.next == number + 1
    value = await group.query(Counter.Value())
    await group.close()
    return applied.result, int(value)


async def test_what_was_given_up_can_still_be_asked_for_after_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answer is kept for as long as the client has not got it."""
    node = await world.node()
    async with join(node, config=fast(bootstrap_expect=1)) as group:
        await group.when().online()
        session = await group.session()
        number = session.next
        Deaf(monkeypatch, times=10**9)
        with pytest.raises(OutcomeUnknown):
            await session.execute(ADD(1), timeout=0.3)
        monkeypatch.undo()
        for _ in range(3):
            await session.execute(ADD(10))
        assert (await session.execute(ADD(1), number=number)).result == 1
        assert (await session.execute(ADD(10))).result == 41
        with pytest.raises(OutcomeUnknown, match=f"has gone past command {number}"):
            await session.execute(ADD(1), number=number)
        assert await group.query(Counter.Value()) == 41


# -- planted bugs -----------------------------------------------------------------------------------


def plant_no_table(patch: pytest.MonkeyPatch) -> None:
    """The replicas remember sessions, and never look."""
    find = Sessions.find

    def nothing(table: Sessions, header: SessionHeader, time_ms: int) -> Answer | Expired | None:
        find(table, header, time_ms)
        return None

    patch.setattr(Sessions, "find", nothing)


async def test_the_planted_bug_that_does_not_look_is_found(world: World) -> None:
    with pytest.MonkeyPatch.context() as bug, pytest.MonkeyPatch.context() as patch:
        plant_no_table(bug)
        _, groups = await formed(world)
        session = await groups[0].session()
        Deaf(patch, times=2)
        applied = await session.execute(ADD(1))
        assert applied.result == 3
        await close_all(groups)


async def test_the_planted_bug_that_forgets_answers_at_a_restart_is_found(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was applied before the restart is not entered when the log is replayed."""

    def keep(table: Sessions, header: SessionHeader, answer: Answer) -> None:
        del table, header, answer

    with pytest.MonkeyPatch.context() as bug:
        bug.setattr(Sessions, "keep", keep)
        assert await restarted(world, monkeypatch, replayed=True) != (1, 1)


# -- the table --------------------------------------------------------------------------------------


def header(session: int, number: int, floor: int = 0) -> SessionHeader:
    return SessionHeader(SessionOp.COMMAND, session, number, floor)


@pytest.fixture
def table() -> Sessions:
    made = Sessions()
    made.open(1, 1000)
    return made


def test_an_answer_is_kept_until_the_client_has_it(table: Sessions) -> None:
    assert table.find(header(1, 1), 1000) is None
    table.keep(header(1, 1), Answer(5, "five"))
    assert table.find(header(1, 1), 1000) == Answer(5, "five")
    assert table.find(header(1, 2, floor=2), 1000) is None
    straggler = table.find(header(1, 1), 1000)
    assert isinstance(straggler, Answer), "below the floor: never applied"
    assert straggler.result is None


def test_a_session_that_is_opened_once_more_goes_on(table: Sessions) -> None:
    """The outcome of opening it was unknown, and it was opened."""
    table.keep(header(1, 1), Answer(5, "five"))
    table.open(1, 1000)
    assert table.find(header(1, 1), 1000) == Answer(5, "five")
    assert len(table) == 1


def test_a_floor_never_falls(table: Sessions) -> None:
    """Entries of one session may be overtaken by others of it."""
    assert table.find(header(1, 7, floor=5), 1000) is None
    assert table.find(header(1, 4, floor=1), 1000) is not None


def test_a_session_expires_by_the_log_s_time(table: Sessions) -> None:
    assert table.find(header(1, 1), 1000 + SESSION_MS) is None, "used just in time"
    assert table.find(header(1, 2), 1000 + 2 * SESSION_MS) is None
    assert table.find(header(1, 3), 1001 + 3 * SESSION_MS) is EXPIRED
    assert len(table) == 0


def test_nobody_s_clock_counts(table: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden() -> float:
        raise AssertionError("the table is a function of the log")

    for clock in ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter"):
        monkeypatch.setattr(f"time.{clock}", forbidden)
    table.open(2, 2000)
    assert table.find(header(2, 1), 3000) is None
    table.keep(header(2, 1), Answer(3, None))


def test_the_one_that_was_not_used_for_longest_makes_room(table: Sessions) -> None:
    for index in range(2, MAX_SESSIONS + 1):
        table.open(index, 1000)
    assert table.find(header(1, 1), 1001) is None, "used: it is the youngest now"
    table.open(MAX_SESSIONS + 1, 1002)
    assert len(table) == MAX_SESSIONS
    assert table.find(header(2, 1), 1003) is EXPIRED
    assert table.find(header(1, 2), 1003) is None


def test_a_client_that_never_says_what_it_has_got_is_forgotten(table: Sessions) -> None:
    for number in range(1, MAX_ANSWERS + 1):
        assert table.find(header(1, number), 1000) is None
        table.keep(header(1, number), Answer(number, None))
    assert table.find(header(1, 5), 1000) == Answer(5, None)
    assert table.find(header(1, MAX_ANSWERS + 1), 1000) is EXPIRED
    assert table.find(header(1, 5), 1000) is EXPIRED


def test_an_expired_session_s_command_is_not_applied(table: Sessions) -> None:
    table.close(1)
    assert table.find(header(1, 1), 1000) is EXPIRED
    table.close(1)
    assert table.find(header(99, 1), 1000) is EXPIRED


# -- in the log -------------------------------------------------------------------------------------


def test_a_payload_says_whose_it_is_and_others_stay_as_they_were() -> None:
    said = header(7, 3, floor=2)
    assert unwrap(wrap(said, b"\x01")) == (said, b"\x01")
    assert unwrap(b"\x01") == (None, b"\x01")
    assert unwrap(b"") == (None, b"")
    assert (
        wrap(said, b"\x01").hex() == "c10101" + "00000000000000070000000000000003000000000000000201"
    )
    for broken in (
        b"\xc1",
        wrap(said)[:-1],
        b"\xc1\x02" + wrap(said)[2:],
        b"\xc1\x01\x09" + wrap(said)[3:],
    ):
        with pytest.raises(CodecError):
            unwrap(broken)


def test_an_entry_shows_its_session_and_the_command_within() -> None:
    entry = seal(EntryKind.COMMAND, 9, 1, 0, wrap(header(7, 3), b"\x05"), 0)
    entry._decode = lambda payload: payload[0]
    assert entry.session == header(7, 3)
    assert entry.command == 5
    opening = seal(EntryKind.COMMAND, 9, 1, 0, wrap(SessionHeader(SessionOp.OPEN, 7)), 0)
    opening._decode = entry._decode
    with pytest.raises(CodecError, match="entry 9 opens session 7, and carries no command"):
        _ = opening.command
    assert seal(EntryKind.COMMAND, 9, 1, 0, b"\x05", 0).session is None


async def test_a_session_s_entry_of_a_newer_version_ends_the_group(world: World) -> None:
    node = await world.node()
    group: Group[Any, Any, Any] = join(node)
    await group.when().online()
    ended = group.when().committed().advanced()
    newer = b"\xc1\x02" + wrap(header(1, 1))[2:]
    group.give(None, newer).add_done_callback(lambda given: given.exception())
    with pytest.raises(GroupTerminated) as error:
        await ended
    assert isinstance(error.value.__cause__, ApplyError)
    assert "a newer mosaik wrote it" in str(error.value.__cause__)
    await group.close()
