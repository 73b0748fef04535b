"""etcd's data-driven cases for simple configuration changes, put to groups of our cores.

What has no counterpart here is listed, each case with its reason, and the list is exact: whatever is not
in it is played. Of etcd's output, the lines that track progress are not compared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from itertools import pairwise
from typing import Final

import msgspec
import pytest

from mosaik.consensus import LAST_VOTER, Done, changes, genesis, leaving, step
from mosaik.consensus.core import Core
from mosaik.consensus.landmarks import Landmarks
from mosaik.consensus.messages import JoinRequest
from mosaik.primitives.membership import Configuration, Member, Replica, Role
from tests.consensus.recorded import Case, Group, State, Why, cases, chapters, needed, wished
from tests.consensus.recorded.changes import ALL_VOTERS_GONE
from tests.consensus.recorded.group import NO_HISTORY
from tests.consensus.simulation import Property

#: File and line of each case that is not played.
NOT_APPLICABLE: Final[dict[str, Why]] = {
    "joint_autoleave.txt:11": Why.JOINT,
    "joint_autoleave.txt:20": Why.JOINT,
    "joint_autoleave.txt:24": Why.JOINT,
    "joint_idempotency.txt:10": Why.JOINT,
    "joint_idempotency.txt:18": Why.JOINT,
    "joint_learners_next.txt:13": Why.JOINT,
    "joint_learners_next.txt:20": Why.JOINT,
    "joint_safety.txt:1": Why.JOINT,
    "joint_safety.txt:5": Why.JOINT,
    "joint_safety.txt:9": Why.JOINT,
    "joint_safety.txt:20": Why.JOINT,
    "joint_safety.txt:25": Why.JOINT,
    "joint_safety.txt:30": Why.JOINT,
    "joint_safety.txt:34": Why.JOINT,
    "joint_safety.txt:39": Why.JOINT,
    "joint_safety.txt:44": Why.JOINT,
    "joint_safety.txt:53": Why.JOINT,
    "joint_safety.txt:57": Why.JOINT,
    "joint_safety.txt:62": Why.JOINT,
    "joint_safety.txt:67": Why.JOINT,
    "simple_idempotency.txt:20": Why.DEMOTED,
    "simple_promote_demote.txt:26": Why.DEMOTED,
    "simple_promote_demote.txt:35": Why.DEMOTED,
    "simple_promote_demote.txt:45": Why.DEMOTED,
    "simple_safety.txt:20": Why.TOGETHER,
    "simple_safety.txt:25": Why.TOGETHER,
    "simple_safety.txt:30": Why.TOGETHER,
    "simple_safety.txt:35": Why.DEMOTED,
    "simple_safety.txt:40": Why.DEMOTED,
    "simple_safety.txt:45": Why.DEMOTED,
    "update.txt:11": Why.UPDATED,
    "update.txt:18": Why.UPDATED,
    "zero.txt:2": Why.NOBODY,
}

#: What we say, or fail to do, where etcd refuses.
OURS: Final = {ALL_VOTERS_GONE: {LAST_VOTER, NO_HISTORY}}

#: For planted bugs: the comparison is what has to notice them.
EVERY_RULE: Final = frozenset(Property)

CASES: Final = cases()
CHAPTERS: Final = chapters(CASES, NOT_APPLICABLE)


def begin(story: Sequence[Case], ignored: frozenset[Property] = frozenset()) -> Group:
    """A group as the first case finds it."""
    before = story[0].before
    votes = {int(wish[1:]) for case in story for wish in case.wishes if wish.startswith("v")}
    group = Group(ignored)
    group.found(before, before.learners & votes)
    return group


def differences(story: Sequence[Case], ignored: frozenset[Property] = frozenset()) -> Iterator[str]:
    """Where a group of ours comes to something else than etcd, up to the first such case."""
    group = begin(story, ignored)
    if group.state != story[0].before:
        yield f"{story[0].where}: begins with {group.state}, not {story[0].before}"
        return
    for case in story:
        found = list(compared(case, group, group.wish(*case.wishes)))
        yield from (f"{case.where}: {each}" for each in found)
        if found:
            return


def compared(case: Case, group: Group, reasons: Sequence[str]) -> Iterator[str]:
    if group.state != case.after:
        yield f"{group.state}, not {case.after}"
    if not group.settled:
        yield "not everybody knows of it"
    if bool(reasons) != bool(case.refusal) or not OURS.get(case.refusal, set()).issuperset(reasons):
        yield f"refused: {', '.join(reasons) or 'no'}, not {case.refusal or 'no'}"
    yield from leaps(group.configurations)


def leaps(configurations: Sequence[Configuration]) -> Iterator[str]:
    """What would have needed a joint configuration, or could not decide anything."""
    for before, after in pairwise(configurations):
        if len(set(before.members) ^ set(after.members)) not in (1, 2):
            yield f"{after} follows {before}"
    yield from (f"nobody counts in {each}" for each in configurations if not each.voters)


def together(case: Case, ignored: frozenset[Property] = frozenset()) -> Iterator[str]:
    """Where wishes that etcd will not grant at once are not granted one after the other.

    The last voter's stays the only one that is refused.
    """
    group = begin([case], ignored)
    reasons = group.wish(*case.wishes)
    whole = reduce(wished, case.wishes, case.before)
    if whole.voters:
        if group.state != whole:
            yield f"{group.state}, not {whole}"
        yield from reasons
    elif reasons != [LAST_VOTER] or len(group.state.voters) != 1:
        yield f"{group.state}; refused: {reasons}"
    yield from leaps(group.configurations)


# -- the cases --------------------------------------------------------------------------------------


def test_the_cases_are_here_where_they_have_to_be() -> None:
    needed("confchange")
    played = Counter(case.file for story in CHAPTERS for case in story)
    assert played == {
        "joint_autoleave.txt": 1,
        "joint_idempotency.txt": 1,
        "joint_learners_next.txt": 1,
        "joint_safety.txt": 2,
        "simple_idempotency.txt": 10,
        "simple_promote_demote.txt": 4,
        "simple_safety.txt": 5,
        "update.txt": 1,
    }
    assert played.total() + len(NOT_APPLICABLE) == len(CASES) == 58


def test_what_is_left_out_is_left_out_for_its_reason() -> None:
    needed("confchange")
    reasons = {case.where: why for case in CASES if (why := Why.of(case)) is not None}
    assert reasons == NOT_APPLICABLE


@pytest.mark.parametrize("story", CHAPTERS, ids=lambda story: story[0].where)
def test_the_same_replicas_count(story: Sequence[Case]) -> None:
    assert not list(differences(story))


@pytest.mark.parametrize(
    "case",
    [case for case in CASES if Why.of(case) is Why.TOGETHER],
    ids=lambda case: case.where,
)
def test_what_is_not_done_together_is_done_one_by_one(case: Case) -> None:
    assert not list(together(case))


# -- whether a difference would be seen -------------------------------------------------------------


def keeps_whom_it_removed(patch: pytest.MonkeyPatch) -> None:
    def remove(core: Core, replica: Replica) -> None:
        for waiter in core.removing.pop(replica, []):
            changes._confirm_removal(core, replica, waiter)

    patch.setattr(changes, "_remove", remove)


def promotes_nobody(patch: pytest.MonkeyPatch) -> None:
    def never(core: Core) -> bool:
        del core
        return False

    patch.setattr(changes, "_promote_ready", never)


def promotes_observers(patch: pytest.MonkeyPatch) -> None:
    def ready(core: Core, member: Member) -> bool:
        return before(core, msgspec.structs.replace(member, observer=False))

    before = changes._ready
    patch.setattr(changes, "_ready", ready)


def promotes_whoever_asks_again(patch: pytest.MonkeyPatch) -> None:
    def on_join_request(core: Core, sender: Replica, request: JoinRequest) -> None:
        member = core.configuration.find(sender)
        if member is not None and member.role is Role.LEARNER:
            changes.promote(core, member)
        before(core, sender, request)

    before = changes.on_join_request
    patch.setitem(step._HANDLERS, JoinRequest, on_join_request)


def knows_nobody_after_a_restart(patch: pytest.MonkeyPatch) -> None:
    def recover(*_: object) -> Landmarks:
        return Landmarks()

    patch.setattr(Landmarks, "recover", recover)


def refuses_to_remove_a_stranger(patch: pytest.MonkeyPatch) -> None:
    def request_removal(core: Core, replica: Replica, waiter: int | Replica) -> None:
        if core.configuration.find(replica) is None:
            changes._refuse_removal(core, replica, waiter, "that is no member")
        else:
            before(core, replica, waiter)

    before = changes.request_removal
    patch.setattr(changes, "request_removal", request_removal)


def lets_the_last_voter_go(patch: pytest.MonkeyPatch) -> None:
    def leave_as_leader(core: Core) -> None:
        token, core.leave_token = core.leave_token, None
        if token is not None:
            changes.propose(core, core.configuration.without(core.me))
            core.answer(Done(token))

    patch.setattr(leaving, "_leave_as_leader", leave_as_leader)


def stays_silent_to_the_last_voter(patch: pytest.MonkeyPatch) -> None:
    def nothing(core: Core) -> None:
        del core

    patch.setattr(leaving, "_leave_as_leader", nothing)


def founds_with_an_observer(patch: pytest.MonkeyPatch) -> None:
    def consider(core: Core) -> None:
        if core.now >= core.quiet_until:
            genesis._propose(core, [core.member(Role.VOTER)])

    patch.setattr(genesis, "_consider", consider)


PLANTS: Final[list[tuple[Callable[[pytest.MonkeyPatch], None], str]]] = [
    (keeps_whom_it_removed, "simple_idempotency.txt:34"),
    (keeps_whom_it_removed, "simple_safety.txt:60"),
    (promotes_nobody, "simple_idempotency.txt:13"),
    (promotes_nobody, "simple_promote_demote.txt:54"),
    (promotes_observers, "simple_safety.txt:12"),
    (promotes_observers, "joint_safety.txt:74"),
    (promotes_whoever_asks_again, "simple_idempotency.txt:27"),
    (knows_nobody_after_a_restart, "simple_idempotency.txt:7"),
    (refuses_to_remove_a_stranger, "simple_idempotency.txt:40"),
    (lets_the_last_voter_go, "simple_safety.txt:55"),
    (stays_silent_to_the_last_voter, "simple_safety.txt:55"),
    (founds_with_an_observer, "simple_safety.txt:1"),
]


@pytest.mark.parametrize(
    ("plant", "where"), PLANTS, ids=[f"{plant.__name__}-{where}" for plant, where in PLANTS]
)
def test_a_core_that_does_otherwise_is_noticed(
    plant: Callable[[pytest.MonkeyPatch], None], where: str
) -> None:
    needed("confchange")
    (story,) = [each for each in CHAPTERS if where in [case.where for case in each]]
    with pytest.MonkeyPatch.context() as patch:
        plant(patch)
        # The simulator's own rules would object first to some of these.
        found = list(differences(story, EVERY_RULE))
    assert {each.partition(": ")[0] for each in found} == {where}


def test_two_promotions_in_one_change_are_noticed() -> None:
    needed("confchange")
    (case,) = [each for each in CASES if each.wishes == ("v3", "v4")]

    def promote_all(core: Core) -> bool:
        learners = [member for member in core.configuration.members if member.role is Role.LEARNER]
        if len(learners) < 2:
            return False
        configuration = core.configuration
        for member in learners:
            voter = msgspec.structs.replace(member, role=Role.VOTER)
            configuration = configuration.with_member(voter)
        changes.propose(core, configuration)
        return True

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(changes, "_promote_ready", promote_all)
        found = list(together(case, EVERY_RULE))
    assert len(found) == 1
    assert "follows" in found[0]


def altered(case: Case) -> Iterator[Case]:
    """The case with each part of what is compared made wrong."""
    voters, learners = case.after
    yield case._replace(after=State(voters | {77}, learners))
    yield case._replace(after=State(voters, learners | {77}))
    fewer = voters - {max(voters, default=0)}
    yield case._replace(after=State(fewer or frozenset({77}), learners))
    yield case._replace(refusal="" if case.refusal else ALL_VOTERS_GONE)


@pytest.mark.parametrize("story", CHAPTERS, ids=lambda story: story[0].where)
def test_another_expectation_is_not_met(story: Sequence[Case]) -> None:
    *before, last = story
    for wrong in altered(last):
        found = list(differences([*before, wrong]))
        assert {each.partition(": ")[0] for each in found} == {last.where}
